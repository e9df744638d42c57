# SPDX-License-Identifier: Apache-2.0
"""
One poller per account and event loop: it makes the calls that answer all waits of the account.

What to ask is decided by :mod:`~airflow_provider_cloudhpc.api.waiting.board`, when by
:mod:`~airflow_provider_cloudhpc.api.waiting.pacing`, and what an answer means for a wait by its
:class:`~airflow_provider_cloudhpc.api.lifecycle.Watch`; here they only meet the network, in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import random
import time
import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCError,
    CloudHPCQuotaError,
)
from airflow_provider_cloudhpc.api.lifecycle import duration, moment
from airflow_provider_cloudhpc.api.waiting.board import Board, ListPage
from airflow_provider_cloudhpc.api.waiting.pacing import MIN_INTERVAL, Pace, backoff
from airflow_provider_cloudhpc.triggers.accounts import Account, find_account

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_cloudhpc.api.lifecycle import Ending, Watch
    from airflow_provider_cloudhpc.api.models import Simulation
    from airflow_provider_cloudhpc.api.waiting.board import Ask
    from airflow_provider_cloudhpc.api.waiting.following import OutputFollower

log = logging.getLogger(__name__)

#: Seconds that the first look waits for others to join: a triggerer starts its triggers one after another.
JOIN_PAUSE = 1.0
#: Seconds for which it is known which account a connection means.
ACCOUNT_LIFETIME = 300.0
#: A listing that fails so often in a row is left aside.
LISTING_FAILURES = 2


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
    :param due: when it is to be looked at out of turn; None for not
    """

    watch: Watch
    conn_id: str
    poll_interval: float
    follower: OutputFollower | None = None
    due: float | None = None
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
        return self.follower is not None and not self.follower.is_over

    def ends(self, decide: Callable[..., Ending | None], *arguments: Any) -> bool:
        """Let its watch decide, and hand over the ending, if it is one; whether the wait is over."""
        if self.future.done():
            return True
        try:
            ending = decide(*arguments)
        except Exception as error:  # it must not end the others' waits
            log.exception("The wait for simulation %s broke", self.simulation_id)
            self.future.set_exception(error)
        else:
            if ending is not None:
                self.future.set_result(ending)
        return self.future.done()


class Poller:
    """
    Makes the calls of one account's waits; runs as long as there are any.

    :param account: where to call
    :param clock: the time
    :param reread: looks connections up again after the key was refused, and takes away the waits that have a new one
    """

    def __init__(self, account: Account, clock: Clock, reread: Callable[[Poller], Any]) -> None:
        self.waits: set[Wait] = set()
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
        self._jitter = random.Random()  # noqa: S311 - spreads load, guards nothing

    def join(self, wait: Wait) -> None:
        """Take a wait in: without a call where what is known is fresh enough, else with the next look."""
        now = self._clock.time()
        self.waits.add(wait)
        known = self._board.fresh(wait.simulation_id, now - max(MIN_INTERVAL, wait.poll_interval))
        if known is not None and not wait.follows:
            self._deliver([known])
        else:
            # Not for each newcomer at once: they come in crowds.
            spacing = self.pace.interval(now, 0.0, self._board.expected_calls(len(self.waits), now))
            wait.due = max(now + JOIN_PAUSE, (self._last_look or now - spacing) + spacing)
        self._wake.set()

    def leave(self, wait: Wait) -> None:
        """Let a wait go."""
        self.waits.discard(wait)
        self._wake.set()

    async def run(self) -> None:
        """Look at the service until the last wait is over; what breaks here is handed to all waits."""
        try:
            while self.waits:
                await self._step()
        except Exception as error:
            log.exception("A poller broke")
            for wait in self.waits:
                if not wait.future.done():
                    wait.future.set_exception(error)
        finally:
            for wait in self.waits:
                wait.future.cancel()
            self.waits.clear()
            self._account.client.close()

    # -- when -------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        self._wake.clear()
        now = self._clock.time()
        due = {wait for wait in self.waits if now >= self._due(wait)}
        if due and self._free(now) <= now:
            await self._look(due | {wait for wait in self.waits if wait.due is not None})
        if self.waits:
            now = self._clock.time()
            await self._sleep_until(max(min(map(self._due, self.waits)), self._free(now)))

    async def _sleep_until(self, moment: float) -> None:
        """Sleep until then or until something changes; a deadline is kept also while no call is free."""
        now = self._clock.time()
        if moment > now:
            self._drop(wait for wait in list(self.waits) if wait.ends(wait.watch.check_deadline, now))
            deadlines = [wait.watch.deadline for wait in self.waits if wait.watch.deadline is not None]
            await self._clock.pause(min([moment, *deadlines]) - now, self._wake)

    def _free(self, now: float) -> float:
        return max(self.pace.earliest(now), self._not_before)

    def _due(self, wait: Wait) -> float:
        others = (wait.due, wait.watch.confirm_at, wait.watch.deadline)
        return min([self._next_look, *(when for when in others if when is not None)])

    def _plan(self, now: float) -> None:
        """Fix the time of the next regular look."""
        followers = sum(wait.follows for wait in self.waits)
        listed = len({wait.simulation_id for wait in self.waits if not wait.follows})
        calls = followers + self._board.expected_calls(listed, now)
        asked = min((wait.poll_interval for wait in self.waits), default=0.0)
        pause = self.pace.interval(now, asked, calls)
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
        for wait in waits & self.waits:
            if wait.ends(wait.watch.check_deadline, now):
                self.waits.discard(wait)
        if regular:
            self._plan(now)

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
        if wait not in self.waits or not await self._may_call():
            return
        try:
            record = await self._call(self._account.client.view_simulation, wait.simulation_id)
        except CloudHPCError as error:
            if error.transient or isinstance(error, CloudHPCAuthError):
                raise
            # The wait does not depend on it: not every service offers it.
            wait.watch.tell(f"The output cannot be followed: {error}")
            wait.follower, wait.due = None, self._clock.time()
            return
        lines = wait.follower.new_lines(record.output or "", ended=record.is_terminal) if wait.follower else ""
        if lines:
            wait.watch.tell(lines)
        self._deliver([replace(record, output=record.output or "")])

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
            elif wait.ends(wait.watch.seen, record, now, outlook):
                self.waits.discard(wait)

    def _answered(self, waits: set[Wait]) -> None:
        now = self._clock.time()
        outlook = self._outlook(now)
        for wait in waits & self.waits:
            wait.told_pause = False
            if wait.ends(wait.watch.unchanged, now, outlook):
                self.waits.discard(wait)

    def _missed(self, error: CloudHPCError, waits: Iterable[Wait]) -> None:
        now = self._clock.time()
        self._drop(wait for wait in list(waits) if wait.ends(wait.watch.missed, error, now))

    def _drop(self, waits: Iterable[Wait]) -> None:
        for wait in waits:
            self.waits.discard(wait)

    async def _failed(self, error: CloudHPCError) -> None:
        """Deal with an error that concerns the whole account."""
        now = self._clock.time()
        if isinstance(error, CloudHPCQuotaError):
            until = self.pace.refused(error, now)
            for wait in self.waits:
                if not wait.told_pause:
                    wait.watch.tell(f"{error} All waits of this account pause until {moment(until)}.")
                    wait.told_pause = True
        elif isinstance(error, CloudHPCAuthError):
            await self._reread(self)
        elif error.transient:
            self._failures += 1
            self._not_before = now + backoff(self._failures) * self._jitter.uniform(1.0, 1.2)
        self._missed(error, self.waits)


