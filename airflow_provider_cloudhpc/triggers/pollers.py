# SPDX-License-Identifier: Apache-2.0
"""The pollers of an event loop: which account a connection means, and the one poller that its waits share."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.triggers.accounts import Account, find_account
from airflow_provider_cloudhpc.triggers.poller import Poller
from airflow_provider_cloudhpc.triggers.waits import Clock, Wait

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.api.lifecycle import Ending

log = logging.getLogger(__name__)

#: Seconds for which it is known which account a connection means.
ACCOUNT_LIFETIME = 300.0


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
        try:
            self._join(wait, account)
            return await wait.future
        finally:
            for poller in self._pollers.values():
                poller.leave(wait)

    def _join(self, wait: Wait, account: Account) -> None:
        poller = self._pollers.get(account.digest)
        if poller is None:
            poller = Poller(account, self.clock, self._reread)
            poller.join(wait)  # what breaks there leaves no poller that nobody runs
            self._pollers[account.digest] = poller
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
        """Look the connections of a refused key up again; a wait that has another key now goes on with that one."""
        now = self.clock.time()
        by_connection: dict[str, list[Wait]] = {}
        for wait in poller.room.everyone:
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
                if not wait.future.done() and self._pollers.get(account.digest) is not poller:
                    poller.leave(wait)
                    self._join(wait, account)


_pollers: dict[asyncio.AbstractEventLoop, Pollers] = {}


def current_pollers() -> Pollers:
    """Give the pollers of the running event loop; those of loops that were closed are dropped."""
    for loop in [loop for loop in _pollers if loop.is_closed()]:
        del _pollers[loop]
    return _pollers.setdefault(asyncio.get_running_loop(), Pollers())
