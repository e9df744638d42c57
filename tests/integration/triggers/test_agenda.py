# SPDX-License-Identifier: Apache-2.0
"""What is due is found without asking all, and who has left is kept by nothing."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import weakref

from airflow_provider_cloudhpc.api.lifecycle import Watch
from airflow_provider_cloudhpc.triggers.waits import Agenda, Wait


def waiting(due, deadline=None):
    return Wait(Watch(1, page="", started=0.0, deadline=deadline), "", 60.0, due=due)


def in_a_loop(story):
    async def main():
        return story()

    return asyncio.run(main())


def test_what_is_due_comes_out_at_its_time_however_it_was_moved():
    def story():
        chance, agenda = random.Random(7), Agenda()
        waits = [
            waiting(chance.uniform(0, 100), deadline=chance.choice([None, chance.uniform(0, 100)])) for _ in range(300)
        ]
        for wait in waits:
            agenda.note(wait)
        for wait in waits[::3]:
            wait.due = chance.uniform(0, 100)  # earlier or later
            agenda.note(wait)
        for wait in waits[::7]:
            agenda.forget(wait)
        left = set(waits) - set(waits[::7])
        for now in range(101):
            due = agenda.due(now)
            assert due == {wait for wait in left if wait.acts_at <= now}
            left -= due
        assert left == set()
        assert agenda.next() == math.inf

    in_a_loop(story)


def test_a_look_that_is_not_possible_yet_is_put_off_and_a_deadline_is_not():
    def story():
        agenda, look, ends = Agenda(), waiting(5.0), waiting(5.0, deadline=20.0)
        for wait in (look, ends):
            agenda.note(wait, not_before=50.0)
        assert agenda.due(19.0) == set()
        assert agenda.due(20.0) == {ends}
        assert agenda.due(49.0) == set()
        assert agenda.due(50.0) == {look}

    in_a_loop(story)


def test_a_poller_that_runs_for_weeks_keeps_no_wait_that_has_ended():
    def story():
        agenda, gone = Agenda(), []
        for _ in range(1000):
            wait = waiting(None, deadline=1e9)
            gone.append(weakref.ref(wait))
            agenda.note(wait)
            agenda.forget(wait)
        del wait
        gc.collect()
        assert sum(reference() is not None for reference in gone) <= 101

    in_a_loop(story)
