# SPDX-License-Identifier: Apache-2.0
"""The machine's clock is set while a wait goes on: the looks keep their pace, the deadline keeps to the clock."""

from __future__ import annotations

import pytest

from airflow_provider_cloudhpc.api.lifecycle import EndingKind, Watch, moment
from airflow_provider_cloudhpc.api.waiting.in_process import wait_for_end

DAY = 86_400.0


@pytest.mark.parametrize("jump", [-1000.0, 1000.0, -DAY, DAY])
def test_the_deadline_is_kept_by_the_clock_and_the_looks_by_their_interval(service, run, jump):
    ends, goes_on = service.control.simulation(count=2, pending=1, running=None)
    found = {}

    async def story(waits):
        begun = found["begun"] = waits.clock.time()
        await waits.begin(ends, deadline=begun + 3000)
        await waits.begin(goes_on, patience=600)
        await waits.advance(600)
        waits.clock.set_forward(jump)
        before = waits.calls()
        await waits.advance(1200)
        found["looks"] = waits.calls() - before
        await waits.advance(min(3000.0 - jump, 6000.0))
        assert waits.ending(goes_on) is None
        found["ended"] = waits.ending(ends) is not None

    waits = run(story)
    assert found["ended"] is (jump > -DAY)
    if found["ended"]:
        assert waits.ending(ends).kind is EndingKind.DEADLINE
        due = max(600.0, 3000 - jump)
        assert due <= waits.ended_at[ends] - found["begun"] <= due + 90
    assert 12 <= found["looks"] <= 45  # two waits: two views at 72 s for each call, about
    assert not any("ost sight" in line for line in waits.lines[goes_on])


def test_times_are_told_by_the_clock_of_the_machine(service, run):
    (number,) = service.control.simulation(pending=1, running=None)
    found = {}

    async def story(waits):
        await waits.begin(number)
        await waits.advance(100)
        waits.clock.set_forward(2 * DAY)
        service.control.fault("rate_limit", retry_after=900)
        await waits.advance(70)
        found["day"] = moment(waits.clock.time() + 2 * DAY)[:10]

    waits = run(story)
    (told,) = [line for line in waits.lines[number] if "pause until" in line]
    assert f"until {found['day']}" in told


@pytest.mark.parametrize("jump", [-DAY, 1000.0])
def test_a_wait_in_a_worker_keeps_both_too(service, run, jump):
    (number,) = service.control.simulation(pending=1, running=None)

    async def story(waits):
        begun = waits.clock.time()
        watch = Watch(number, page="", started=begun, deadline=begun + 3000, ahead=waits.clock.ahead, patience=600)
        looks = []

        def sleep(seconds):
            looks.append(seconds)
            assert seconds <= 80
            if len(looks) == 10:
                waits.clock.set_forward(jump)
                service.control.fault("html", times=3)
            if len(looks) == 100:
                service.control.finish(number)
            waits.clock.sleep(seconds)

        ending = wait_for_end(watch, lambda anew: waits.worker, waits.clock, sleep=sleep)
        if jump > 0:
            assert ending.kind is EndingKind.DEADLINE
            assert waits.clock.time() - begun == pytest.approx(2000, abs=90)
        else:
            assert ending.kind is EndingKind.COMPLETED

    run(story)
