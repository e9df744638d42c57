# SPDX-License-Identifier: Apache-2.0
"""The ready callbacks: what a task, or a whole run, has left is stopped, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_cloudhpc import callbacks
from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.names import mint_folder
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.simulation import (
    CloudHPCAddSimulationOperator,
    CloudHPCRunSimulationOperator,
    CloudHPCStopSimulationOperator,
)

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG


@pytest.fixture
def running(cloudhpc: CloudHPCEmulator) -> Callable[..., int]:
    def run(folder: str) -> int:
        (simulation_id,) = cloudhpc.control.simulation(folder=folder, pending=0, running=None)
        return int(simulation_id)

    return run


def stopped(cloudhpc: CloudHPCEmulator) -> list[int]:
    return sorted(stop.id for stop in cloudhpc.ledger.stops)


def dag(run_id: str = "run-1", **arguments: Any) -> dict[str, Any]:
    """Give a DAG's context as Airflow hands it to a callback: at the least the DAG and the run's id."""
    with DAG("chain", schedule=None) as made:
        CloudHPCRunSimulationOperator.partial(
            task_id="run", cpu=2, ram="highcpu", script="custom-script", **arguments
        ).expand(source=["a", "b"])
        CloudHPCStopSimulationOperator(task_id="other", simulation_id=None)
    return {"dag": made, "run_id": run_id}


def test_all_that_a_run_left_is_stopped(cloudhpc: CloudHPCEmulator, running: Callable[..., int]) -> None:
    ours = [running(mint_folder("chain", "run-1", "run", index, 2)) for index in (0, 1)]
    ended = running(mint_folder("chain", "run-1", "run", 2, 2))
    cloudhpc.control.finish(ended)
    others = [running(mint_folder("chain", "run-2", "run", 0, 2)), running("named")]
    callbacks.stop_simulations(dag())
    assert stopped(cloudhpc) == ours
    assert others


@pytest.mark.parametrize("other", ["none", "ended", "active"])
def test_one_whose_answer_was_lost_a_moment_ago_is_found(
    cloudhpc: CloudHPCEmulator, running: Callable[..., int], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Whatever has become of those of the run's other tasks."""
    monkeypatch.setattr(callbacks, "SETTLE", 5.0)
    others = [] if other == "none" else [running(mint_folder("chain", "run-1", "run", 1, 2))]
    if other == "ended":
        cloudhpc.control.finish(others.pop())
    cloudhpc.control.settings(simulation_lag=4)
    cloudhpc.control.jump(4)
    late = running(mint_folder("chain", "run-1", "run", 0, 2))
    callbacks.stop_simulations(dag())
    assert stopped(cloudhpc) == [*others, late]


@pytest.mark.parametrize(("reason", "looks"), [("success", 1), ("task_failure", 2)])
def test_after_a_success_it_looks_once(
    cloudhpc: CloudHPCEmulator, running: Callable[..., int], monkeypatch: pytest.MonkeyPatch, reason: str, looks: int
) -> None:
    monkeypatch.setattr(callbacks, "SETTLE", 0.0)
    mine = running(mint_folder("chain", "run-1", "run", 0, 2))
    callbacks.stop_simulations({**dag(), "reason": reason})
    assert stopped(cloudhpc) == [mine]
    # A page, and the one that shows that there are no more.
    assert cloudhpc.ledger.count("GET /simulation/index-short/*") == 2 * looks


def test_a_stop_that_does_not_get_through_is_sent_again(
    cloudhpc: CloudHPCEmulator, running: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "SETTLE", 0.0)
    mine = [running(mint_folder("chain", "run-1", "run", index, 2)) for index in (0, 1)]
    cloudhpc.control.fault("forbidden", "PUT simulation/stop/*")
    callbacks.stop_simulations(dag())
    assert stopped(cloudhpc) == mine


def test_what_could_not_be_stopped_is_said_to_be_billing(
    cloudhpc: CloudHPCEmulator, running: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "SETTLE", 0.0)
    first, second = (running(mint_folder("chain", "run-1", "run", index, 2)) for index in (0, 1))
    for skip in (0, 1):  # the first one's, both times
        cloudhpc.control.fault("forbidden", "PUT simulation/stop/*", skip=skip)
    with pytest.raises(CloudHPCError, match="STILL BILLING"):
        callbacks.stop_simulations(dag())
    assert len(stopped(cloudhpc)) == 1
    assert set(stopped(cloudhpc)) < {first, second}


def instance(told: int | None) -> dict[str, Any]:
    """Give a task's context; what the task has told is all that its instance knows."""
    ti = SimpleNamespace(dag_id="chain", run_id="run-1", task_id="run", map_index=-1, max_tries=2)
    ti.xcom_pull = lambda **wanted: told
    return {"ti": ti, "task": dag()["dag"].get_task("run")}


def test_what_a_task_told_of_is_stopped(cloudhpc: CloudHPCEmulator, running: Callable[..., int]) -> None:
    mine, _ = running("named"), running("named")
    callbacks.stop_simulation(instance(mine))
    assert stopped(cloudhpc) == [mine]


def test_what_a_task_never_told_of_is_found_in_its_own_folder(
    cloudhpc: CloudHPCEmulator, running: Callable[..., int]
) -> None:
    mine = running(mint_folder("chain", "run-1", "run", -1, 2))
    running(mint_folder("chain", "run-1", "run", -1, 5))
    callbacks.stop_simulation(instance(None))
    assert stopped(cloudhpc) == [mine]


def test_a_task_that_launched_nothing_stops_nothing(
    cloudhpc: CloudHPCEmulator, running: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "SETTLE", 0.0)
    running("named")
    callbacks.stop_simulation(instance(None))
    assert stopped(cloudhpc) == []


def test_what_a_task_may_have_left_in_a_folder_that_it_was_given_is_said_to_be_billing(
    cloudhpc: CloudHPCEmulator, running: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    context = instance(None)
    with DAG("chain", schedule=None):
        context["task"] = CloudHPCAddSimulationOperator(
            task_id="add", cpu=2, ram="highcpu", script="custom-script", folder="given/by/upload"
        )
    running("given/by/upload")
    callbacks.stop_simulation(context)
    assert stopped(cloudhpc) == []
    assert "(given/by/upload)" in caplog.text
    assert "STILL BILLING" in caplog.text
