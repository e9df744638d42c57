# SPDX-License-Identifier: Apache-2.0
"""The poller against the emulator, on simulated time."""

from __future__ import annotations

from airflow_provider_cloudhpc.api.lifecycle import EndingKind

HOUR = 3600.0


def test_one_wait_is_one_view_an_interval(service, run):
    (simulation,) = service.control.simulation(pending=60, running=1000)

    async def story(waits):
        await waits.begin(simulation, poll_interval=120)
        await waits.advance(1300)

    waits = run(story)
    assert waits.ending(simulation).kind is EndingKind.COMPLETED
    assert waits.calls() == waits.calls("GET simulation/view-short/*") <= 1 + 1060 // 120 + 1
    assert [line for line in waits.lines[simulation] if " is " in line][:2] == [
        f"Simulation {simulation} is PENDING",
        f"Simulation {simulation} is RUNNING after 2 min of PENDING",
    ]


def test_forty_waits_share_one_listing(service, run):
    simulations = service.control.simulation(count=40, pending=1, running=3000)

    async def story(waits):
        for simulation in simulations:
            await waits.begin(simulation)
        await waits.advance(HOUR)

    waits = run(story)
    assert {waits.ending(simulation).kind for simulation in simulations} == {EndingKind.COMPLETED}
    assert all(waits.ended_at[simulation] - min(waits.ended_at.values()) < 120 for simulation in simulations)
    # One by one every minute they would be 40 * 50.
    assert waits.calls() < 40 * 50 / 15


def test_a_wait_that_joins_takes_what_is_known_and_makes_no_call(service, run):
    service.control.set_quota(500)
    known = service.control.simulation(count=30, pending=1, running=None)
    (unknown,) = service.control.simulation(pending=1, running=None)

    async def story(waits):
        for number in known:
            await waits.begin(number)
        await waits.advance(100)
        before = waits.calls()
        waits.lines[known[0]].clear()
        await waits.begin(known[0])
        assert waits.lines[known[0]] == [f"Simulation {known[0]} is RUNNING"]
        assert waits.calls() == before
        # What nobody has seen is looked at soon, by one call.
        await waits.begin(unknown, poll_interval=600)
        await waits.advance(59)
        assert f"Simulation {unknown} is RUNNING" in waits.lines[unknown]

    run(story)
