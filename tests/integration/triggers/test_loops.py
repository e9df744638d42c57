# SPDX-License-Identifier: Apache-2.0
"""Event loops come and go under the pollers, as ``dag.test()`` makes one for each trigger."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from airflow_provider_cloudhpc.api.lifecycle import EndingKind
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.triggers.pollers import current_pollers
from airflow_provider_cloudhpc.triggers.simulation import CloudHPCSimulationTrigger
from tests.integration.connection import connect


@pytest.fixture
def cloud(monkeypatch):
    """An emulator in real time, and pauses that a test does not sit out."""
    for name in ("poller.JOIN_PAUSE", "poller.MIN_INTERVAL"):
        monkeypatch.setattr(f"airflow_provider_cloudhpc.triggers.{name}", 0.05)
    monkeypatch.setattr("airflow_provider_cloudhpc.api.waiting.pacing.MIN_INTERVAL", 0.05)
    with CloudHPCEmulator(port=0) as emulator:
        emulator.control.set_quota(0, 0)
        connect(monkeypatch, emulator)
        yield emulator


async def event_of(number):
    trigger = CloudHPCSimulationTrigger(number, poll_interval=0.05)
    async for event in trigger.run():
        return event.payload["kind"], event.payload["simulation_id"]
    raise AssertionError("no event")


def test_every_loop_has_its_own_pollers_and_those_of_a_closed_one_are_dropped(cloud):
    numbers = cloud.control.simulation(count=3, pending=0, running=0.2)
    gone = []

    async def main():
        gone.extend((weakref.ref(asyncio.get_running_loop()), weakref.ref(current_pollers())))
        return await asyncio.gather(*map(event_of, numbers))

    for _ in range(3):
        assert asyncio.run(main()) == [(EndingKind.COMPLETED, number) for number in numbers]

    async def look():
        current_pollers()

    asyncio.run(look())
    gc.collect()
    assert [reference() for reference in gone] == [None] * 6


@pytest.mark.parametrize("cancels", [True, False])
def test_a_loop_that_ends_amid_a_call_leaves_the_next_one_alone(cloud, cancels):
    (number,) = cloud.control.simulation(pending=0, running=None)
    cloud.control.fault("slow", delay=1.0)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(event_of(number))

    async def until_it_calls():
        while cloud.control.faults():
            await asyncio.sleep(0.02)

    loop.run_until_complete(asyncio.wait_for(until_it_calls(), 30))
    if cancels:
        waiting.cancel()
        loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    cloud.control.finish(number)
    assert asyncio.run(event_of(number)) == (EndingKind.COMPLETED, number)