class Pollers:
    """
    The pollers of one event loop, found by the account that a connection means.

    :param clock: the time they live in
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._pollers: dict[str, Poller] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._accounts: dict[str, tuple[Account, float]] = {}
        self._lookups: dict[str, asyncio.Lock] = {}

    @property
    def running(self) -> int:
        """How many pollers there are: one for each account that is waited on."""
        return len(self._pollers)

    async def connect(self, conn_id: str, *, read_before: float | None = None) -> Account:
        """
        Give the account that a connection means; looked up in a thread, and kept for a few minutes.

        :param read_before: take no look-up from before this time
        """
        oldest = self.clock.time() - ACCOUNT_LIFETIME if read_before is None else read_before
        async with self._lookups.setdefault(conn_id, asyncio.Lock()):
            account, when = self._accounts.get(conn_id, (None, -math.inf))
            if account is None or when < oldest:
                account = await asyncio.to_thread(find_account, conn_id)
                self._accounts[conn_id] = account, self.clock.time()
            return account

    async def wait(self, wait: Wait, account: Account) -> Ending:
        """Wait for the ending."""
        self._join(wait, account)
        try:
            return await wait.future
        finally:
            for poller in self._pollers.values():
                poller.leave(wait)

    def _join(self, wait: Wait, account: Account) -> None:
        poller = self._pollers.get(account.digest)
        if poller is None:
            poller = self._pollers[account.digest] = Poller(account, self.clock, self._reread)
            poller.join(wait)
            # In a context of its own: it outlives the trigger that happens to be the first.
            task = asyncio.get_running_loop().create_task(
                self._run(account.digest, poller), context=contextvars.Context()
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            poller.join(wait)

    async def _run(self, digest: str, poller: Poller) -> None:
        try:
            await poller.run()
        finally:
            del self._pollers[digest]

    async def _reread(self, poller: Poller) -> None:
        """Look the connections of a refused key up again; who has another key now goes on with that."""
        now = self.clock.time()
        by_connection: dict[str, list[Wait]] = {}
        for wait in poller.waits:
            by_connection.setdefault(wait.conn_id, []).append(wait)
        for conn_id, waits in by_connection.items():
            try:
                # In the trigger's context: there connections can be looked up.
                account = await asyncio.get_running_loop().create_task(
                    self.connect(conn_id, read_before=now), context=waits[0].context.copy()
                )
            except Exception as error:
                log.warning("Connection %s could not be read again: %s", conn_id, error)
                continue
            for wait in waits:
                if wait in poller.waits and self._pollers.get(account.digest) is not poller:
                    poller.waits.discard(wait)
                    self._join(wait, account)


_pollers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pollers] = weakref.WeakKeyDictionary()


def current_pollers() -> Pollers:
    """Give the pollers of the running event loop."""
    return _pollers.setdefault(asyncio.get_running_loop(), Pollers())
