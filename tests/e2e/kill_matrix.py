# SPDX-License-Identifier: Apache-2.0
"""
Tasks killed in a real Airflow, by people and by accidents: a launch bills once, what nobody waits for is stopped.

One Airflow serves all; the emulator's ledger decides. Run by ``make kill``: it takes minutes.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from tests.e2e.airflow_home import Run
from tests.e2e.airflow_process import RealAirflow

DAGS = Path(__file__).parent / "dags_kill"
LIMIT = 90.0

#: Airflow 2 has no such call in its stable API.
SET_STATE = """
import sys
from airflow.models import TaskInstance
from airflow.utils.session import create_session
dag_id, run_id, state = sys.argv[1:]
with create_session() as session:
    task = session.query(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id, task_id="run").one()
    task.set_state(state, session=session)
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        emulator.control.set_quota(0, 0)
        emulator.control.settings(soft_stop_seconds=1)
        yield emulator


@pytest.fixture(scope="module")
def airflow(cloud: CloudHPCEmulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAirflow]:
    with RealAirflow(tmp_path_factory.mktemp("airflow"), DAGS, log_level="INFO") as airflow:
        airflow.add_connection("cloudhpc_default", "cloudhpc", host=cloud.url, password=cloud.api_key)
        yield airflow


def until(look: Callable[[], object], what: str, airflow: RealAirflow) -> object:
    """Look until there is something to see."""
    deadline = time.monotonic() + LIMIT
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come\n{airflow.logs()[-6000:]}"
        time.sleep(0.3)
    return seen


def mark(airflow: RealAirflow, run: Run, state: str) -> None:
    """Mark the task, as a person does in the web interface."""
    if airflow.version < (3, 0):
        airflow.run_python("-c", SET_STATE, run.dag_id, run.run_id, state)
        return
    with urllib.request.urlopen(f"{airflow.url}/auth/token", timeout=10) as answer:
        token = json.load(answer)["access_token"]
    request = urllib.request.Request(
        f"{airflow.url}/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/run",
        data=json.dumps({"new_state": state}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="PATCH",
    )
    urllib.request.urlopen(request, timeout=30).close()


def launched(cloud: CloudHPCEmulator, airflow: RealAirflow, run: Run) -> int:
    """The one simulation of a run, as soon as the task has told of it."""
    number = until(lambda: airflow.xcoms(run).get("run", {}).get("simulation_id"), "the simulation's id", airflow)
    return int(number)  # type: ignore[call-overload,no-any-return]


def launches(cloud: CloudHPCEmulator, simulation_id: int) -> int:
    """How many simulations share the folder of one."""
    folders = [launch.folder for launch in cloud.ledger.launches]
    (folder,) = [launch.folder for launch in cloud.ledger.launches if launch.id == simulation_id]
    return folders.count(folder)


def trigger_has_begun(airflow: RealAirflow) -> None:
    """Between a deferral and this nothing of the task runs anywhere: what is killed then, nobody stops."""
    until(lambda: airflow.rows("SELECT 1 FROM trigger WHERE triggerer_id IS NOT NULL"), "the trigger", airflow)
    time.sleep(3)


def stops(cloud: CloudHPCEmulator, simulation_id: int) -> list[str]:
    return [stop.signal for stop in cloud.ledger.stops if stop.id == simulation_id]


def plan(cloud: CloudHPCEmulator, running: float | None) -> None:
    cloud.control.plan(times=1, pending=0, running=running, output="done")


@pytest.mark.parametrize("state", ["failed", "success"])
@pytest.mark.parametrize("dag_id", ["deferred", "sync"])
def test_a_task_that_a_person_ends_stops_its_simulation(
    cloud: CloudHPCEmulator, airflow: RealAirflow, dag_id: str, state: str
) -> None:
    plan(cloud, running=None)
    run = airflow.trigger(dag_id)
    simulation_id = launched(cloud, airflow, run)
    airflow.wait_for_task(run, "run", "deferred" if dag_id == "deferred" else "running")
    if dag_id == "deferred":
        trigger_has_begun(airflow)
    mark(airflow, run, state)
    until(lambda: stops(cloud, simulation_id), "the stop", airflow)
    assert stops(cloud, simulation_id) == ["SIGTSTP"]
    until(lambda: cloud.ledger.bills[simulation_id].ended, "the end of the bill", airflow)
    assert launches(cloud, simulation_id) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_triggerer_that_dies_or_moves_stops_nothing(
    cloud: CloudHPCEmulator, airflow: RealAirflow, how: signal.Signals
) -> None:
    plan(cloud, running=20)
    run = airflow.trigger("deferred")
    simulation_id = launched(cloud, airflow, run)
    airflow.wait_for_task(run, "run", "deferred")
    trigger_has_begun(airflow)
    triggerer = airflow.components["triggerer"]
    triggerer.kill(how, whole_session=how is signal.SIGKILL)
    triggerer.start()
    assert airflow.wait(run) == "success", airflow.task_log(run, "run")[-4000:]
    assert stops(cloud, simulation_id) == []
    assert launches(cloud, simulation_id) == 1
    assert airflow.xcoms(run)["run"]["return_value"]["status"] == "COMPLETED"


@pytest.mark.parametrize("dag_id", ["dies_after_launch", "dies_before_answer"])
def test_a_worker_that_is_killed_is_followed_by_a_try_that_goes_on(
    cloud: CloudHPCEmulator, airflow: RealAirflow, dag_id: str
) -> None:
    plan(cloud, running=5)
    run = airflow.trigger(dag_id)
    assert airflow.wait(run) == "success", airflow.task_log(run, "run")[-4000:]
    simulation_id = launched(cloud, airflow, run)
    assert airflow.try_numbers(run)["run"] == 2
    assert stops(cloud, simulation_id) == []
    assert launches(cloud, simulation_id) == 1


def test_what_a_worker_leaves_that_dies_for_good_is_stopped_by_the_callback(
    cloud: CloudHPCEmulator, airflow: RealAirflow
) -> None:
    plan(cloud, running=None)
    run = airflow.trigger("dies_for_good")
    assert airflow.wait(run) == "failed"
    simulation_id = launched(cloud, airflow, run)
    until(lambda: stops(cloud, simulation_id), "the stop", airflow)
    assert launches(cloud, simulation_id) == 1
