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
from airflow_provider_cloudhpc.api.lifecycle import duration, moment
from airflow_provider_cloudhpc.api.waiting.board import Board, ListPage
from airflow_provider_cloudhpc.api.waiting.following import MOST_FOLLOWED
from airflow_provider_cloudhpc.api.waiting.pacing import BATCH_PAUSE, HOUR, MIN_INTERVAL, Pace, backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_cloudhpc.api.lifecycle import Ending
    from airflow_provider_cloudhpc.api.models import Simulation
    from airflow_provider_cloudhpc.api.waiting.board import Ask
    from airflow_provider_cloudhpc.triggers.accounts import Account
    from airflow_provider_cloudhpc.triggers.waits import Clock, Wait

log = logging.getLogger(__name__)

#: Seconds that the first look waits for others to join: a triggerer starts its triggers one after another.
JOIN_PAUSE = 1.0
#: A listing that fails so often in a row is left aside.
LISTING_FAILURES = 2
#: Seconds between two regular looks at the least while endings wait for calls: more of them could not be told earlier.
HELD_INTERVAL = 600.0


class Poller:
    """
    Makes the calls of one account's waits; runs as long as there are any.

    :param account: where to call
    :param clock: the time
    :param reread: looks connections up again after the key was refused, and takes away the waits that have a new one
    """

    def __init__(self, account: Account, clock: Clock, reread: Callable[[Poller], Any]) -> None:
        self.waits: set[Wait] = set()
        #: Those that have ended and are held back, in order.
        self.held: dict[Wait, None] = {}
        self.pace = Pace(account.quota_share)
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
        #: When held endings are thought of next, and when the counters were asked for the last batch of them.
        self._next_batch = -math.inf
        self._batch_calls = -1
        self._calls = 0
        self._jitter = random.Random()  # noqa: S311 - spreads load, guards nothing

    def join(self, wait: Wait) -> None:
        """Take a wait in: without a call where what is known is fresh enough, else with the next look."""
        now = self._clock.time()
        self._wake.set()
        if wait.ending is not None:  # it comes from another poller, which held it back
            self.held[wait] = None
            return
        self.waits.add(wait)
        known = self._board.fresh(wait.simulation_id, now - max(MIN_INTERVAL, wait.poll_interval))
        if known is not None and not wait.follows:
            self._deliver([known])
        else:
            # Not for each newcomer at once: they come in crowds.
            spacing = self.pace.interval(now, 0.0, self._board.expected_calls(len(self.waits), now))
            wait.due = max(now + JOIN_PAUSE, (self._last_look or now - spacing) + spacing)

    def leave(self, wait: Wait) -> None:
        """Let a wait go."""
        if wait in self.waits or wait in self.held:
            self.waits.discard(wait)
            self.held.pop(wait, None)
            self._wake.set()

    @property
    def everyone(self) -> list[Wait]:
        """All waits, those that are held back too."""
        return [*self.waits, *self.held]

    async def run(self) -> None:
        """Look at the service until the last wait is over; what breaks here is handed to all waits."""
        try:
            while self.waits or self.held:
                await self._step()
        except Exception as error:
            log.exception("A poller broke")
            for wait in self.everyone:
                if not wait.future.done():
                    wait.future.set_exception(error)
        finally:
            for wait in self.everyone:
                wait.future.cancel()
            self.waits.clear()
            self.held.clear()
            self._account.client.close()

    # -- when -------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        self._wake.clear()
        now = self._clock.time()
        due = {wait for wait in self.waits if now >= self._due(wait)}
        if (due or self._batch_due(now)) and self._free(now) <= now:
            if due:
                await self._look(due | {wait for wait in self.waits if wait.due is not None})
            else:
                await self._count()
        self._hand_over()
        if self.waits or self.held:
            now = self._clock.time()
            upcoming = [self._due(wait) for wait in self.waits]
            if self.held:
                upcoming.append(self._next_batch)
            await self._sleep_until(max(min(upcoming), self._free(now)))

    async def _sleep_until(self, moment: float) -> None:
        """Sleep until then or until something changes; a deadline is kept also while no call is free."""
        now = self._clock.time()
        if moment > now:
            everyone = self.everyone
            self._decide(everyone, lambda wait: wait.watch.check_deadline(now))
            deadlines = [wait.watch.deadline for wait in everyone if wait.watch.deadline is not None]
            upcoming = [when for when in deadlines if when > now]
            await self._clock.pause(min([moment, *upcoming]) - now, self._wake)

    def _free(self, now: float) -> float:
        return max(self.pace.earliest(now), self._not_before)

    def _due(self, wait: Wait) -> float:
        when = self._next_look  # asked for every wait at every step: no generator here
        for other in (wait.due, wait.watch.confirm_at, wait.watch.deadline):
            if other is not None and other < when:
                when = other
        return when

    def _plan(self, now: float) -> None:
        """Fix the time of the next regular look."""
        followers = sum(wait.follows for wait in self.waits)
        listed = len({wait.simulation_id for wait in self.waits if not wait.follows})
        calls = followers + self._board.expected_calls(listed, now)
        asked = min((wait.poll_interval for wait in self.waits), default=0.0)
        pause = self.pace.interval(now, asked, calls)
        if self.held:
            pause = max(pause, HELD_INTERVAL)
        self._next_look = now + pause

    def _outlook(self, now: float) -> str:
        left = f"; {self.pace.quota}" if self.pace.quota else ""
        return f"next look in about {duration(self._next_look - now)}{left}"

    # -- one look ---------------------------------------------------------------------------------------------

    async def _look(self, due: set[Wait]) -> None:
        started = self._clock.time()
        regular = started >= self._next_look or len(due) == len(self.waits)
        waits = set(self.waits) if regular else due
        if regular:
            self._plan(started)
        for wait in waits:
            wait.due = None
        self._last_look = started
        try:
            followers = [wait for wait in waits if wait.follows]
            wanted = {wait.simulation_id for wait in waits if not wait.follows}
            whole = not wanted or await self._ask_board(wanted, regular)
            for wait in followers:
                await self._follow(wait)
        except CloudHPCError as error:
            await self._failed(error)
        else:
            self._failures = 0
            if whole:
                self._answered(waits)
        now = self._clock.time()
        self._not_before = max(self._not_before, now + JOIN_PAUSE)
        self._decide(waits & self.waits, lambda wait: wait.watch.check_deadline(now))
        if regular:
            self._plan(now)

    async def _count(self) -> None:
        """Ask about one that has ended already, only to hear how many calls are left for the last reads."""
        wait = next(iter(self.held))
        try:
            await self._call(self._account.client.view_simulation_short, wait.simulation_id)
        except CloudHPCError as error:
            if error.transient or isinstance(error, CloudHPCAuthError | CloudHPCQuotaError):
                await self._failed(error)
            else:
                self._missed(error, [wait])
        else:
            self._failures = 0
            self._answered(set())
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
        while self.waits and (free := self.pace.earliest(self._clock.time())) > self._clock.time():
            self._wake.clear()
            await self._sleep_until(free)
        return bool(self.waits)

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
                if not error.transient or self._listing_failures >= LISTING_FAILURES:
                    self._board.distrust(ask.listing, self._clock.time())
                raise
            if error.transient:
                raise
            self._missed(error, [wait for wait in self.waits if wait.simulation_id == ask.simulation_id])
            return []
        self._deliver(records)
        return records

    async def _follow(self, wait: Wait) -> None:
        """Look at one simulation with its output."""
        if wait not in self.waits or wait.follower is None or not await self._may_call():
            return
        view = self._account.client.view_simulation
        try:
            record = await self._call(view, wait.simulation_id, max_bytes=MOST_FOLLOWED, to_the_end=False)
        except CloudHPCError as error:
            if error.transient or isinstance(error, CloudHPCAuthError):
                raise
            self._follow_no_more(wait, f"The output cannot be followed: {error}")
            return
        if wait not in self.waits:
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
        wait.follower, wait.due = None, self._clock.time()

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
        return result

    # -- what it means ----------------------------------------------------------------------------------------

    def _deliver(self, records: Iterable[Simulation]) -> None:
        now = self._clock.time()
        by_id = {record.id: record for record in records}
        outlook = self._outlook(now)
        for wait in [wait for wait in self.waits if wait.simulation_id in by_id]:
            record = by_id[wait.simulation_id]
            if record.is_terminal and wait.follows and record.output is None:
                wait.due = now  # its last lines are still to be told
            else:
                self._decide([wait], lambda wait: wait.watch.seen(by_id[wait.simulation_id], now, outlook))
        self._hand_over()

    def _answered(self, waits: set[Wait]) -> None:
        """Take in that the service answered, about these waits among others."""
        now = self._clock.time()
        outlook = self._outlook(now)
        answered = [*(waits & self.waits), *self.held]
        for wait in answered:
            wait.told_pause = False
        self._decide(answered, lambda wait: wait.watch.unchanged(now, outlook))

    def _missed(self, error: CloudHPCError, waits: Iterable[Wait]) -> None:
        now = self._clock.time()
        self._decide(waits, lambda wait: wait.watch.missed(error, now))

    def _decide(self, waits: Iterable[Wait], decide: Callable[[Wait], Ending | None]) -> None:
        """Let waits decide; who has ended leaves, or is held back."""
        for wait in list(waits):
            if wait.ends(decide, wait):
                self.waits.discard(wait)
                self.held.pop(wait, None)
            elif wait.ending is not None and wait in self.waits:
                self.waits.discard(wait)
                self.held[wait] = None

    def _batch_due(self, now: float) -> bool:
        return bool(self.held) and now >= self._next_batch

    def _hand_over(self) -> None:
        """Hand endings over as far as there are calls for their last reads; tell the others when, about."""
        now = self._clock.time()
        if self._batch_calls < 0 or (self._calls > self._batch_calls and now >= self._next_batch):
            granted = self.pace.promise(len(self.held), now)
            for wait in list(self.held)[:granted]:
                wait.hand_over()
                del self.held[wait]
            if self.held:
                worth_it = self.pace.next_promise(len(self.held), now)
                self._next_batch = max(now + BATCH_PAUSE, min(worth_it, now + HELD_INTERVAL))
                self._batch_calls = self._calls
        if not self.held:
            self._batch_calls = -1
        elif any(wait.told_until <= now for wait in self.held):
            self._tell_held(now)

    def _tell_held(self, now: float) -> None:
        """Tell those that were told nothing yet, or a time that has passed."""
        for wait, until in zip(self.held, self.pace.promise_times(len(self.held), now), strict=True):
            if wait.told_until <= now:
                wait.told_until = max(until, self._next_batch, now + BATCH_PAUSE)
                wait.watch.tell(
                    f"Simulation {wait.simulation_id} has ended; its last read waits for calls until about "
                    f"{moment(wait.told_until)} ({self.pace.quota or 'calls are refused'})."
                )

    async def _failed(self, error: CloudHPCError) -> None:
        """Deal with an error that concerns the whole account."""
        now = self._clock.time()
        if isinstance(error, CloudHPCQuotaError):
            until = self.pace.refused(error, now)
            for wait in self.everyone:
                if not wait.told_pause:
                    wait.watch.tell(f"{error} All waits of this account pause until {moment(until)}.")
                    wait.told_pause = True
        elif isinstance(error, CloudHPCAuthError):
            await self._reread(self)
        elif error.transient:
            self._failures += 1
            # What a proxy on the way asks for may be absurd.
            asked = min(getattr(error, "retry_after", None) or 0.0, HOUR)
            self._not_before = now + max(asked, backoff(self._failures)) * self._jitter.uniform(1.0, 1.2)
        self._missed(error, self.everyone)
