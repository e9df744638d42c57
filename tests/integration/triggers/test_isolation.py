# SPDX-License-Identifier: Apache-2.0
"""What breaks in one wait ends that one alone; what breaks for all is outlived."""

from __future__ import annotations

import pytest

from airflow_provider_cloudhpc.api.lifecycle import EndingKind


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("wrong", [{"max_vcpu_hours": "many"}, {"deadline": "soon"}, {"poll_interval": "often"}])
def test_a_wait_that_breaks_ends_no_other(service, run, wrong, first):
    broken, other = service.control.simulation(count=2, pending=1, running=200)

    async def story(waits):
        # Nothing checks what comes straight from a trigger's row: this is no number.
        for number in (broken, other) if first else (other, broken):
            await waits.begin(number, **(wrong if number == broken else {}))
        await waits.advance(400)

    waits = run(story)
    assert isinstance(waits.tasks[broken].exception(), TypeError)
    assert waits.ending(other).kind is EndingKind.COMPLETED


def test_limits_end_a_wait_in_time(service, run):
    (simulation,) = service.control.simulation(cpu=4, pending=100, running=None)

    async def story(waits):
        await waits.begin(simulation, max_vcpu_hours=2)
        await waits.advance(2500)

    waits = run(story)
    assert waits.ending(simulation).kind is EndingKind.LIMIT
    begun = waits.emulator.ledger.launches[0].time
    # Four vCPUs use two hours in 1800 s of running; that it runs is seen a little late.
    assert 1900 <= waits.ended_at[simulation] - begun <= 2000


def test_what_cannot_be_seen_ends_its_own_wait_alone(service, run):
    (other,) = service.control.simulation(pending=1, running=1000)
    gone = other + 1000

    async def story(waits):
        await waits.begin(gone)
        await waits.begin(other)
        await waits.advance(1500)

    waits = run(story)
    assert waits.ending(gone).kind is EndingKind.LOST
    assert waits.ending(other).kind is EndingKind.COMPLETED


def test_an_outage_is_outlived_and_a_longer_one_loses_sight(service, run):
    patient, impatient = service.control.simulation(count=2, pending=1, running=4000)

    async def story(waits):
        await waits.begin(patient, patience=7200)
        await waits.begin(impatient, patience=600)
        await waits.advance(100)
        outage = service.control.fault("unavailable", times=None)
        before = waits.calls()
        await waits.advance(3000)
        # One by one every minute they would be a hundred.
        assert waits.calls() - before < 15
        service.control.clear_faults(outage)
        await waits.advance(2500)

    waits = run(story)
    assert waits.ending(patient).kind is EndingKind.COMPLETED
    ending = waits.ending(impatient)
    assert ending.kind is EndingKind.LOST
    assert "last seen: RUNNING at" in ending.message
    assert "may still run and BILL" in ending.message


def test_heartbeats_tell_how_long_and_what_comes_next(service, run):
    (number,) = service.control.simulation(pending=1, running=None)

    async def story(waits):
        await waits.begin(number)
        await waits.advance(4 * 3600)

    told = [line for line in run(story).lines[number] if "waiting for" in line]
    assert 4 <= len(told) <= 8
    assert all("RUNNING for" in line and "next look in about" in line and "calls left" in line for line in told)


def test_an_overloaded_service_is_left_alone_as_long_as_it_asks_for(service, run):
    (number,) = service.control.simulation(pending=1, running=2000)

    async def story(waits):
        await waits.begin(number)
        await waits.advance(100)
        service.control.fault("unavailable", retry_after=900)
        await waits.advance(70)
        before = waits.calls()
        await waits.advance(800)
        assert waits.calls() == before
        await waits.advance(2000)

    assert run(story).ending(number).kind is EndingKind.COMPLETED


def test_a_record_whose_every_look_breaks_loses_sight_of_no_other(service, run, put_between):
    service.control.set_quota(500)
    broken, *others = service.control.simulation(count=6, pending=1, running=3 * 3600)
    put_between(broken=["index-short", f"view-short/{broken}"])

    async def story(waits):
        for number in [broken, *others]:
            await waits.begin(number)
        await waits.advance(4 * 3600)

    waits = run(story)
    assert waits.ending(broken).kind is EndingKind.LOST
    assert {waits.ending(number).kind for number in others} == {EndingKind.COMPLETED}
    assert max(waits.ended_at[number] for number in others) - service.ledger.launches[0].time < 3.2 * 3600


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("status", [302, 403, 404])
def test_a_page_of_something_else_between_is_an_outage_and_no_answer(service, run, count, status):
    service.control.set_quota(500)
    simulations = service.control.simulation(count=count, pending=1, running=3000)

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(100)
        portal = service.control.fault("html", times=None, status=status)
        before = waits.calls()
        await waits.advance(1200)
        assert waits.calls() - before < 10
        service.control.clear_faults(portal)
        await waits.advance(3000)

    waits = run(story)
    assert {waits.ending(number).kind for number in simulations} == {EndingKind.COMPLETED}


def test_what_a_listing_cannot_give_says_nothing_about_a_simulation(service, run):
    service.control.set_quota(500)
    simulations = service.control.simulation(count=30, pending=1, running=3000)

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(100)
        service.control.fault("forbidden", "GET /simulation/index-short/*", times=None)
        await waits.advance(6000)

    waits = run(story)
    assert {waits.ending(number).kind for number in simulations} == {EndingKind.COMPLETED}
    assert not any(call.status == 429 for call in service.ledger.calls)


@pytest.mark.parametrize("count", [1, 30])
def test_nobody_is_sent_away_for_longer_than_a_day(service, run, count):
    simulations = service.control.simulation(count=count, pending=1, running=3000)

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(100)
        service.control.fault("rate_limit", retry_after=1e15)
        await waits.advance(1.2 * 86400)

    waits = run(story)
    assert {waits.ending(number).kind for number in simulations} == {EndingKind.COMPLETED}
