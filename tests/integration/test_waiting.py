# SPDX-License-Identifier: Apache-2.0
"""Every mode ends every ending the same: the same result, the same kind of error, the same word for the reader."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseSensorOperator

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.simulations import Status
from airflow_provider_cloudhpc.operators.simulation import CloudHPCRunSimulationOperator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
from airflow_provider_cloudhpc.task import CloudHPCLostSightError
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask

#: A status that the service may add one day.
UNKNOWN = 35
Arranged = tuple[int, dict[str, Any]]
MODES = ["poke", "reschedule", "deferrable", "run-sync", "run-deferrable"]
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
    "captive portal and back": (None, ""),
    "unknown status": (AirflowSensorTimeout, "was UNKNOWN(35)"),
    "record gone": (CloudHPCLostSightError, "Lost sight of simulation"),
    "key revoked": (CloudHPCLostSightError, "Lost sight of simulation"),
    "key rotated": (None, ""),
}


COMBINATIONS = [(mode, ending) for mode in MODES for ending in ENDINGS]
#: The pauses of a wait, which a test does not sit out: seconds.
SHORT = {
    "airflow_provider_cloudhpc.api.lifecycle.CONFIRM_AFTER": 0.3,
    "airflow_provider_cloudhpc.api.wire.sending.FIRST_PAUSE": 0.02,
    "airflow_provider_cloudhpc.api.waiting.pacing.FIRST_BACKOFF": 0.1,
    "airflow_provider_cloudhpc.api.waiting.pacing.MIN_INTERVAL": 0.1,
    # An account that has told no counters yet, as its first calls were lost: 72 s a call otherwise.
    "airflow_provider_cloudhpc.api.waiting.pacing.ASSUMED_HOURLY_LIMIT": 0,
    "airflow_provider_cloudhpc.triggers.poller.JOIN_PAUSE": 0.1,
    "airflow_provider_cloudhpc.sensors.simulation.RESCHEDULE_PAUSE": 0.1,
}


@pytest.fixture(scope="module")
def shared() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator


@pytest.fixture
def cloud(shared: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> CloudHPCEmulator:
    shared.control.reset()
    shared.control.set_quota(0, 0)
    connect(monkeypatch, shared)
    for name, seconds in SHORT.items():
        monkeypatch.setattr(name, seconds)
    base = sys.modules[BaseSensorOperator.__module__]
    if hasattr(base, "_orig_start_date"):  # before Airflow 3 it asks the database
        begun = datetime.now(UTC)
        monkeypatch.setattr(base, "_orig_start_date", lambda **task: begun)
    return shared


@pytest.fixture
def arrange(cloud: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Arranged]]:
    """Make a simulation that ends so, and what the wait needs for it."""
    threads: list[threading.Thread] = []

    def rotate(number: int) -> None:
        cloud.control.rotate_key()
        connect(monkeypatch, cloud)
        cloud.control.finish(number, "completed", "done")

    def come_between(number: int) -> None:
        cloud.control.fault("html", "GET /simulation/*-short/*", times=2, status=403)
        cloud.control.finish(number, "completed", "done")

    #: What happens while the wait goes on.
    later: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {
        "key rotated": (rotate, {}),
        "captive portal and back": (come_between, {}),
        "key revoked": (lambda number: cloud.control.fault("unauthorized", times=None), {}),
        "record gone": (lambda number: cloud.control.fault("forbidden", "GET /simulation/*", times=None), {}),
        "connection lost": (
            lambda number: cloud.control.fault("html", "GET /simulation/*", times=None), {"patience": 0.1},
        ),
    }  # fmt: skip

    def act_after_a_look(act: Callable[[int], Any], number: int) -> None:
        while not over.is_set() and not cloud.ledger.count("GET simulation/view-short/*"):
            over.wait(0.02)
        act(number)

    over = threading.Event()

    def make(ending: str) -> Arranged:
        if ending not in later:
            return arranged(cloud, ending)
        number, _ = arranged(cloud, "deadline")
        act, more = later[ending]
        threads.append(threading.Thread(target=act_after_a_look, args=[act, number]))
        threads[-1].start()
        return number, {**more, "timeout": 60}

    yield make
    over.set()
    for thread in threads:
        thread.join()
    for simulation in cloud._world.scheduler.all.values():
        simulation.status = Status(30) if simulation.status == UNKNOWN else simulation.status


def arranged(cloud: CloudHPCEmulator, ending: str) -> Arranged:
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
        case "unknown status":
            cloud._world.scheduler.all[number].status = UNKNOWN
            more = {"timeout": 0.5}
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
                deferrable=mode == "run-deferrable", poll_interval=0.2, **more,
            )
        )  # fmt: skip
    else:
        how = {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}
        given = {"poke_interval": 0.2, **how, **more}
        task = AirflowTask(lambda: CloudHPCSimulationSensor(task_id="wait", simulation_id=number, **given))
    while True:
        context = task.context()  # the task goes on in another process
        try:
            return context["task"].execute(context)
        except AirflowRescheduleException as reschedule:
            time.sleep(max(0.0, reschedule.reschedule_date.timestamp() - time.time()))
        except TaskDeferred as deferral:
            trigger = deferral.trigger
            break

    async def first_event() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(json.loads(json.dumps(event.payload)))
        raise AssertionError("no event")

    event = asyncio.run(first_event())
    context = task.context()
    return context["task"].execute_complete(context, event)


@pytest.mark.parametrize(("mode", "ending"), COMBINATIONS)
def test_every_mode_ends_the_same(
    cloud: CloudHPCEmulator, arrange: Callable[[str], Arranged], mode: str, ending: str
) -> None:
    number, more = arrange(ending)
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


#: What ``on_timeout`` sends, and says about it.
POLICIES = {
    "leave": (None, "It may still run and BILL"),
    "soft": ("SIGTSTP", "A soft stop was sent now (on_timeout='soft'): its results are saved"),
    "hard": ("SIGINT", "A hard stop was sent now (on_timeout='hard'): its results are deleted"),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["deadline", "limit"])
def test_at_the_deadline_and_at_a_limit_the_stop_policy_is_carried_out(
    cloud: CloudHPCEmulator, mode: str, policy: str, ending: str
) -> None:
    number, more = arranged(cloud, ending)
    signal, words = POLICIES[policy]
    kind, _ = ENDINGS[ending]
    assert kind is not None
    with pytest.raises(kind, match=re.escape(words)) as failure:
        wait(mode, number, **more, on_timeout=policy)
    assert type(failure.value) is kind
    assert [(stop.id, stop.signal) for stop in cloud.ledger.stops] == ([(number, signal)] if signal else [])
    assert f"/en/simulation/view/{number}" in str(failure.value)


@pytest.mark.parametrize("mode", MODES[:3])
def test_a_skip_at_the_deadline_stops_too(cloud: CloudHPCEmulator, mode: str) -> None:
    number, more = arranged(cloud, "deadline")
    with pytest.raises(AirflowSkipException, match="A soft stop was sent now"):
        wait(mode, number, **more, on_timeout="soft", soft_fail=True)
    assert [stop.id for stop in cloud.ledger.stops] == [number]


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_that_fails_is_no_stop(cloud: CloudHPCEmulator, mode: str) -> None:
    number, more = arranged(cloud, "deadline")
    cloud.control.fault("forbidden", "PUT /simulation/stop/{id}", times=None)
    with pytest.raises(AirflowSensorTimeout, match="soft stop that was to follow FAILED, it is STILL BILLING"):
        wait(mode, number, **more, on_timeout="soft")
    assert cloud.ledger.stops == []


@pytest.mark.parametrize(
    ("mode", "ending"), [(mode, ending) for mode, ending in COMBINATIONS if "run" not in mode and ENDINGS[ending][0]]
)
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_a_lost_sight_is_never_skipped_by_soft_fail(
    arrange: Callable[[str], Arranged], mode: str, ending: str, option: str
) -> None:
    number, more = arrange(ending)
    kind, words = ENDINGS[ending]
    stays = option == "soft_fail" and kind is CloudHPCLostSightError
    with pytest.raises(CloudHPCLostSightError if stays else AirflowSkipException, match=re.escape(words)):
        wait(mode, number, **more, **{option: True})
    assert not issubclass(CloudHPCLostSightError, AirflowException)  # Airflow turns those into skips
