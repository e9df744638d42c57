# SPDX-License-Identifier: Apache-2.0
"""``CloudHPCEmulator``: the emulated service as a context manager, served by uvicorn in a thread."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import shutil
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import uvicorn

from airflow_provider_cloudhpc.emulator.accounts import Accounts
from airflow_provider_cloudhpc.emulator.app import build
from airflow_provider_cloudhpc.emulator.clock import VirtualClock
from airflow_provider_cloudhpc.emulator.control import Control
from airflow_provider_cloudhpc.emulator.endpoints import API_PREFIX
from airflow_provider_cloudhpc.emulator.ledger import Ledger
from airflow_provider_cloudhpc.emulator.quota import check_count
from airflow_provider_cloudhpc.emulator.settings import Settings
from airflow_provider_cloudhpc.emulator.solvers import Limits
from airflow_provider_cloudhpc.emulator.transport import KnownTransportProtocol
from airflow_provider_cloudhpc.emulator.world import World

_START_TIMEOUT = 30.0


class CloudHPCEmulator:
    """
    A cloudHPC on this machine, for as long as a ``with`` block lasts.

    :param port: of the API, default 0: a free one
    :param store_port: of the object store behind signed URLs, default 0: a free one
    :param host: address to listen on, default loopback
    :param allowed_hosts: host names that requests may be for, besides loopback and ``host``
    :param api_key: key of the default user, default random
    :param clock_speed: virtual seconds per real second, default 1
    :param hourly_limit: API calls an hour of the default user, default 500; 0: unlimited
    :param daily_limit: API calls a day, default 0: unlimited
    :param data_dir: directory in which the stored files live as long as it runs, default the system's for temporary
        files; it needs the room
    :param limits: what a solver that really runs may use
    :param settings: further knobs by name, see :class:`~airflow_provider_cloudhpc.emulator.settings.Settings`
    :raises OSError: on start, where a port is taken or ``data_dir`` is no directory
    :raises ValueError: for a knob or a value that there is not
    """

    def __init__(
        self,
        port: int = 0,
        *,
        store_port: int = 0,
        host: str = "127.0.0.1",
        allowed_hosts: Iterable[str] = (),
        api_key: str | None = None,
        clock_speed: float = 1.0,
        hourly_limit: int = 500,
        daily_limit: int = 0,
        data_dir: Path | str | None = None,
        limits: Limits | None = None,
        **settings: Any,
    ) -> None:
        self._ports = port, store_port
        self._host = host
        self._allowed_hosts = (host, *allowed_hosts)
        self._api_key, self._clock_speed = api_key, clock_speed
        self._call_limits = check_count(hourly_limit, "a limit"), check_count(daily_limit, "a limit")
        self._data_dir = data_dir
        self._limits = limits or Limits()
        self._settings = Settings(**settings)
        VirtualClock(clock_speed)  # they say what cannot be
        Accounts().add("default", api_key)
        self._server: uvicorn.Server | None = None

    def start(self) -> Self:
        """
        Listen on both ports and serve in a thread; returns once it answers.

        :raises OSError: where a port is taken or ``data_dir`` is no directory
        :raises RuntimeError: where it runs already
        """
        if self._server is not None:
            raise RuntimeError(f"the emulator runs already, at {self.url}")
        if not _is_loopback(self._host):
            message = f"the emulator listens on {self._host}: whoever reaches it and has the key runs scripts here"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        sockets: list[socket.socket] = []
        self._directory = _new_directory(self._data_dir)
        try:
            for port in self._ports:
                sockets.append(_listen(self._host, port))
        except BaseException:
            for sock in sockets:
                sock.close()
            self._directory.rmdir()
            raise
        self.port, self.store_port = (sock.getsockname()[1] for sock in sockets)
        self._world = World(
            self._directory, self._settings, self._limits, self._api_key, self._clock_speed, *self._call_limits
        )
        self._control = Control(self._world)
        config = uvicorn.Config(
            cast(Any, build(self._world, self._control, self.store_port, self._allowed_hosts)),
            http=KnownTransportProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,  # the protocol writes it, spelled as all others
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, args=(sockets,), name="cloudhpc-emulator", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the emulator's server did not start; its log says why")
            time.sleep(0.005)
        return self

    def _serve(self, sockets: list[socket.socket]) -> None:
        async def serve() -> None:
            assert self._server
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets)

        asyncio.run(serve())

    def stop(self) -> None:
        """End the server, everything that runs on it, and its temporary directory."""
        if self._server is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout=15)
        self._server = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # -- addresses

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``: what an Airflow connection takes as its host, and where the pages are."""
        name = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104 (compared, not bound)
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}"

    @property
    def api_url(self) -> str:
        """Base URL of the API, version included."""
        return self.url + API_PREFIX

    @property
    def api_key(self) -> str:
        """The default user's key, as it is now (empty while it is revoked)."""
        return self._world.accounts.get().key or ""

    @property
    def control_token(self) -> str:
        """What ``POST /_emulator/...`` wants in its ``X-Emulator-Token`` header."""
        return self._world.control_token

    @property
    def airflow_connection(self) -> str:
        """A JSON connection for ``AIRFLOW_CONN_CLOUDHPC_DEFAULT``."""
        return json.dumps({"conn_type": "cloudhpc", "host": self.url, "password": self.api_key})

    # -- what it knows, what can be done to it

    @property
    def ledger(self) -> Ledger:
        """What happened so far: a copy, made now."""
        return cast(Ledger, self._in_loop(self._world.current_ledger))

    @property
    def control(self) -> Control:
        """The control desk, a :class:`~airflow_provider_cloudhpc.emulator.control.Control` for any thread."""
        return cast(Control, _FromAnyThread(self._control, self._in_loop))

    def _in_loop(self, do: Callable[[], Any]) -> Any:
        """Do something in the server's loop, where alone the world is touched, and wait for what it set off."""
        if self._server is None or self._loop is None:
            raise RuntimeError("the emulator is not running")

        async def settled() -> Any:
            value = do()
            await self._world.settle()
            return value

        return asyncio.run_coroutine_threadsafe(settled(), self._loop).result(timeout=120)


class _FromAnyThread:
    """Calls an object's methods in the server's loop."""

    def __init__(self, target: Any, in_loop: Callable[[Callable[[], Any]], Any]) -> None:
        self._target, self._in_loop = target, in_loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)
        return lambda *args, **kwargs: self._in_loop(lambda: method(*args, **kwargs))


def _new_directory(where: Path | str | None) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="cloudhpc-emulator-", dir=where))
    except OSError as error:
        raise OSError(error.errno, f"no room for the stored files in {where}: {error.strerror}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; a taken port is an error here and now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio only switches Nagle's delay off where the protocol is named: 40 ms a call otherwise.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Without it a port just used by an emulator that has ended would count as taken for a minute.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(512)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    return sock
