# SPDX-License-Identifier: Apache-2.0
"""A real Airflow: scheduler, triggerer and what else the version needs, each a process group of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.airflow_home import AirflowError, AirflowHome, Run

#: Seconds until a component has to be up, or gone after a signal, and a run over: also on a machine with much to do.
START_TIMEOUT = 300.0
WAIT_TIMEOUT = 600.0
#: Seconds that a component has to end after SIGTERM before it gets SIGKILL.
STOP_TIMEOUT = 10.0
POLL_SECONDS = 0.3


def free_port() -> int:
    """Give a port that is free on the loopback interface at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Component:
    """
    One Airflow component as a process with a session of its own.

    :param name: what ``airflow`` calls it
    :param arguments: what follows the name
    """

    def __init__(self, home: AirflowHome, name: str, *arguments: str) -> None:
        self.name = name
        self._home = home
        self._command = [home.python, "-m", "airflow", name, *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self.stdout = home.home / "stdout" / f"{name}.log"

    def start(self) -> None:
        """Start it, again too; its standard output and error are appended to ``stdout``."""
        self.stdout.parent.mkdir(exist_ok=True)
        with self.stdout.open("ab") as out:
            self._process = subprocess.Popen(
                self._command,
                env=self._home.env,
                cwd=self._home.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether its main process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its main process, which is the leader of its session."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def processes(self) -> dict[int, str]:
        """Give the processes of its session, workers included: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                    if int(session) == self.pid and state != "Z":
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        found[int(entry.name)] = line.strip()
        return found

    def kill(self, how: signal.Signals = signal.SIGKILL, *, whole_session: bool = True) -> None:
        """
        Send a signal and wait until the main process is gone.

        :param whole_session: to its children too, as a machine that goes down does
        """
        for pid in self.processes() if whole_session else (self.pid,):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        assert self._process is not None
        self._process.wait(START_TIMEOUT)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the main process, if it runs."""
        if self._process is not None and self.is_running:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it and everything it started: SIGTERM to the main process, SIGKILL to what is left."""
        if self._process is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(START_TIMEOUT)

    def tail(self) -> str:
        """Give the last lines it printed."""
        return self.stdout.read_text(encoding="utf-8", errors="replace")[-2000:] if self.stdout.exists() else ""


class RealAirflow(AirflowHome):
    """
    An Airflow home with its components running, from ``start`` to ``stop`` or as a context manager.

    :param web: run Airflow 2's web server as well (Airflow 3's API server is always needed)
    """

    def __init__(self, home: Path, dags: Path, *, web: bool = False, env: Mapping[str, str] | None = None, **more: Any):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        addresses = {
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__WEBSERVER__BASE_URL": self.url,
            "AIRFLOW__WEBSERVER__WORKERS": "1",
        }
        super().__init__(home, dags, env={**addresses, **(env or {})}, **more)
        here = ("--host", "127.0.0.1", "--port", str(self.port))
        # Log servers listen on every interface whatever the host: they stay off.
        components = [
            Component(self, "scheduler", "--skip-serve-logs"),
            Component(self, "triggerer", "--skip-serve-logs"),
        ]
        if self.version >= (3, 0):
            components = [Component(self, "api-server", *here), Component(self, "dag-processor"), *components]
        elif web:
            components.append(Component(self, "webserver", "--hostname", "127.0.0.1", "--port", str(self.port)))
        self.components = {component.name: component for component in components}

    def __enter__(self) -> RealAirflow:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Migrate the database, unless it is there, and start every component."""
        if not self.database.exists():
            self.migrate()
        try:
            for component in self.components.values():
                component.start()
                if component.name == "api-server":
                    self._wait_for_api()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every component and all they started."""
        for component in self.components.values():
            component.ask_to_stop()
        for component in self.components.values():
            component.stop()

    def check(self) -> None:
        """
        Look whether all components run.

        :raises AirflowError: one has ended, with its last lines
        """
        for component in self.components.values():
            if not component.is_running:
                raise AirflowError(f"{component.name} has ended:\n{component.tail()}")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> Run:
        """Wait until the DAG is known, and start a run of it."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self.rows("SELECT 1 FROM serialized_dag WHERE dag_id=?", dag_id):
            self.check()
            errors = self.rows("SELECT filename, stacktrace FROM import_error")
            if errors or time.monotonic() > deadline:
                raise AirflowError(f"DAG {dag_id} did not come up: {errors}")
            time.sleep(POLL_SECONDS)
        run = Run(dag_id, f"e2e_{uuid.uuid4().hex[:8]}")
        self.airflow("dags", "trigger", "--run-id", run.run_id, "--conf", json.dumps(conf or {}), dag_id)
        return run

    def wait(self, run: Run, timeout: float = WAIT_TIMEOUT) -> str:
        """
        Wait until a run is over, looking at the triggers meanwhile.

        :param timeout: seconds
        :return: the run's state
        """
        return self.wait_until(lambda: self.run_state(run), {"success", "failed"}, run, timeout)

    def wait_for_task(self, run: Run, task_id: str, *states: str, timeout: float = WAIT_TIMEOUT) -> str:
        """Wait until a task is in one of the states, looking at the triggers meanwhile."""
        return self.wait_until(lambda: self.task_states(run).get(task_id, ""), set(states), run, timeout)

    def wait_until(self, look: Any, states: set[str], run: Run, timeout: float) -> str:
        """Look again and again until one of the states is seen, or fail with what is known."""
        deadline = time.monotonic() + timeout
        while (state := look()) not in states:
            if time.monotonic() > deadline:
                raise AirflowError(
                    f"{run} still {state!r} after {timeout:.0f} s, tasks {self.task_states(run)}\n"
                    + "\n".join(f"--- {c.name}\n{c.tail()}" for c in self.components.values())
                )
            self.look_at_triggers()
            time.sleep(POLL_SECONDS)
        return str(state)

    def _wait_for_api(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            self.check_only("api-server")
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.url}/api/v2/version", timeout=5).close()
                return
            if time.monotonic() > deadline:
                raise AirflowError(f"The API server did not come up:\n{self.components['api-server'].tail()}")
            time.sleep(POLL_SECONDS)

    def check_only(self, name: str) -> None:
        """Look whether one component runs."""
        component = self.components[name]
        if not component.is_running:
            raise AirflowError(f"{name} has ended:\n{component.tail()}")
