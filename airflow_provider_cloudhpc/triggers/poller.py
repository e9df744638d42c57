# SPDX-License-Identifier: Apache-2.0
"""
One poller per account and event loop: it makes the calls that answer all waits of the account.

What to ask is decided by :mod:`~airflow_provider_cloudhpc.api.waiting.board`, when by
:mod:`~airflow_provider_cloudhpc.api.waiting.pacing`, and what an answer means for a wait by its
:class:`~airflow_provider_cloudhpc.api.lifecycle.Watch`; here they only meet the network, in threads.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCError,
    CloudHPCQuotaError,
)
from airflow_provider_cloudhpc.api.lifecycle import duration, is_outage, is_said, moment
from airflow_provider_cloudhpc.api.waiting.board import Board, ListPage
from airflow_provider_cloudhpc.api.waiting.following import MOST_FOLLOWED
from airflow_provider_cloudhpc.api.waiting.pacing import HOUR, MIN_INTERVAL, Pace, backoff
from airflow_provider_cloudhpc.triggers.holds import HELD_INTERVAL
from airflow_provider_cloudhpc.triggers.waiting_room import WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_cloudhpc.api.models import Simulation
    from airflow_provider_cloudhpc.api.waiting.board import Ask
    from airflow_provider_cloudhpc.triggers.accounts import Account
    from airflow_provider_cloudhpc.triggers.waits import Clock, Wait

log = logging.getLogger(__name__)

#: Seconds that the first look waits for others to join: a triggerer starts its triggers one after another.
JOIN_PAUSE = 1.0
#: A listing that fails so often in a row is left aside.
LISTING_FAILURES = 2


class Poller:
    """
    Makes the calls of one account's waits; runs as long as there are any.

    :param account: where to call
    :param clock: the time
    :param reread: looks connections up again after the key was refused, and takes away the waits that have a new one
    """

    def __init__(self, account: Account, clock: Clock, reread: Callable[[Poller], Any]) -> None:
        self.pace = Pace(account.quota_share)
        self.room = WaitingRoom(self.pace, clock)
        self._account = account
        self._clock = clock
        self._reread = reread
        self._board = Board()
        self._wake = asyncio.Event()
        self._next_look = clock.time() + JOIN_PAUSE
        #: No look before this, whatever is due.
        self._not_before = -math.inf
        self._last_look: float | None = None
        self._failures = 0
        self._listing_failures = 0
        self._calls = 0
        self._jitter = random.Random()  # noqa: S311 - spreads load, guards nothing

    def join(self, wait: Wait) -> None:
        """Take a wait in: without a call where what is known is fresh enough, else with the next look."""
        now = self._clock.time()
        self._wake.set()
        self.room.add(wait)
        known = self._board.fresh(wait.simulation_id, now - max(MIN_INTERVAL, wait.poll_interval))
        if wait.ending is not None:
            return
        if known is not None and wait.follower is None:
            self._deliver([known])
        else:
            # Not for each newcomer at once: they come in crowds.
            spacing = self.pace.interval(now, 0.0, self._board.expected_calls(len(self.room.waits), now))
            last = now - spacing if self._last_look is None else self._last_look
            self.room.ask_for_look(wait, max(now + JOIN_PAUSE, last + spacing))

    def leave(self, wait: Wait) -> None:
        """Let a wait go."""
        if wait in self.room:
            self.room.remove(wait)
            self._wake.set()

    async def run(self) -> None:
        """Look at the service until the last wait is over; what breaks here is handed to all waits."""
        try:
            while self.room.everyone:
                await self._step()
        except Exception as error:
            log.exception("A poller broke")
            self.room.end_all(error)
        finally:
            self.room.end_all()
            self._account.client.close()

    # -- when -------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        self._wake.clear()
        now = self._clock.time()
        due = self.room.due()
        if self._free(now) <= now:
            if due & self.room.waits or (self.room.waits and now >= self._next_look):
                await self._look(due & self.room.waits)
            elif self.room.holds.waits and now >= self.room.holds.next_batch:
                await self._count()
        self.room.keep_time(due)
        self.room.hand_over(self._calls)
        look = self._next_look if self.room.waits else math.inf
        upcoming = min(look, self.room.next(), self.room.holds.next_batch)
        if upcoming < math.inf:
            await self._sleep_until(max(upcoming, self._free(self._clock.time())))

    async def _sleep_until(self, moment: float) -> None:
        """Sleep until then or until something changes; a deadline is kept also while no call is free."""
        now = self._clock.time()
        if moment > now:
            self.room.keep_time(self.room.due(), not_before=moment)
            await self._clock.pause(min(moment, self.room.next()) - now, self._wake)

    def _free(self, now: float) -> float:
        return max(self.pace.earliest(now), self._not_before)

    def _plan(self, now: float) -> None:
        """Fix the time of the next regular look."""
        listed = {wait.simulation_id for wait in self.room.waits if wait.follower is None}
        followers = sum(wait.follower is not None for wait in self.room.waits)
        calls = followers + self._board.expected_calls(len(listed), now)
        asked = min((wait.poll_interval for wait in self.room.waits), default=0.0)
        pause = self.pace.interval(now, asked, calls)
        if self.room.holds.waits:
            pause = max(pause, HELD_INTERVAL)
        self._next_look = now + pause

    def _outlook(self) -> str:
        left = f"; {self.pace.quota}" if self.pace.quota else ""
        return f"next look in about {duration(self._next_look - self._clock.time())}{left}"

    # -- one look ---------------------------------------------------------------------------------------------

    async def _look(self, due: set[Wait]) -> None:
        started = self._clock.time()
        due = due | {wait for wait in self.room.waits if wait.due is not None}
        regular = started >= self._next_look or len(due) == len(self.room.waits)
        waits = set(self.room.waits) if regular else due
        if regular:
            self._plan(started)
        for wait in due:
            wait.due = None
        self._last_look = started
        try:
            followers = [wait for wait in waits if wait.follower is not None]
            wanted = {wait.simulation_id for wait in waits if wait.follower is None}
            whole = not wanted or await self._ask_board(wanted, regular)
            for wait in followers:
                await self._follow(wait)
        except CloudHPCError as error:
            await self._failed(error)
        else:
            if whole:
                self.room.answered(waits, due, self._outlook())
        now = self._clock.time()
        self._not_before = max(self._not_before, now + JOIN_PAUSE)
        self.room.keep_time(due)
        if regular:
            self._plan(now)

    async def _count(self) -> None:
        """Ask about one that has ended already, only to hear how many calls are left for the last reads."""
        wait = next(iter(self.room.holds.waits))
        try:
            await self._call(self._account.client.view_simulation_short, wait.simulation_id)
        except CloudHPCError as error:
            if is_outage(error) or isinstance(error, CloudHPCAuthError | CloudHPCQuotaError):
                await self._failed(error)
            else:
                self.room.missed(error, [wait])
        else:
            self.room.answered((), (), self._outlook())
        self._not_before = max(self._not_before, self._clock.time() + JOIN_PAUSE)

    async def _ask_board(self, wanted: set[int], regular: bool) -> bool:
        """Ask what the board wants to know; whether it got to know all of it."""
        look = self._board.look(wanted, self._clock.time(), regular=regular, burst=self.pace.burst)
        try:
            ask = next(look)
            while await self._may_call():
                ask = look.send(await self._answer(ask))
        except StopIteration:
            return True
        finally:
            look.close()
        return False

    async def _may_call(self) -> bool:
        """Wait for a free call, as long as it takes; whether there is still anybody to make it for."""
        while self.room.waits and (free := self.pace.earliest(self._clock.time())) > self._clock.time():
            self._wake.clear()
            await self._sleep_until(free)
        return bool(self.room.waits)

    async def _answer(self, ask: Ask) -> list[Simulation]:
        """Make a call and deliver what came; an error that concerns one simulation alone goes to its waits."""
        client = self._account.client
        try:
            if isinstance(ask, ListPage):
                sort, down = ask.listing.value
                records: list[Simulation]
                records = await self._call(client.list_simulations, ask.page, sort=sort, descending=down)
                self._listing_failures = 0
            else:
                records = [await self._call(client.view_simulation_short, ask.simulation_id)]
        except (CloudHPCAuthError, CloudHPCQuotaError):
            raise
        except CloudHPCError as error:
            if isinstance(ask, ListPage):
                self._listing_failures += 1
                if self._listing_failures >= LISTING_FAILURES:
                    self._board.distrust(ask.listing, self._clock.time())
                if is_said(error):  # of the listing: it says nothing about any simulation
                    raise CloudHPCAnswerError(
                        error.message, transient=True, status=error.status, method=error.method, endpoint=error.endpoint
                    ) from None
                raise
            if is_outage(error):
                raise
            self.room.missed(error, [wait for wait in self.room.waits if wait.simulation_id == ask.simulation_id])
            return []
        self._deliver(records)
        return records

    async def _follow(self, wait: Wait) -> None:
        """Look at one simulation with its output."""
        if wait not in self.room.waits or wait.follower is None or not await self._may_call():
            return
        view = self._account.client.view_simulation
        try:
            record = await self._call(view, wait.simulation_id, max_bytes=MOST_FOLLOWED, to_the_end=False)
        except CloudHPCError as error:
            if error.transient or isinstance(error, CloudHPCAuthError):
                raise
            self._follow_no_more(wait, f"The output cannot be followed: {error}")
            return
        if wait not in self.room.waits:
            return  # its trigger has gone meanwhile
        lines = wait.follower.new_lines(record.output or "", ended=record.is_terminal)
        if lines:
            wait.watch.tell(lines)
        if record.output_is_whole:
            self._deliver([replace(record, output=record.output or "")])
        else:
            size = f"{MOST_FOLLOWED / 1e6:g} MB"
            self._follow_no_more(wait, f"--- the output is longer than {size} and is not followed any further")

    def _follow_no_more(self, wait: Wait, why: str) -> None:
        """Go on without the output, which the wait does not depend on."""
        wait.watch.tell(why)
        wait.follower = None
        self.room.ask_for_look(wait, self._clock.time())

    async def _call(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        client = self._account.client
        told = client.quota_seen
        try:
            result = await asyncio.to_thread(method, *arguments, **named)
        except CloudHPCError:
            raise
        except Exception as error:
            log.exception("A look broke")
            raise CloudHPCAnswerError(f"The look broke ({type(error).__name__}).", transient=True) from None
        finally:
            quota = client.quota if client.quota_seen != told else None
            self._calls += 1
            self.pace.called(quota, self._clock.time())
        self.pace.answered()
        self._failures = 0
        return result

    def _deliver(self, records: Iterable[Simulation]) -> None:
        self.room.seen(records, self._outlook())
        self.room.hand_over(self._calls)

    async def _failed(self, error: CloudHPCError) -> None:
        """Deal with an error that concerns the whole account."""
        now = self._clock.time()
        if isinstance(error, CloudHPCQuotaError):
            until = self.pace.refused(error, now) + self._clock.ahead()
            self.room.refused(f"{error} All waits of this account pause until {moment(until)}.")
        elif isinstance(error, CloudHPCAuthError):
            await self._reread(self)
        else:
            self._failures += 1
            # What a proxy on the way asks for may be absurd.
            asked = min(getattr(error, "retry_after", None) or 0.0, HOUR)
            self._not_before = now + max(asked, backoff(self._failures)) * self._jitter.uniform(1.0, 1.2)
        self.room.missed(error, self.room.everyone)
