# SPDX-License-Identifier: Apache-2.0
"""From Airflow 3 on the scheduler learns late that a task was deferred, and fails one that is back by then."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_cloudhpc.api.lifecycle import EndingKind
from airflow_provider_cloudhpc.triggers import pollers
from airflow_provider_cloudhpc.triggers.simulation import CloudHPCSimulationTrigger


async def kind_of_event(trigger):
    (kind,) = [event.payload["kind"] async for event in trigger.run()]
    return kind


@pytest.mark.parametrize("conn_id", ["cloudhpc_default", "not_there"])
def test_no_event_comes_before_the_scheduler_knows_of_the_deferral(service, run, monkeypatch, conn_id):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")
    (number,) = service.control.simulation(pending=0, running=0)
    found = {}

    async def story(waits):
        monkeypatch.setitem(pollers._pollers, asyncio.get_running_loop(), waits.pollers)
        waiting = asyncio.create_task(kind_of_event(CloudHPCSimulationTrigger(number, conn_id)))
        begun = waits.clock.time()
        while not waiting.done():
            await asyncio.sleep(0.05)  # connections are read in a thread, in real time
            await waits.advance(0.25)
        found.update(kind=waiting.result(), seconds=waits.clock.time() - begun)

    run(story)
    assert found["kind"] == (EndingKind.COMPLETED if conn_id == "cloudhpc_default" else EndingKind.LOST)
    assert found["seconds"] >= 6.0
