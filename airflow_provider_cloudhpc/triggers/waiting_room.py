# SPDX-License-Identifier: Apache-2.0
"""The waits of one account: what an answer means for each of them, and when one needs something for itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.triggers.holds import Holds
from airflow_provider_cloudhpc.triggers.waits import Agenda

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_cloudhpc.api.errors import CloudHPCError
    from airflow_provider_cloudhpc.api.lifecycle import Ending
    from airflow_provider_cloudhpc.api.models import Simulation
    from airflow_provider_cloudhpc.api.waiting.pacing import Pace
    from airflow_provider_cloudhpc.triggers.waits import Clock, Wait

#: A clock that differs by so many seconds was set, and does not merely drift.
CLOCK_IS_SET = 2.0


class WaitingRoom:
    """
    All waits of an account, and the decisions about them; it makes no calls.

    :param pace: the plan for the account's calls
    :param clock: the time
    """

    def __init__(self, pace: Pace, clock: Clock) -> None:
        #: Those that have not ended.
        self.waits: set[Wait] = set()
        self.holds = Holds(pace, clock)
        self._agenda = Agenda()
        self._clock = clock
        self._ahead = clock.ahead()
        #: When a look was answered as a whole the last time, and how many were.
        self._heard_at = -math.inf
        self._answers = 0

    @property
    def everyone(self) -> list[Wait]:
        """All waits, those that are held back too."""
        return [*self.waits, *self.holds.waits]

    def __contains__(self, wait: Wait) -> bool:
        return wait in self.waits or wait in self.holds.waits

    def add(self, wait: Wait) -> None:
        """Take a wait in; one that has ended comes from another account, which held it back."""
        if wait.ending is None:
            self.waits.add(wait)
        else:
            self.holds.add(wait)
        self._agenda.note(wait)

    def remove(self, wait: Wait) -> None:
        """Let a wait go."""
        self.waits.discard(wait)
        self.holds.waits.pop(wait, None)
        self._agenda.forget(wait)

    # -- when somebody needs something

    def ask_for_look(self, wait: Wait, when: float) -> None:
        """Have a wait looked at out of turn."""
        wait.due = when
        self._agenda.note(wait)

    def next(self) -> float:
        """When something is to be done for one of them alone; infinite for never."""
        return self._agenda.next()

    def due(self) -> set[Wait]:
        """Take out those for which something is to be done now: :meth:`keep_time` puts them down again."""
        ahead = self._clock.ahead()
        if abs(ahead - self._ahead) > CLOCK_IS_SET:
            self._ahead = ahead
            for wait in self.everyone:  # its deadline may come earlier now
                self._agenda.note(wait)
        return self._agenda.due(self._clock.time())

    def keep_time(self, waits: Iterable[Wait], not_before: float = -math.inf) -> None:
        """
        End those whose deadline has passed, and put the others down for what they need next.

        :param not_before: when a look is possible
        """
        now = self._clock.time()
        self._decide([wait for wait in waits if wait in self], lambda wait: wait.watch.check_deadline(now), not_before)

    # -- what happens

    def seen(self, records: Iterable[Simulation], outlook: str) -> None:
        """
        Take in what is known of simulations now.

        :param outlook: what is planned next, for the log
        """
        now = self._clock.time()
        by_id = {record.id: record for record in records}
        for wait in [wait for wait in self.waits if wait.simulation_id in by_id]:
            record = by_id[wait.simulation_id]
            if record.is_terminal and wait.follower is not None and record.output is None:
                self.ask_for_look(wait, now)  # its last lines are still to be told
            else:
                self._decide([wait], lambda wait: wait.watch.seen(by_id[wait.simulation_id], now, outlook))

    def answered(self, waits: Iterable[Wait], due: Iterable[Wait], outlook: str) -> None:
        """
        Take in that a look was answered as a whole.

        :param waits: whom it was made for
        :param due: those of them that had asked for it; the others hear of it when they have to know
        :param outlook: what is planned next, for the log
        """
        now = self._clock.time()
        self._heard_at, self._answers = now, self._answers + 1
        for wait in due:
            wait.watch.heard(now)
        for wait in waits:
            if wait.watch.heartbeat_at <= now and wait in self.waits:
                wait.watch.beat(now, outlook)

    def missed(self, error: CloudHPCError, waits: Iterable[Wait]) -> None:
        """Take in that a look at some of them failed."""
        now = self._clock.time()

        def missed(wait: Wait) -> Ending | None:
            wait.watch.heard(self._heard_at)
            return wait.watch.missed(error, now)

        self._decide(waits, missed)

    def refused(self, said: str) -> None:
        """Tell, once a pause, that the account's calls are used up."""
        for wait in self.everyone:
            if wait.told_pause != self._answers:
                wait.watch.tell(said)
                wait.told_pause = self._answers

    def hand_over(self, calls: int) -> None:
        """Hand held endings over as far as there are calls for their last reads."""
        for wait in self.holds.hand_over(calls):
            self._agenda.forget(wait)

    def end_all(self, error: Exception | None = None) -> None:
        """End all waits that there are: by an error, or by cancelling them."""
        for wait in self.everyone:
            if error is not None and not wait.future.done():
                wait.future.set_exception(error)
            wait.future.cancel()
            self.remove(wait)

    def _decide(
        self, waits: Iterable[Wait], decide: Callable[[Wait], Ending | None], not_before: float = -math.inf
    ) -> None:
        """Let waits decide: those that have ended leave or are held back, the others are noted for what they need."""
        for wait in list(waits):
            if wait.ends(decide, wait):
                self.remove(wait)
                continue
            if wait.ending is not None and wait in self.waits:
                self.waits.discard(wait)
                self.holds.add(wait)
            self._agenda.note(wait, not_before)
