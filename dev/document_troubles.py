# SPDX-License-Identifier: Apache-2.0
"""
Write the last log lines of failing tasks, as they are, into docs/troubleshooting.md.

    python -m dev.document_troubles            # print
    python -m dev.document_troubles --write    # put them into the page
    python -m dev.document_troubles --check    # fail if the page is not current
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
BEGIN = "<!-- made by `python -m dev.document_troubles --write` -->\n"
LAUNCH = {"cpu": 8, "ram": "highcpu", "script": "fds6.9.1", "folder": "room"}
OUTPUT = "@@@ Starting FDS ...\n Time Step:    17, Simulation Time:       0.42 s\n"


class Lines(logging.Handler):
    """Keeps what a task would write to its log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("airflow_provider_cloudhpc"):
            self.lines.append(f"{record.levelname:7} {record.getMessage()}")


def troubles() -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
    """Give each trouble: its title, what to know of it, and what brings it about on an emulator."""
    from airflow_provider_cloudhpc.operators import checking
    from airflow_provider_cloudhpc.operators.simulation import (
        CloudHPCAddSimulationOperator,
        CloudHPCRunSimulationOperator,
        CloudHPCStopSimulationOperator,
    )
    from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator, CloudHPCUploadFolderOperator
    from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
    from tests.integration.operators.airflow_task import AirflowTask

    def run(operator: Any, **arguments: Any) -> Any:
        return AirflowTask(lambda: operator(task_id="task", **arguments)).run()

    def ended(cloud: Any, ending: str, output: str) -> int:
        (number,) = cloud.control.simulation(**LAUNCH, pending=120, running=5400, ending=ending, output=OUTPUT + output)
        cloud.control.jump(6000)
        return int(number)

    def wait(ending: str, output: str) -> Callable[[Any], Any]:
        return lambda cloud: run(CloudHPCSimulationSensor, simulation_id=ended(cloud, ending, output))

    yield (
        "The solver failed, and the service says COMPLETED",
        "The task fails for good: waiting again changes nothing.",
        wait("completed", "ERROR(201): No MESH line(s) defined.\nSTOP: FDS was improperly set-up (CHID: room)"),
    )
    yield (
        "Out of memory",
        "The next tier is named; `ram_ladder=` of the Run operator takes it by itself.",
        wait("completed", "mpirun noticed that process rank 3 was KILLED BY SIGNAL: 9"),
    )

    def ladder(cloud: Any) -> None:
        cloud.control.file("room/room.fds", b"&MESH/")
        cloud.control.plan(pending=0, running=0, output=f"{OUTPUT}forrtl: severe (41): insufficient virtual memory\n")
        run(CloudHPCRunSimulationOperator, **LAUNCH, ram_ladder=["highcpu", "standard"], poll_interval=0.1)

    yield (
        "Out of memory, and a retry takes the next tier",
        "With `ram_ladder=` and a retry left Airflow runs the task again, which launches once more.",
        ladder,
    )
    yield (
        "The service says ERROR",
        "The task fails for good.",
        wait("error", "HARD DISK used > 90 percent: AUTOMATIC SOFT STOP"),
    )
    yield (
        "It was stopped",
        "By a person, a teardown or a policy; `accept_stopped=True` takes it as a success.",
        wait("stopped", "@@@ STOPPED"),
    )

    def deadline(cloud: Any) -> None:
        (number,) = cloud.control.simulation(**LAUNCH, pending=0, running=None)
        run(CloudHPCSimulationSensor, simulation_id=number, poke_interval=0.1, timeout=0.3, on_timeout="soft")

    yield ("The deadline passed", "The simulation is not known to have failed.", deadline)

    def lost(cloud: Any) -> None:
        (number,) = cloud.control.simulation(**LAUNCH, pending=0, running=None)
        cloud.control.fault("server_error", times=None)
        run(CloudHPCSimulationSensor, simulation_id=number, poke_interval=0.1, patience=0.1)

    yield ("Sight was lost", "A retry looks again. `soft_fail` never skips this: the simulation may be billing.", lost)

    def unread(cloud: Any) -> None:
        number = ended(cloud, "completed", "")
        cloud.control.fault("html", "GET /simulation/view/{id}", times=None)
        run(CloudHPCSimulationSensor, simulation_id=number)

    yield (
        "The run has ended, but its output could not be read",
        "A retry reads it again: COMPLETED alone is no success. `check_output='warn'` takes it for one.",
        unread,
    )

    def bad_key(cloud: Any) -> None:
        cloud.control.revoke_key()
        run(CloudHPCAddSimulationOperator, **LAUNCH)

    yield ("The key is wrong", "Nothing was done. A retry says the same until the connection is right.", bad_key)

    def quota(cloud: Any) -> None:
        cloud.control.set_quota(1, 0)
        run(CloudHPCStopSimulationOperator, folder="room")
        run(CloudHPCStopSimulationOperator, folder="room")

    yield (
        "The account's calls are used up",
        "Waits go on by themselves when calls are free again; other tasks need a retry with a `retry_delay`.",
        quota,
    )
    yield (
        "A launch asks for what is not offered",
        "Nothing was billed.",
        lambda cloud: run(CloudHPCAddSimulationOperator, **{**LAUNCH, "script": "fds6.9.2"}),
    )

    def ambiguous(cloud: Any) -> None:
        cloud.control.file("room/room.fds", b"&MESH/")
        cloud.control.fault("reset_before", "POST simulation/add", times=None, at_bytes=10)
        run(CloudHPCAddSimulationOperator, **LAUNCH, settle=0.1)

    yield ("A launch's answer was lost", "The listing did not show it for `settle` seconds.", ambiguous)

    def conflict(cloud: Any) -> None:
        cloud.control.simulation(**LAUNCH, pending=0, running=None)
        run(CloudHPCAddSimulationOperator, **LAUNCH)

    yield ("The folder is in use", "", conflict)

    def no_results(cloud: Any) -> None:
        cloud.control.file("room/room.fds", b"&MESH/")
        run(CloudHPCDownloadResultOperator, folder="room", directory="results")

    yield ("There are no results", "`wait_for_results=` waits for them.", no_results)

    def bad_log(cloud: Any) -> None:
        log = b"Starting time loop\nTime = 12\n\n--> FOAM FATAL ERROR: \nMaximum number of iterations exceeded\n"
        cloud.control.file("room/log.simpleFoam", log)
        run(CloudHPCDownloadResultOperator, paths="room/log.simpleFoam", directory="results")

    yield (
        "A solver's log among the results holds an error",
        "The files stay where they are. The task fails for good.",
        bad_log,
    )

    def no_case(cloud: Any) -> None:
        Path("case").mkdir(exist_ok=True)
        Path("case/room.psm").write_text("")
        run(CloudHPCUploadFolderOperator, source="case", script="fds6.9.1")

    yield ("The case is known to fail", "Found before anything was sent.", no_case)

    def no_stored_case(cloud: Any) -> None:
        checking.LOOK_AGAIN = 0.1
        cloud.control.file("room/room.txt", b"")
        run(CloudHPCAddSimulationOperator, **LAUNCH)

    yield ("The folder in the storage is known to fail", "Found before anything was billed.", no_stored_case)
    yield (
        "An argument is wrong",
        "",
        lambda cloud: run(CloudHPCRunSimulationOperator, **{**LAUNCH, "cpu": "eight"}),
    )

    def damaged(cloud: Any) -> None:
        cloud.control.file("room/FDS.tar.gz", b"\x1f\x8b this is no archive")
        run(CloudHPCDownloadResultOperator, folder="room", directory="results", extract=True, check_output=False)

    yield ("A damaged archive", "Nothing of it was unpacked.", damaged)


