# SPDX-License-Identifier: Apache-2.0
"""``cloudhpc-emulator``: the emulated service from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Sequence

_EXIT_USAGE = 2
_EXIT_PORT = 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cloudhpc-emulator",
        description="A cloudHPC on this machine, for tests and for trying a DAG without an account. "
        "It runs the scripts it is given: keep it on the loopback address.",
    )
    parser.add_argument("--port", type=_port, default=8000, help="port of API and pages; 0: a free one (default 8000)")
    parser.add_argument("--store-port", type=_port, default=0, help="port of the object store; 0: a free one (default)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="serve requests for this host name too"
    )
    parser.add_argument("--api-key", help="the user's API key (default: a random one)")
    parser.add_argument(
        "--data-dir", type=_directory, help="directory for the stored bytes, while it runs (default: /tmp)"
    )
    parser.add_argument("--clock-speed", type=float, default=1.0, help="emulated seconds per second (default 1)")
    parser.add_argument(
        "--hourly-limit", type=_limit, default=500, help="API calls an hour; 0: unlimited (default 500)"
    )
    parser.add_argument("--daily-limit", type=_limit, default=0, help="API calls a day; 0: unlimited (default)")
    return parser


def _port(value: str) -> int:
    if not value.isdecimal() or int(value) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535; not {value!r}")
    return int(value)


def _limit(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"a limit is a whole number from 0 on; not {value!r}")
    return int(value)


def _directory(value: str) -> str:
    if not os.path.isdir(value):  # noqa: PTH112 (the value stays as it is)
        raise argparse.ArgumentTypeError(f"there is no directory {value!r}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until SIGINT, SIGTERM or SIGHUP.

    :param arguments: of the command line, default ``sys.argv``
    :return: exit code: 0, 2 where the arguments or the extra are wrong, 3 where a port is taken
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
    except ImportError as error:
        print(
            f"cloudhpc-emulator: {error.name} is missing: pip install 'airflow-provider-cloudhpc[emulator]'",
            file=sys.stderr,
        )
        return _EXIT_USAGE
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        emulator = CloudHPCEmulator(
            options.port, store_port=options.store_port, host=options.host, allowed_hosts=options.allow_host,
            api_key=options.api_key, data_dir=options.data_dir, clock_speed=options.clock_speed,
            hourly_limit=options.hourly_limit, daily_limit=options.daily_limit,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    done = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it outlives its terminal
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, lambda *_: done.set())
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            emulator.start()
    except OSError as error:
        print(f"cloudhpc-emulator: {error.strerror or error}", file=sys.stderr)
        return _EXIT_PORT
    try:
        for warning in caught:
            print(f"WARNING: {warning.message}", file=sys.stderr)
        print(f"cloudHPC emulator at   {emulator.url}")
        print(f"API key                {emulator.api_key}")
        print(f"API page               {emulator.url}/en/catuser/view-api")
        print(f"control token          {emulator.control_token}")
        print(f"export AIRFLOW_CONN_CLOUDHPC_DEFAULT={shlex.quote(emulator.airflow_connection)}", flush=True)
        # In short waits, or a signal that arrives in between is only noticed at the next one.
        while not done.wait(0.5):
            pass
    finally:
        emulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
