# SPDX-License-Identifier: Apache-2.0
"""Listings that are behind: every ending is found all the same, and no call is refused."""

from __future__ import annotations

import pytest

from airflow_provider_cloudhpc.api.lifecycle import EndingKind

FOR_EVER = 1e9


@pytest.mark.parametrize("lifetime", [600.0, FOR_EVER])
def test_endings_are_found_behind_a_cache_that_is_not_renewed(service, run, put_between, lifetime):
    service.control.set_quota(500)
    put_between(lifetime=lifetime)
    simulations = service.control.simulation(count=60, pending=1, running=None)
    ended = simulations[2::5]

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(300)
        for number in ended:
            service.control.finish(number)
        await waits.advance(2 * 3600)
        assert [number for number in ended if waits.ending(number) is None] == []
        assert [number for number in simulations if waits.tasks[number].done()] == ended

    waits = run(story)
    assert {waits.ending(number).kind for number in ended} == {EndingKind.COMPLETED}
    assert not any(call.status in (403, 429) for call in service.ledger.calls)
    # By one call for each wait and minute they would be thousands.
    assert waits.calls() <= 2.1 * 250


def test_what_the_listing_misses_at_first_is_found(service, run):
    service.control.settings(simulation_lag=1800)
    service.control.set_quota(500)
    old = service.control.simulation(count=30, pending=1, running=None)
    found = {}

    async def story(waits):
        for number in old:
            await waits.begin(number)
        await waits.advance(100)
        found["new"] = service.control.simulation(count=5, pending=1, running=100)
        for number in found["new"]:
            await waits.begin(number)
        listed = [record.id for record in waits.worker.list_simulations(1)]
        assert not set(found["new"]) & set(listed)
        await waits.advance(1200)

    waits = run(story)
    assert {waits.ending(number).kind for number in found["new"]} == {EndingKind.COMPLETED}
    assert waits.calls() <= 5 + 100
