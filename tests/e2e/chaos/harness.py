# SPDX-License-Identifier: Apache-2.0
"""
Runs the rows of the table, as DAG runs of one real Airflow, all at once; the emulator's ledger decides.

Each row has an account of its own: faults strike it alone, and what it launched is told apart.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from tests.e2e.airflow_home import Run
from tests.e2e.airflow_process import RealAirflow
from tests.e2e.chaos.table import AWAY, RUNNING, Row
from tests.e2e.people import People

HERE = Path(__file__).parent
#: Seconds between a trigger's start and what a person does then.
BEGUN = 3.0
#: Seconds that a bill may take to end after its run: soft stops take a while, and so do callbacks.
AFTERMATH = 60.0
#: Seconds without the end of any row after which the rest is judged as it is.
STUCK = 600.0
#: How many rows run at once in Airflow 3; Airflow 2 with SQLite runs one task at a time whatever is asked.
AT_ONCE = 12

ADD_CONNECTIONS = """
import json, sys
from airflow.models import Connection
from airflow.utils.session import create_session
with create_session() as session:
    for fields in json.load(sys.stdin):
        session.add(Connection(**fields))
"""


@dataclass(frozen=True)
class Result:
    """What became of a row: the ledger's numbers, the run's state, the tries of its task."""

    name: str
    what: str
    mode: str
    launches: int
    stops: int
    left: int
    state: str
    tries: int
    wrong: str = ""


@dataclass
class _Live:
    """A row while it runs."""

    row: Row
    run: Run
    since: float | None = None
    acted: bool = False
    over_at: float | None = None
    seen: dict[str, float] = field(default_factory=dict)


class Chaos:
    """
    One Airflow for all rows.

    :param home: directory for everything that is written
    :param rows: what to run; those of another version of Airflow are left out
    :param tell: takes lines about the progress
    """

    def __init__(self, home: Path, rows: Sequence[Row], tell: Callable[[str], None] = print) -> None:
        self._home = home.resolve()
        self._plans = self._home / "chaos"
        shutil.rmtree(self._home, ignore_errors=True)
        self._plans.mkdir(parents=True)
        dags = self._home / "dags"
        shutil.copytree(HERE / "dags", dags)
        self._airflow = RealAirflow(
            self._home / "airflow",
            dags,
            log_level="INFO",
            env={
                "CHAOS_DIR": str(self._plans),
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "16",
                # A machine that is lost is missed soon.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
                "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "20",
                "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "5",
                "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "2",
            },
        )
        paths = (HERE / "injection", HERE.parents[2], self._airflow.env["PYTHONPATH"])
        self._airflow.env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        self.version = ".".join(map(str, self._airflow.version))
        mine = [row for row in rows if self.version in row.versions]
        self.rows = mine if self._airflow.version >= (3, 0) else [replace(row, **row.old) for row in mine]
        self._tell = tell
        self._cloud = CloudHPCEmulator(port=0)
        self._people = People(self._airflow)

    def run(self) -> list[Result]:
        """Run all rows to their end."""
        results: list[Result] = []
        with self._cloud:
            try:
                self._prepare()
                for phase in ("together", "api down", "triggerer down"):
                    rows = [row for row in self.rows if row.phase == phase]
                    if rows:
                        results += self._phase(phase, rows)
            finally:
                self._airflow.stop()
        return results

    def _prepare(self) -> None:
        control = self._cloud.control
        control.settings(soft_stop_seconds=1, simulation_lag=3)
        for script, running in RUNNING.items():
            control.plan(script=script, pending=0.5, running=running, output="done")
        connections = []
        for row in self.rows:
            key = control.add_user(row.name)
            control.set_quota(0, 0, user=row.name)
            for kind, endpoint, times, options in row.faults:
                if row.fault_seconds is None:
                    control.fault(kind, endpoint, times=times, user=row.name, **options)
            connections.append({"conn_id": row.name, "conn_type": "cloudhpc", "host": self._cloud.url, "password": key})
            if row.point:
                (self._plans / f"{row.name}.json").write_text(json.dumps({"point": row.point, "how": row.how}))
        described = [{**asdict(row), "dag_id": row.name, "conn_id": row.name} for row in self.rows]
        (self._plans / "rows.json").write_text(json.dumps(described))
        self._airflow.migrate()
        self._airflow.run_python("-c", ADD_CONNECTIONS, stdin=json.dumps(connections))
        self._airflow.start()
        self._wait(self._dags_are_known, 120.0, "The DAGs did not come up")

    def _dags_are_known(self) -> bool:
        self._airflow.check()
        errors = self._airflow.rows("SELECT filename, stacktrace FROM import_error")
        assert not errors, errors
        return self._airflow.rows("SELECT count(*) FROM serialized_dag") == [(len(self.rows),)]

    def _phase(self, phase: str, rows: Sequence[Row]) -> list[Result]:
        started = time.monotonic()
        api, triggerer = (self._airflow.components.get(name) for name in ("api-server", "triggerer"))
        assert triggerer is not None
        if phase == "triggerer down":
            triggerer.kill()
        live: list[_Live] = []
        todo = list(rows)
        away_since: float | None = None
        # However slow the machine is: as long as one row after the other comes to its end.
        while (todo or any(one.over_at is None for one in live)) and (
            time.monotonic() < max([started, *(one.over_at for one in live if one.over_at is not None)]) + STUCK
        ):
            live += self._begin(todo, live)
            for one in live:
                if one.over_at is None:
                    self._attend(one)
            if phase == "api down" and api is not None:
                if away_since is None and not todo and all(self._is_there(one) for one in live):
                    api.kill()
                    away_since = time.monotonic()
                    self._let_go(live)
                elif away_since is not None and not api.is_running and time.monotonic() > away_since + AWAY:
                    api.start()
            elif phase == "triggerer down":
                if not todo and all(one.acted for one in live) and not triggerer.is_running:
                    time.sleep(BEGUN)
                    triggerer.start()
            elif not triggerer.is_running:
                triggerer.start()
            time.sleep(0.5)
        results = [self._judge(one) for one in live]
        self._tell(f"Airflow {self.version}, {phase}: {len(rows)} rows in {time.monotonic() - started:.0f} s")
        return results

    def _begin(self, todo: list[Row], live: Sequence[_Live]) -> list[_Live]:
        """Start as many more rows as there is room for, and take them off the list."""
        room = AT_ONCE - sum(one.over_at is None for one in live) if self._airflow.version >= (3, 0) else len(todo)
        chosen, todo[:] = todo[: max(0, room)], todo[max(0, room) :]
        if not chosen:
            return []
        runs = self._people.trigger([row.name for row in chosen])
        return [_Live(row, run) for row, run in zip(chosen, runs, strict=True)]

    # -- one row while it runs ------------------------------------------------------------------------------------

    def _attend(self, one: _Live) -> None:
        """Do to a row what is due."""
        row, now = one.row, time.monotonic()
        if row.fault_seconds is not None:
            if one.since is None and (self._plans / f"{row.name}.reached").exists():
                for kind, endpoint, times, options in row.faults:
                    self._cloud.control.fault(kind, endpoint, times=times, user=row.name, **options)
                one.since = now
                self._let_go([one])
            elif one.since is not None and not one.acted and now > one.since + row.fault_seconds:
                for fault in self._cloud.control.faults():
                    if fault["user"] == row.name:
                        self._cloud.control.clear_faults(fault["id"])
                one.acted = True
        if row.person and not one.acted and self._is_there(one):
            one.acted = True
            self._people.act(row.person, one.run, self._waiting_task(row))
        if row.person == "clear" and one.acted:
            second = [launch.id for launch in self._cloud.ledger.launches if launch.user == row.name][1:]
            if second and not self._cloud.ledger.bills[second[0]].ended:
                self._cloud.control.finish(second[0])
        if self._airflow.run_state(one.run) in ("success", "failed"):
            one.over_at = now

    @staticmethod
    def _waiting_task(row: Row) -> str:
        return "run" if row.kind == "run" else "wait"

    def _is_there(self, one: _Live) -> bool:
        """Whether it is where a person, or an outage, is to meet it: it waits, and its trigger has begun."""
        row = one.row
        if row.how == "hold":
            return (self._plans / f"{row.name}.reached").exists()
        task_id = self._waiting_task(row)
        if self._airflow.task_states(one.run).get(task_id) != ("deferred" if row.deferrable else "running"):
            return False
        told = self._airflow.xcoms(one.run).get("run", {}).get("simulation_id")
        begun = not row.deferrable or row.phase == "triggerer down" or self._trigger_has_begun(one.run, task_id)
        if told is None or not begun:
            return False
        return time.monotonic() > one.seen.setdefault("there", time.monotonic()) + BEGUN

    def _trigger_has_begun(self, run: Run, task_id: str) -> bool:
        query = (
            "SELECT 1 FROM trigger t JOIN task_instance i ON i.trigger_id = t.id WHERE t.triggerer_id IS NOT NULL "
            "AND i.dag_id=? AND i.run_id=? AND i.task_id=?"
        )
        return bool(self._airflow.rows(query, run.dag_id, run.run_id, task_id))

    def _let_go(self, live: Sequence[_Live]) -> None:
        for one in live:
            (self._plans / f"{one.row.name}.go").touch()

    # -- the ledger decides ---------------------------------------------------------------------------------------

    def _judge(self, one: _Live) -> Result:
        row = one.row
        state = self._airflow.run_state(one.run)
        if not row.left:
            self._wait(lambda: not self._left(row), AFTERMATH)
        ledger = self._cloud.ledger
        launched = [launch for launch in ledger.launches if launch.user == row.name]
        ids = {launch.id for launch in launched}
        stopped = {stop.id for stop in ledger.stops if stop.id in ids}
        left = self._left(row)
        tries = self._airflow.try_numbers(one.run).get("run", 0)
        log = "".join(self._airflow.task_log(one.run, task) for task in ("run", "wait"))
        complaints = [
            f"{what} {got!r} and not {wanted!r}"
            for what, got, wanted in (
                ("state", state, row.state),
                ("launches", len(launched), row.launches),
                ("stopped", len(stopped), row.stops),
                ("left running", len(left), row.left),
                (
                    "folders",
                    len({launch.folder for launch in launched}),
                    row.launches if row.folders is None else row.folders,
                ),
            )
            if got != wanted
        ]
        if row.says not in log:
            complaints.append(f"the log does not say {row.says!r}")
        if row.how and row.how != "hold" and not (self._plans / f"{row.name}.struck").exists():
            complaints.append("nothing struck")
        complaints += [f"{one.kind}: {one.detail}" for one in ledger.violations if one.user == row.name]
        for identifier in left:
            self._cloud.control.finish(identifier, "stopped")
        return Result(
            row.name, row.what, row.mode, len(launched), len(stopped), len(left), state, tries, "; ".join(complaints)
        )

    def _left(self, row: Row) -> list[int]:
        ledger = self._cloud.ledger
        return [
            launch.id for launch in ledger.launches if launch.user == row.name and not ledger.bills[launch.id].ended
        ]

    def _wait(self, look: Callable[[], object], seconds: float, complaint: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not look():
            if time.monotonic() > deadline:
                assert not complaint, f"{complaint}\n{self._airflow.components['scheduler'].tail()}"
                return
            time.sleep(0.5)
