# SPDX-License-Identifier: Apache-2.0
"""The call with which a worker reads a run's output at the end is part of the plan: endings wait until there is one."""

from __future__ import annotations

import pytest

from airflow_provider_cloudhpc.api.lifecycle import EndingKind
from tests.integration.connection import connect

HOUR = 3600.0


def refused(emulator):
    return sum(call.status in (403, 429) for call in emulator.ledger.calls)


def check_all_read(waits, simulations):
    """Whether every ending was delivered, every output read, no call refused, and the reserve left alone."""
    assert [number for number in simulations if waits.ending(number) is None] == []
    assert {waits.ending(number).kind for number in simulations} == {EndingKind.COMPLETED}
    assert sorted(waits.read) == simulations
    assert refused(waits.emulator) == 0


@pytest.mark.parametrize("window", ["fixed", "rolling"])
def test_many_endings_on_few_calls_wait_for_their_reads(service, run, window):
    service.control.set_quota(60, window=window)
    simulations = service.control.simulation(count=110, pending=1, running=600)

    async def story(waits):
        for simulation in simulations:
            await waits.begin(simulation, reads=True)
        await waits.advance(4 * HOUR)

    waits = run(story)
    check_all_read(waits, simulations)
    # 110 reads on 55 calls an hour, and few polls beside them.
    assert waits.calls() - len(simulations) <= 60
    held = [line for lines in waits.lines.values() for line in lines if "its last read waits for calls" in line]
    assert 50 <= len({line.split(" has ended")[0] for line in held}) < 110
    assert "until about 2" in held[0]
    assert "of 60 calls left this hour" in held[0]


def test_where_calls_are_ample_nothing_is_held_back(service, run):
    service.control.set_quota(500)
    simulations = service.control.simulation(count=100, pending=1, running=600)

    async def story(waits):
        for number in simulations:
            await waits.begin(number, reads=number % 2 == 0)
        await waits.advance(1000)

    waits = run(story)
    assert len(set(waits.ended_at.values())) <= 2
    assert max(waits.ended_at.values()) - min(waits.ended_at.values()) < 90
    assert refused(waits.emulator) == 0


def test_only_what_causes_a_read_is_held_back(service, run):
    reads, asks_not, late = service.control.simulation(count=3, pending=1, running=None)

    async def story(waits):
        await waits.begin(reads, reads=True)
        await waits.begin(asks_not)
        await waits.begin(late, reads=True, deadline=waits.clock.time() + 300)
        await waits.advance(70)
        service.control.set_quota(100, hourly_used=93)  # one call before the reserve: for the next look
        service.control.finish(reads)
        service.control.finish(asks_not)
        await waits.advance(HOUR / 2)
        assert waits.ending(reads) is None
        assert waits.ending(asks_not).kind is EndingKind.COMPLETED
        assert waits.ending(late).kind is EndingKind.DEADLINE
        await waits.advance(HOUR)

    waits = run(story)
    assert waits.ending(reads).kind is EndingKind.COMPLETED
    assert refused(waits.emulator) == 0


def test_a_held_ending_is_handed_over_at_the_deadline_as_what_it_is(service, run):
    (simulation,) = service.control.simulation(pending=1, running=100)

    async def story(waits):
        # Neither the deadline nor the limit, which it would have reached by then, says how it ended.
        await waits.begin(simulation, reads=True, deadline=waits.clock.time() + 1200, max_vcpu_hours=0.1)
        await waits.advance(70)
        service.control.set_quota(100, hourly_used=93)
        await waits.advance(1129)
        assert waits.ending(simulation) is None
        await waits.advance(60)

    waits = run(story)
    assert waits.ending(simulation).kind is EndingKind.COMPLETED


def test_a_triggerer_that_is_killed_meanwhile_forgets_none(service, run):
    service.control.set_quota(100)
    simulations = service.control.simulation(count=120, pending=1, running=600)

    async def story(waits):
        for _ in range(2):
            for simulation in simulations:
                if simulation not in waits.ended_at:
                    await waits.begin(simulation, reads=True)
            await waits.advance(1500)
            assert 0 < len(waits.ended_at) < len(simulations)
            await waits.restart()
        for simulation in simulations:
            if simulation not in waits.ended_at:
                await waits.begin(simulation, reads=True)
        await waits.advance(2 * HOUR)
        assert sorted(waits.ended_at) == simulations

    waits = run(story)
    assert sorted(waits.read) == simulations
    assert refused(waits.emulator) == 0


@pytest.mark.parametrize("window", ["fixed", "rolling"])
def test_two_triggerers_share_the_calls_for_their_reads(service, run, window):
    service.control.set_quota(100, window=window)
    simulations = service.control.simulation(count=140, pending=1, running=600)

    async def story(waits):
        for number in simulations:
            await waits.begin(number, reads=True, triggerer=number % 2)
        await waits.advance(4 * HOUR)

    check_all_read(run(story, triggerers=2), simulations)


def test_a_refusal_ends_no_hold(service, run):
    service.control.set_quota(100, hourly_used=80)
    simulations = service.control.simulation(count=40, pending=1, running=100)

    async def story(waits):
        for number in simulations:
            await waits.begin(number, reads=True)
        await waits.advance(60)
        service.control.set_quota(100, hourly_used=100)  # another program took them all
        await waits.advance(2.5 * HOUR)

    waits = run(story)
    assert sorted(waits.read) == simulations
    assert refused(waits.emulator) <= 2
    assert not any(isinstance(record, Exception) for record in waits.read.values())


def test_a_key_that_is_rotated_meanwhile_ends_no_hold(service, run, monkeypatch):
    service.control.set_quota(100)
    simulations = service.control.simulation(count=60, pending=1, running=100)

    async def story(waits):
        for number in simulations:
            await waits.begin(number, reads=True)
        await waits.advance(100)
        service.control.set_quota(hourly_used=91)
        await waits.advance(300)
        assert any("its last read waits for calls" in line for lines in waits.lines.values() for line in lines)
        connect(monkeypatch, service, key=service.control.rotate_key())
        del waits.worker
        await waits.advance(3 * HOUR)

    waits = run(story)
    assert {waits.ending(number).kind for number in simulations} == {EndingKind.COMPLETED}
    assert sorted(waits.read) == simulations
    assert not any(isinstance(record, Exception) for record in waits.read.values())
