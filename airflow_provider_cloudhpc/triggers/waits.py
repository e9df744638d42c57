# SPDX-License-Identifier: Apache-2.0
"""One wait of an account, and the time that waits live in."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.lifecycle import ENDED_KINDS
from airflow_provider_cloudhpc.api.waiting.clock import SteadyClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cloudhpc.api.lifecycle import Ending, Watch
    from airflow_provider_cloudhpc.api.waiting.following import OutputFollower

log = logging.getLogger(__name__)


class Clock(SteadyClock):
    """The time that a poller lives in."""

    async def pause(self, seconds: float, wake: asyncio.Event) -> None:
        """Sleep until the seconds are over or the event is set."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), max(0.0, seconds))


@dataclass(eq=False)
class Wait:
    """
    One wait of the account.

    :param watch: decides what an answer means for it
    :param conn_id: the connection it came by, to be read again where the key is refused
    :param poll_interval: seconds between two looks that it asks for at the least
    :param follower: tells the output's new lines; None for none
    :param reads: whether its task reads the run's output at the end, for which a call of the account has to be free
    :param due: when it is to be looked at out of turn; None for not
    """

    watch: Watch
    conn_id: str
    poll_interval: float
    follower: OutputFollower | None = None
    reads: bool = False
    due: float | None = None
    #: How it ended; held back until there is a call for the last read.
    ending: Ending | None = None
    #: Until when it was told to be held back.
    told_until: float = -math.inf
    #: After how many answered looks it was told that the account's calls are used up.
    told_pause: int = -1
    future: asyncio.Future[Ending] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def __post_init__(self) -> None:
        #: What is waited for.
        self.simulation_id = self.watch.simulation_id

    @property
    def acts_at(self) -> float:
        """When something is to be done for it alone; infinite for never."""
        times = [self.watch.deadline]
        if self.ending is None:
            times += [self.due, self.watch.confirm_at]
        return min((when for when in times if when is not None), default=math.inf)

    def ends(self, decide: Callable[..., Ending | None], *arguments: Any) -> bool:
        """
        Let its watch decide, and hand over the ending, if it is one; whether the wait is over.

        An ending that causes a last read is kept in ``ending`` at first; what would end the wait then hands it over.
        """
        if self.future.done():
            return True
        try:
            ending = decide(*arguments)
        except Exception as error:  # it must not end the others' waits
            log.exception("The wait for simulation %s broke", self.simulation_id)
            self.future.set_exception(error)
            return True
        if ending is None:
            return False
        if self.ending is None:
            self.ending = ending
            if self.reads and ending.kind in ENDED_KINDS:
                return False
        self.hand_over()
        return True

    def hand_over(self) -> None:
        """Give the ending to whom it belongs."""
        if self.ending is not None and not self.future.done():
            self.future.set_result(self.ending)


class Agenda:
    """When something is to be done for one wait alone: what is due is found without asking all of them."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Wait]] = []
        self._order = itertools.count()
        self._noted: dict[Wait, float] = {}

    def note(self, wait: Wait, not_before: float = -math.inf) -> None:
        """
        Put a wait down for its time, or keep it where it is down earlier.

        :param not_before: when a look at it is possible; its deadline is kept whatever that is
        """
        deadline = wait.watch.deadline
        when = max(wait.acts_at, min(not_before, math.inf if deadline is None else deadline))
        if when < self._noted.get(wait, math.inf):
            self._noted[wait] = when
            heapq.heappush(self._entries, (when, next(self._order), wait))

    def forget(self, wait: Wait) -> None:
        """Take a wait out."""
        self._noted.pop(wait, None)
        if len(self._entries) > 2 * len(self._noted) + 100:  # most of them stand for nothing any more
            self._entries = [(when, next(self._order), wait) for wait, when in self._noted.items()]
            heapq.heapify(self._entries)

    def next(self) -> float:
        """When the next of them is due, or is to be asked again; infinite for never."""
        while self._entries and self._noted.get(self._entries[0][2]) != self._entries[0][0]:
            heapq.heappop(self._entries)
        return self._entries[0][0] if self._entries else math.inf

    def due(self, now: float) -> set[Wait]:
        """Take out what is due: each of them is to be noted again, or forgotten."""
        due = set()
        while self.next() <= now:
            wait = heapq.heappop(self._entries)[2]
            del self._noted[wait]
            if wait.acts_at <= now:
                due.add(wait)
            else:
                self.note(wait)
        return due
