# SPDX-License-Identifier: Apache-2.0
"""Every ending is found, by few calls, whatever the listings do: random histories of an account."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.models import Simulation, SimulationStatus
from airflow_provider_cloudhpc.api.waiting.board import DISTRUST, Board, Listing, ListPage

PAGE = 20


#: How many minutes a listing is behind that comes from a cache.
BEHIND = {"lags": 10, "frozen": 10_000}


def service(history, ask, lie, chance):
    """Answer as the service does, or as one that misleads; ``history`` is the records of each minute so far."""
    records = history[-1]
    if not isinstance(ask, ListPage):
        return [records[ask.simulation_id]]
    field, down = ask.listing.value
    records = history[max(0, len(history) - 1 - BEHIND.get(lie, 0))]
    found = sorted(records.values(), key=lambda record: (getattr(record, field), record.id), reverse=down)
    if lie == "disorder":
        chance.shuffle(found)
    if lie == "omits":
        found = [record for record in found if record.id % 7]
    page = 1 if lie == "repeats" else ask.page
    return found[(page - 1) * PAGE : page * PAGE]


@pytest.mark.parametrize("lie", ["", "disorder", "omits", "repeats", "lags", "frozen"])
@settings(max_examples=40)
@given(waits=st.integers(1, 150), foreign=st.integers(0, 100), rate=st.floats(0.0, 0.3), seed=st.integers(0, 10**6))
def test_every_ending_is_found(lie, waits, foreign, rate, seed):
    chance = random.Random(seed)
    records = {number: Simulation(number, SimulationStatus.RUNNING) for number in range(1, waits + foreign + 1)}
    wanted = set(chance.sample(sorted(records), waits))
    board, history = Board(), []
    for minute in range(400):
        now = 1e9 + 60.0 * minute
        for number, record in records.items():
            if not record.is_terminal and (chance.random() < rate or minute > 30):
                records[number] = Simulation(number, SimulationStatus.COMPLETED, edate=f"2026-11-25 {minute:08d}")
        history.append(dict(records))
        look, answer = board.look(wanted, now), None
        active, mine = len(wanted), 0
        try:
            while True:
                ask = look.send(answer)
                mine += 1
                answer = service(history, ask, lie, chance)
                wanted -= {record.id for record in answer if record.is_terminal}
        except StopIteration:
            pass
        # Pages that mislead cost some more once; never much more than one call for each.
        assert mine <= 2 * active + 8
        if not wanted:
            break
    assert not wanted


@pytest.mark.parametrize("waits", [15, 60, 200])
def test_a_listing_that_stands_still_is_found_out_though_few_have_ended(waits):
    running = {number: Simulation(number, SimulationStatus.RUNNING) for number in range(1, waits + 1)}
    ended = {n: Simulation(n, SimulationStatus.COMPLETED, edate="2026-11-25 10:00:05") for n in range(3, waits, 6)}
    history, board, wanted, looks, calls = [running, running | ended], Board(), set(running), 0, 0
    while wanted & set(ended):
        look, answer = board.look(wanted, 1e9 + 60.0 * looks), None
        looks += 1
        try:
            while True:
                ask = look.send(answer)
                calls += 1
                answer = service(history, ask, "frozen", random.Random(0))
                wanted -= {record.id for record in answer if record.is_terminal}
        except StopIteration:
            pass
        assert looks <= 4 * 60
    assert calls <= 5 * looks + 2 * waits


def asks_of(board, wanted, now, answers):
    """Make one look, and give what was asked."""
    look, asks, answer = board.look(wanted, now), [], None
    try:
        while True:
            asks.append(look.send(answer))
            answer = answers(asks[-1])
    except StopIteration:
        return asks


def test_a_listing_that_is_out_of_order_is_left_aside_for_an_hour():
    running = {number: Simulation(number, SimulationStatus.RUNNING) for number in range(1, 41)}
    ended = {n: Simulation(n, SimulationStatus.COMPLETED, edate=f"2026-11-25 10:00:{n}") for n in range(41, 60)}
    chance, board = random.Random(0), Board()

    def asked_for_active_ones(now):
        asks = asks_of(board, set(running), now, lambda ask: service([running | ended], ask, "disorder", chance))
        return any(isinstance(ask, ListPage) and ask.listing is Listing.ACTIVE_FIRST for ask in asks)

    moments = [0, 60, DISTRUST - 1, DISTRUST + 1]
    assert [asked_for_active_ones(1e9 + moment) for moment in moments] == [True, False, False, True]


def test_what_has_ended_is_not_taken_for_running_by_an_older_page():
    running = {number: Simulation(number, SimulationStatus.RUNNING) for number in (1, 2, 3)}
    board = Board()
    asks_of(board, {1}, 1e9, lambda ask: [Simulation(1, SimulationStatus.COMPLETED)])
    asks_of(board, set(running), 1e9 + 60, lambda ask: service([running], ask, "", random.Random(0)))
    assert board.fresh(1, 0).is_terminal
    assert not board.fresh(2, 1e9 + 60).is_terminal
