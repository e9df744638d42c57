# SPDX-License-Identifier: Apache-2.0
"""Endings that are held back until the account has a call for the read that each of them causes."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.lifecycle import moment
from airflow_provider_cloudhpc.api.waiting.pacing import BATCH_PAUSE

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.api.waiting.pacing import Pace
    from airflow_provider_cloudhpc.triggers.waits import Clock, Wait

#: Seconds between two regular looks at the least while endings wait for calls: more of them could not be told earlier.
HELD_INTERVAL = 600.0


class Holds:
    """
    Waits of an account that have ended and are held back, in order.

    :param pace: says how many calls are free for their tasks
    :param clock: the time
    """

    def __init__(self, pace: Pace, clock: Clock) -> None:
        self.waits: dict[Wait, None] = {}
        #: When they are thought of next: seconds since the epoch.
        self.next_batch = -math.inf
        self._pace = pace
        self._clock = clock
        #: How many calls had been made when the counters were asked for the last batch; None before the first.
        self._asked_after: int | None = None
        #: When one of them is to be told until when it is held.
        self._tell_at = -math.inf

    def add(self, wait: Wait) -> None:
        """Hold a wait back."""
        self.waits[wait] = None
        self._tell_at = -math.inf

    def hand_over(self, calls: int) -> list[Wait]:
        """
        Hand endings over as far as there are calls for their last reads, and tell the others when, about.

        :param calls: how many calls have been made: the counters are asked again only after a new one
        :return: the waits that are over
        """
        now = self._clock.time()
        over: list[Wait] = []
        if self.waits and (self._asked_after is None or (calls > self._asked_after and now >= self.next_batch)):
            over = list(islice(self.waits, self._pace.promise(len(self.waits), now)))
            for wait in over:
                wait.hand_over()
                del self.waits[wait]
            if self.waits:
                worth_it = self._pace.next_promise(len(self.waits), now)
                self.next_batch = max(now + BATCH_PAUSE, min(worth_it, now + HELD_INTERVAL))
                self._asked_after = calls
        if not self.waits:
            self._asked_after, self.next_batch = None, math.inf
        elif now >= self._tell_at:
            self._tell(now)
        return over

    def _tell(self, now: float) -> None:
        """Tell those that were told nothing yet, or a time that has passed."""
        untold = {place: wait for place, wait in enumerate(self.waits) if wait.told_until <= now}
        for wait, until in zip(untold.values(), self._pace.promise_times(untold, now), strict=True):
            wait.told_until = max(until, self.next_batch, now + BATCH_PAUSE)
            wait.watch.tell(
                f"Simulation {wait.simulation_id} has ended; its last read waits for calls until about "
                f"{moment(wait.told_until + self._clock.ahead())} ({self._pace.quota or 'calls are refused'})."
            )
        self._tell_at = min(wait.told_until for wait in self.waits)