def show(title: str, about: str, act: Callable[[Any], Any]) -> str:
    """Bring a trouble about on an emulator of its own; give it as a section of the page."""
    from airflow_provider_cloudhpc.emulator import CloudHPCEmulator

    lines = Lines()
    logging.getLogger().addHandler(lines)
    folder = Path.cwd()
    try:
        with CloudHPCEmulator(port=0) as cloud, tempfile.TemporaryDirectory() as aside:
            os.chdir(aside)
            document = {"conn_type": "cloudhpc", "host": cloud.url, "password": cloud.api_key}
            os.environ["AIRFLOW_CONN_CLOUDHPC_DEFAULT"] = json.dumps(document)
            try:
                act(cloud)
            except Exception as error:
                end = f"{type(error).__name__}: {error}"
            else:
                raise AssertionError(f"{title}: nothing went wrong")
            finally:
                os.chdir(folder)
            text = "\n".join([*lines.lines[-32:], end])
            text = text.replace(cloud.url, "https://cloud.cfdfeaservice.it")
            text = text.replace(str(Path(aside).resolve()), "/opt/airflow")
    finally:
        logging.getLogger().removeHandler(lines)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?( UTC)?", "2026-01-31 07:00", text)
    text = re.sub(r"\b127\.0\.0\.1\b", "cloud.cfdfeaservice.it", text)
    text = re.sub(r"again in [\d.]+ s", "again in 1.0 s", text)
    text = re.sub(r"in [\d.]+ s \([\d.]+ \w*B/s\)", "in 1.0 s (21 B/s)", text)
    known = f"{about}\n\n" if about else ""
    return f"## {title}\n\n{known}```text\n{text}\n```\n"


def main() -> int:
    """Print, write or check. The exit code says whether the page is current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.INFO)
    with contextlib.redirect_stdout(sys.stderr):
        made = "\n".join(show(*trouble) for trouble in troubles())
    head, _, before = PAGE.read_text().partition(BEGIN)
    if options.check:
        return 0 if before.strip() == made.strip() else 1
    if options.write:
        PAGE.write_text(f"{head}{BEGIN}\n{made}")
        return 0
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
