# SPDX-License-Identifier: Apache-2.0
"""Every mode ends every ending the same: the same result, the same kind of error, the same word for the reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.simulation import CloudHPCRunSimulationOperator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
from airflow_provider_cloudhpc.task import CloudHPCLostSightError
from tests.integration.operators.airflow_task import AirflowTask

MODES = ["poke", "deferrable", "run-sync", "run-deferrable"]
#: How it ends -> (the error, None for success; words for the reader).
ENDINGS: dict[str, tuple[type[Exception] | None, str]] = {
    "completed": (None, ""),
    "error": (AirflowFailException, "ended with an ERROR"),
    "stopped": (AirflowFailException, "was STOPPED by a stop signal"),
    "solver failed": (AirflowFailException, "COMPLETED for the service, but its solver FAILED"),
    "deadline": (AirflowSensorTimeout, "may still run and BILL"),
    "limit": (AirflowFailException, "has cost what it may cost"),
    "connection lost": (CloudHPCLostSightError, "This says nothing about the simulation itself"),
    "output lost": (CloudHPCLostSightError, "whether its solver succeeded is NOT known"),
    "connection lost and back": (None, ""),
    "unknown status, then completed": (None, ""),
}


#: A lost connection is waited out for half a minute where a poller paces the looks: here the poke mode stands for it,
#: the poller's own tests live in simulated time.
COMBINATIONS = [
    (mode, ending) for mode in MODES for ending in ENDINGS if mode == "poke" or not ending.startswith("connection lost")
]


@pytest.fixture(scope="module")
def shared() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator


@pytest.fixture
def cloud(shared: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> CloudHPCEmulator:
    shared.control.reset()
    connection = {"conn_type": "cloudhpc", "host": shared.url, "password": shared.api_key}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUDHPC_DEFAULT", json.dumps(connection))
    return shared


def arrange(cloud: CloudHPCEmulator, ending: str) -> tuple[int, dict[str, Any]]:
    """Make a simulation that ends so, and what the wait needs for it."""
    control = cloud.control
    (number,) = control.simulation(folder="case", script="custom-script", cpu=2, ram="highcpu", pending=0, running=None)
    more: dict[str, Any] = {}
    match ending:
        case "error" | "stopped":
            control.finish(number, ending, "done")
        case "solver failed":
            control.finish(number, "completed", "Segmentation fault (core dumped)")
        case "deadline":
            more = {"timeout": 0.5}
        case "limit":
            more = {"max_vcpu_hours": 1e-9}
        case "connection lost":
            control.fault("html", "GET /simulation/*", times=None)
            more = {"patience": 0.1}
        case "output lost":
            control.finish(number, "completed", "done")
            control.fault("html", "GET /simulation/view/{id}", times=None)
        case "connection lost and back":
            control.finish(number, "completed", "done")
            control.fault("reset_after", "GET /simulation/*", times=2)
        case _:
            control.finish(number, "completed", "done")
    return number, more


def wait(mode: str, number: int, **more: Any) -> Any:
    """Wait in a mode to the end, as Airflow does."""
    if mode.startswith("run"):
        task = AirflowTask(
            lambda: CloudHPCRunSimulationOperator(
                task_id="run", cpu=2, ram="highcpu", script="custom-script", folder="case", adopt=number,
                deferrable=mode == "run-deferrable", **more,
            )
        )  # fmt: skip
    else:
        given = {"poke_interval": 0.2, "deferrable": False} if mode == "poke" else {"deferrable": True}
        task = AirflowTask(lambda: CloudHPCSimulationSensor(task_id="wait", simulation_id=number, **given, **more))
    context = task.context()
    try:
        return context["task"].execute(context)
    except TaskDeferred as deferral:
        trigger = deferral.trigger

    async def first_event() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(json.loads(json.dumps(event.payload)))
        raise AssertionError("no event")

    return context["task"].execute_complete(context, asyncio.run(first_event()))


@pytest.mark.parametrize(("mode", "ending"), COMBINATIONS)
def test_every_mode_ends_the_same(cloud: CloudHPCEmulator, mode: str, ending: str) -> None:
    number, more = arrange(cloud, ending)
    kind, words = ENDINGS[ending]
    if kind is None:
        record = wait(mode, number, **more)
        said = tuple(record[key] for key in ("id", "status", "folder", "script", "cpu", "ram"))
        assert said == (number, "COMPLETED", "case", "custom-script", 2, "highcpu")
        assert json.loads(json.dumps(record)) == record
        assert record["diagnosis"]["checked"] == "full"
        return
    with pytest.raises(kind) as failure:
        wait(mode, number, **more)
    assert type(failure.value) is kind
    assert words in str(failure.value)
    assert f"/en/simulation/view/{number}" in str(failure.value)
    assert cloud.ledger.stops == []


@pytest.mark.parametrize(
    ("mode", "ending"), [(mode, ending) for mode, ending in COMBINATIONS if "run" not in mode and ENDINGS[ending][0]]
)
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_a_lost_sight_is_never_skipped_by_soft_fail(
    cloud: CloudHPCEmulator, mode: str, ending: str, option: str
) -> None:
    number, more = arrange(cloud, ending)
    kind, words = ENDINGS[ending]
    stays = option == "soft_fail" and kind is CloudHPCLostSightError
    with pytest.raises(CloudHPCLostSightError if stays else AirflowSkipException, match=words):
        wait(mode, number, **more, **{option: True})
    assert not issubclass(CloudHPCLostSightError, AirflowException)  # Airflow turns those into skips
