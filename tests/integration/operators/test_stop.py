# SPDX-License-Identifier: Apache-2.0
"""Stop what is active, touch nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCQuotaError
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.simulation import CloudHPCAddSimulationOperator, CloudHPCStopSimulationOperator
from tests.integration.operators.airflow_task import AirflowTask


def stop(**arguments: Any) -> list[int]:
    result = AirflowTask(lambda: CloudHPCStopSimulationOperator(task_id="stop", **arguments)).run()
    assert isinstance(result, list)
    return result


def running(cloudhpc: CloudHPCEmulator, folder: str = "case") -> int:
    (simulation_id,) = cloudhpc.control.simulation(folder=folder, pending=0, running=None)
    return int(simulation_id)


@pytest.mark.parametrize(("how", "signal"), [("soft", "SIGTSTP"), ("hard", "SIGINT")])
def test_one_is_stopped(cloudhpc: CloudHPCEmulator, how: str, signal: str) -> None:
    simulation_id, other = running(cloudhpc), running(cloudhpc)
    assert stop(simulation_id=str(simulation_id), stop=how) == [simulation_id]
    assert [(one.id, one.signal) for one in cloudhpc.ledger.stops] == [(simulation_id, signal)]
    assert other != simulation_id


@pytest.mark.parametrize("nothing", [None, "", "None", {"id": None}])
def test_without_a_launch_it_succeeds(cloudhpc: CloudHPCEmulator, nothing: Any) -> None:
    assert stop(simulation_id=nothing) == []
    assert cloudhpc.ledger.count("*") == 0


@pytest.mark.parametrize("ending", ["completed", "error", "stopped"])
def test_one_that_has_ended_is_left_alone(cloudhpc: CloudHPCEmulator, ending: str) -> None:
    simulation_id = running(cloudhpc)
    cloudhpc.control.finish(simulation_id, ending)
    assert stop(simulation_id=simulation_id) == []
    assert cloudhpc.ledger.stops == []


def test_by_folder_all_active_ones_there_and_no_others(cloudhpc: CloudHPCEmulator) -> None:
    mine = [running(cloudhpc, "mine") for _ in range(25)]
    ended = running(cloudhpc, "mine")
    cloudhpc.control.finish(ended)
    running(cloudhpc, "mine2")
    running(cloudhpc, "mine/deeper")
    assert sorted(stop(folder="/mine/")) == mine
    assert sorted(one.id for one in cloudhpc.ledger.stops) == mine


def test_by_folder_where_nothing_runs(cloudhpc: CloudHPCEmulator) -> None:
    running(cloudhpc, "other")
    assert stop(folder="mine", settle=0) == []


def test_by_folder_where_all_have_ended_it_does_not_wait(cloudhpc: CloudHPCEmulator) -> None:
    cloudhpc.control.finish(running(cloudhpc, "mine"))
    assert stop(folder="mine") == []


@pytest.mark.parametrize("told", [True, False])
def test_by_folder_an_ended_one_that_nobody_told_of_says_nothing_of_a_launch_on_its_way(
    cloudhpc: CloudHPCEmulator, told: bool
) -> None:
    """The launch was cleared, and its new try died with its post on the way."""

    def make() -> list[Any]:
        launch = CloudHPCAddSimulationOperator(
            task_id="launch", cpu=2, ram="highcpu", script="custom-script", folder="mine"
        )
        return [CloudHPCStopSimulationOperator(task_id="stop", folder="mine", settle=6), launch]

    ended = running(cloudhpc, "mine")
    cloudhpc.control.finish(ended)
    cloudhpc.control.settings(simulation_lag=2)
    cloudhpc.control.jump(2)
    late = running(cloudhpc, "mine")
    task = AirflowTask(make)
    records = [{"simulation_id": ended, "folder": "mine", "before": None}] if told else []
    task.instance.xcom_pull = lambda **wanted: records  # type: ignore[attr-defined]
    assert task.run() == ([] if told else [late])


def test_by_folder_one_of_a_moment_ago_is_found_though_the_listing_lags(cloudhpc: CloudHPCEmulator) -> None:
    cloudhpc.control.settings(simulation_lag=1)
    simulation_id = running(cloudhpc, "mine")
    assert cloudhpc.ledger.count("GET /simulation/index-short*") == 0
    assert stop(folder="mine") == [simulation_id]


def test_it_waits_until_it_is_over(cloudhpc: CloudHPCEmulator) -> None:
    simulation_id = running(cloudhpc)
    assert stop(simulation_id=simulation_id, stop="hard", wait=True, poll_interval=0.1) == [simulation_id]
    assert cloudhpc.ledger.bills[simulation_id].ended


def test_what_does_not_stop_is_said_to_be_billing(cloudhpc: CloudHPCEmulator) -> None:
    simulation_id = running(cloudhpc)
    cloudhpc.control.hold(simulation_id)
    with pytest.raises(CloudHPCError, match=f"Simulation {simulation_id} .* STILL BILLING"):
        stop(simulation_id=simulation_id, wait=True, wait_timeout=0.3, poll_interval=0.1)


def test_a_stop_that_does_not_get_through_is_said_to_be_billing(cloudhpc: CloudHPCEmulator) -> None:
    simulation_id = running(cloudhpc)
    cloudhpc.control.fault("html", "PUT /simulation/stop/{id}", times=None)
    with pytest.raises(CloudHPCError, match=f"Simulation {simulation_id} was NOT stopped and may be STILL BILLING"):
        stop(simulation_id=simulation_id)


def test_one_that_does_not_stop_keeps_the_others_from_nothing(cloudhpc: CloudHPCEmulator) -> None:
    first, second, third = sorted(running(cloudhpc, "mine") for _ in range(3))
    cloudhpc.control.fault("forbidden", "PUT /simulation/stop/{id}", times=1)
    with pytest.raises(CloudHPCError, match="was NOT stopped and may be STILL BILLING") as failure:
        stop(folder="mine")
    stopped = sorted(one.id for one in cloudhpc.ledger.stops)
    assert len(stopped) == 2
    (left,) = {first, second, third} - set(stopped)
    assert f"Simulation {left} was NOT stopped" in str(failure.value)
    assert f"Stopped: {', '.join(map(str, [one.id for one in cloudhpc.ledger.stops]))}" in str(failure.value)


@pytest.mark.parametrize("endpoint", ["GET *", "PUT *"])
@pytest.mark.parametrize("what", ["simulation_id", "folder"])
def test_where_the_account_s_calls_are_used_up_it_says_that_it_bills(
    cloudhpc: CloudHPCEmulator, what: str, endpoint: str
) -> None:
    simulation_id = running(cloudhpc)
    given = {"simulation_id": simulation_id} if what == "simulation_id" else {"folder": "case", "settle": 0}
    cloudhpc.control.fault("quota", endpoint, times=None)
    with pytest.raises(CloudHPCQuotaError, match=r"(10\d\d\d was|in folder 'case' was) NOT stopped .*STILL BILLING"):
        stop(**given)


def test_a_wait_for_the_stop_that_loses_sight_says_that_it_may_bill(cloudhpc: CloudHPCEmulator) -> None:
    cloudhpc.control.settings(soft_stop_seconds=60)
    simulation_id = running(cloudhpc)
    cloudhpc.control.fault("quota", "GET *", times=None, skip=1)
    with pytest.raises(CloudHPCQuotaError, match=f"{simulation_id} was sent a stop signal.*STILL BILLING"):
        stop(simulation_id=simulation_id, wait=True)


@pytest.mark.parametrize("made", [lambda number: {"id": number}, lambda number: str({"id": number, "cost": None})])
def test_the_record_of_a_wait_stands_for_its_simulation_also_where_a_template_made_a_text_of_it(
    cloudhpc: CloudHPCEmulator, made: Callable[[int], Any]
) -> None:
    simulation_id = running(cloudhpc)
    assert stop(simulation_id=made(simulation_id)) == [simulation_id]


@pytest.mark.parametrize("text", ["{'id': ", "{" * 2000, "{'id': __import__('os')}", "{'name': 5}"])
def test_a_text_that_is_no_record_stops_nothing(cloudhpc: CloudHPCEmulator, text: str) -> None:
    running(cloudhpc)
    with pytest.raises(AirflowFailException, match="the id of a simulation is needed"):
        stop(simulation_id=text)
    assert cloudhpc.ledger.stops == []
