# SPDX-License-Identifier: Apache-2.0
"""One wait of an account, and the time that waits live in."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.lifecycle import ENDED_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cloudhpc.api.lifecycle import Ending, Watch
    from airflow_provider_cloudhpc.api.waiting.following import OutputFollower

log = logging.getLogger(__name__)


class Clock:
    """The time that a poller lives in: the machine's."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

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
    #: Whether it was told that the account's calls are used up.
    told_pause: bool = False
    future: asyncio.Future[Ending] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    @property
    def simulation_id(self) -> int:
        """What is waited for."""
        return self.watch.simulation_id

    @property
    def follows(self) -> bool:
        """Whether it needs the output, and so calls of its own."""
        return self.follower is not None

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
