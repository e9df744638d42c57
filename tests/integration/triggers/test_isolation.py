# SPDX-License-Identifier: Apache-2.0
"""What breaks in one wait ends that one alone."""

from __future__ import annotations

from airflow_provider_cloudhpc.api.lifecycle import EndingKind


def test_a_wait_that_breaks_ends_no_other(service, run):
    broken, other = service.control.simulation(count=2, pending=1, running=200)

    async def story(waits):
        # Nothing checks what comes straight from a trigger's row: this is no number.
        await waits.begin(broken, max_vcpu_hours="many")
        await waits.begin(other)
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
