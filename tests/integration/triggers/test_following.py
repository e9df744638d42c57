# SPDX-License-Identifier: Apache-2.0
"""``follow_output`` on simulated time: new lines once each, within the plan, and only so many bytes."""

from __future__ import annotations

import pytest

from airflow_provider_cloudhpc.api.lifecycle import EndingKind
from airflow_provider_cloudhpc.api.models import LaunchRequest


@pytest.fixture
def simulation(service):
    """An FDS run whose output grows."""
    service.control.file("case/case.fds", b"&HEAD CHID='case' /\n&MESH IJK=8,8,8 /\n&TIME T_END=60. /\n&TAIL /\n")

    def launch(waits):
        return waits.worker.add_simulation(LaunchRequest(4, "highcpu", "fds6.9.1", "case"))

    return launch


def output_of(waits, number):
    return waits.worker.view_simulation(number).output.splitlines()


def solver_lines(waits, number):
    """What was told of the output: the lines that are no words of the wait itself."""
    told = "\n".join(waits.lines[number]).splitlines()
    return [line for line in told if not line.startswith((f"Simulation {number} ", "The "))]


def test_each_line_once_and_one_call_a_look(service, run, simulation):
    found = {}

    async def story(waits):
        number = found["id"] = simulation(waits)
        before = waits.calls()
        await waits.begin(number, resumed=False)
        await waits.advance(1500)
        found["looks"] = waits.calls() - before
        found["output"] = output_of(waits, number)

    waits = run(story)
    assert waits.ending(found["id"]).kind is EndingKind.COMPLETED
    assert solver_lines(waits, found["id"]) == found["output"]
    assert len([line for line in waits.lines[found["id"]] if not line.startswith("Simulation ")]) >= 2  # bit by bit
    taken = waits.ended_at[found["id"]] - waits.emulator.ledger.launches[0].time
    assert found["looks"] <= taken / 60 + 2


def test_after_a_restart_a_marker_and_the_last_lines(service, run, simulation):
    found = {}

    async def story(waits):
        number = found["id"] = simulation(waits)
        await waits.begin(number, resumed=False)
        await waits.advance(150)
        await waits.restart()
        found["before"], waits.lines[number][:] = solver_lines(waits, number), []
        await waits.begin(number, resumed=True)
        await waits.advance(1500)
        found["output"] = output_of(waits, number)

    waits = run(story)
    marker, *after = solver_lines(waits, found["id"])
    assert marker == "--- the wait went on in a new process; the last 20 lines so far:"
    # At most twenty lines a second time, and then every one to the end.
    again = len(found["before"]) + len(after) - len(found["output"])
    assert 0 <= again <= 20
    assert after == found["output"][-len(after) :]


def test_a_long_output_is_not_read_beyond_five_megabytes_and_the_wait_goes_on(service, run):
    (number,) = service.control.simulation(pending=1, running=None)

    async def story(waits):
        await waits.begin(number, resumed=False)
        await waits.advance(100)
        service.control.finish(number, output="äöü " * 1_000_000)
        await waits.advance(200)

    waits = run(story)
    assert waits.ending(number).kind is EndingKind.COMPLETED
    assert "--- the output is longer than 5 MB and is not followed any further" in waits.lines[number][-2]
    assert sum(len(line.encode()) for line in waits.lines[number]) < 5_100_000
