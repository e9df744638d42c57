# SPDX-License-Identifier: Apache-2.0
"""Every ending is found, by few calls, whatever the listings do: random histories of an account."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.models import Simulation, SimulationStatus
from airflow_provider_cloudhpc.api.waiting.board import Board, ListPage

PAGE = 20


def service(records, ask, lie, chance):
    """Answer as the service does, or as one that misleads."""
    if not isinstance(ask, ListPage):
        return [records[ask.simulation_id]]
    field, down = ask.listing.value
    found = sorted(records.values(), key=lambda record: (getattr(record, field), record.id), reverse=down)
    if lie == "disorder":
        chance.shuffle(found)
    if lie == "omits":
        found = [record for record in found if record.id % 7]
    page = 1 if lie == "repeats" else ask.page
    return found[(page - 1) * PAGE : page * PAGE]


@pytest.mark.parametrize("lie", ["", "disorder", "omits", "repeats"])
@settings(max_examples=40)
@given(waits=st.integers(1, 150), foreign=st.integers(0, 100), rate=st.floats(0.0, 0.3), seed=st.integers(0, 10**6))
def test_every_ending_is_found(lie, waits, foreign, rate, seed):
    chance = random.Random(seed)
    records = {number: Simulation(number, SimulationStatus.RUNNING) for number in range(1, waits + foreign + 1)}
    wanted = set(chance.sample(sorted(records), waits))
    board = Board()
    for minute in range(400):
        now = 1e9 + 60.0 * minute
        for number, record in records.items():
            if not record.is_terminal and (chance.random() < rate or minute > 30):
                records[number] = Simulation(number, SimulationStatus.COMPLETED, edate=f"2026-11-25 {minute:08d}")
        look, answer = board.look(wanted, now), None
        active, mine = len(wanted), 0
        try:
            while True:
                ask = look.send(answer)
                mine += 1
                answer = service(records, ask, lie, chance)
                wanted -= {record.id for record in answer if record.is_terminal}
        except StopIteration:
            pass
        # Pages that mislead cost some more once; never much more than one call for each.
        assert mine <= 2 * active + 8
        if not wanted:
            break
    assert not wanted
