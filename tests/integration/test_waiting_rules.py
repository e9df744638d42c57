# SPDX-License-Identifier: Apache-2.0
"""What holds for a wait beside how it ends: the deadline over retries, and calls that are used up."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
from airflow.exceptions import AirflowFailException, AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseSensorOperator, TaskDeferred

from airflow_provider_cloudhpc.api.errors import CloudHPCQuotaError
from airflow_provider_cloudhpc.api.lifecycle import EndingKind, Watch, moment
from airflow_provider_cloudhpc.api.waiting.in_process import wait_for_end
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
from airflow_provider_cloudhpc.triggers.accounts import find_account
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask
from tests.simulated_time import SimulatedClock


@pytest.fixture
def cloud(monkeypatch):
    with CloudHPCEmulator(port=0) as emulator:
        connect(monkeypatch, emulator)
        yield emulator


def first_reschedule(monkeypatch, begun):
    """Let Airflow know when a rescheduled task began first."""
    base = sys.modules[BaseSensorOperator.__module__]
    if hasattr(base, "_orig_start_date"):  # before Airflow 3 it asks the database
        monkeypatch.setattr(base, "_orig_start_date", lambda **task: begun)


def sensor(number, *, remembers=True, **more):
    return AirflowTask(
        lambda: CloudHPCSimulationSensor(task_id="wait", simulation_id=number, **more), remembers=remembers
    )


def test_the_deadline_is_that_of_the_first_try_and_a_clear_sets_another(cloud):
    (number,) = cloud.control.simulation(pending=0, running=None)
    task = sensor(number, deferrable=True, timeout=600)

    def deadline(attempt):
        with pytest.raises(TaskDeferred) as deferral:
            attempt()
        return deferral.value.trigger.deadline

    first = deadline(task.run)
    assert deadline(task.retry) == deadline(task.retry) == first
    assert deadline(task.clear) > first


def test_in_reschedule_mode_too_the_deadline_is_that_of_the_first_try(cloud, monkeypatch):
    (number,) = cloud.control.simulation(pending=0, running=None)
    first_reschedule(monkeypatch, None)
    task = sensor(number, deferrable=False, mode="reschedule", timeout=600)
    with pytest.raises(AirflowRescheduleException):
        task.run()
    # Ten minutes later: a try of its own begins in Airflow 3, which counts from there.
    ((key, value),) = task.store.rows.items()
    task.store.set(key, {**json.loads(value), "started": json.loads(value)["started"] - 601})
    with pytest.raises(AirflowSensorTimeout, match="The deadline passed"):
        task.retry()
    with pytest.raises(AirflowRescheduleException):
        task.clear()


def test_in_reschedule_mode_a_limit_counts_from_the_first_look_without_a_state_store_too(cloud, monkeypatch):
    # The service tells no vCPU-hours before the end: what the run has used is known by the time alone.
    (number,) = cloud.control.simulation(cpu=2, pending=0, running=None)
    task = sensor(number, deferrable=False, mode="reschedule", max_vcpu_hours=1, remembers=False)

    def look_after(minutes):
        task.instance.begun = datetime.now(UTC) - timedelta(minutes=minutes)
        first_reschedule(monkeypatch, task.instance.begun)
        return task.run()

    with pytest.raises(AirflowRescheduleException):
        look_after(29)
    with pytest.raises(AirflowFailException, match="has cost what it may cost"):
        look_after(31)


def test_a_look_that_meets_the_quota_is_a_not_yet(cloud):
    (number,) = cloud.control.simulation(pending=0, running=None)
    cloud.control.finish(number, "completed", "done")
    cloud.control.fault("quota", times=2)
    assert sensor(number, deferrable=False, poke_interval=0.05, timeout=60).run()["status"] == "COMPLETED"
    assert cloud.ledger.count("GET simulation/view-short/*") == 3


@pytest.mark.parametrize("quota_wait", [300.0, 1000.0])
def test_a_slot_is_kept_for_the_quota_only_so_long(cloud, quota_wait):
    (number,) = cloud.control.simulation(pending=0, running=None)
    cloud.control.fault("rate_limit", times=None, retry_after=900)
    client = find_account("cloudhpc_default").client
    clock = SimulatedClock(lambda seconds: None, 1_800_000_000.0)
    watch = Watch(number, page=client.simulation_page(number), started=clock.time())

    with pytest.raises(CloudHPCQuotaError, match="Try again after") as error:
        wait_for_end(watch, lambda anew: client, clock, quota_wait=quota_wait, sleep=clock.sleep)
    assert error.value.transient
    assert f"after {moment(clock.time() + error.value.retry_after)}" in str(error.value)
    assert "it goes on, and bills" in str(error.value)
    assert clock.time() - 1_800_000_000.0 <= quota_wait


@pytest.mark.parametrize(("limits", "window"), [((100, 0), "hourly"), ((0, 200), "daily"), ((100, 200), "daily")])
def test_a_refusal_names_the_window_that_is_used_up(cloud, limits, window):
    hourly, daily = limits
    cloud.control.set_quota(hourly, daily, **{f"{window}_used": 200})
    with pytest.raises(CloudHPCQuotaError, match=f"the {window} window frees calls again"):
        find_account("cloudhpc_default").client.view_simulation_short(10001)


def test_others_who_call_much_for_a_while_end_no_wait_in_a_worker(cloud):
    (number,) = cloud.control.simulation(pending=0, running=None)
    cloud.control.set_quota(100, window="rolling")
    client = find_account("cloudhpc_default").client
    clock = SimulatedClock(cloud.control.jump, cloud.control.now())
    watch = Watch(number, page=client.simulation_page(number), started=clock.time())
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 20:
            cloud.control.set_quota(hourly_used=70)
        if len(looks) == 40:
            cloud.control.finish(number)
        clock.sleep(seconds)

    assert wait_for_end(watch, lambda anew: client, clock, sleep=sleep).kind is EndingKind.COMPLETED
