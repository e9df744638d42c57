# SPDX-License-Identifier: Apache-2.0
"""Everything the emulator knows. All of it is touched in the server's event loop alone, so there are no locks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from airflow_provider_cloudhpc.emulator.accounts import Accounts, User
from airflow_provider_cloudhpc.emulator.blobs import Blob, BlobStore
from airflow_provider_cloudhpc.emulator.clock import Agenda, VirtualClock
from airflow_provider_cloudhpc.emulator.faults import FaultBook
from airflow_provider_cloudhpc.emulator.ledger import Ledger, Violation
from airflow_provider_cloudhpc.emulator.scheduler import Scheduler
from airflow_provider_cloudhpc.emulator.settings import FILE_LIFETIME, Settings
from airflow_provider_cloudhpc.emulator.signing import Signer
from airflow_provider_cloudhpc.emulator.solvers import Limits
from airflow_provider_cloudhpc.emulator.storage import Node, Storage, StorageError
from airflow_provider_cloudhpc.emulator.violations import VIOLATIONS

_log = logging.getLogger(__name__)
_TICK = 0.02


class World:
    """
    The emulated service.

    :param directory: for blobs and working directories
    :param settings: how it behaves; a reset goes back to these
    :param limits: what a solver that really runs may use
    :param api_key: key of the default user, default random
    :param clock_speed: virtual seconds per real second
    :param hourly_limit: API calls an hour of the default user, 0 = unlimited; a reset goes back to it
    :param daily_limit: the same of a day
    """

    def __init__(
        self, directory: Path, settings: Settings, limits: Limits, api_key: str | None, clock_speed: float,
        hourly_limit: int, daily_limit: int,
    ) -> None:  # fmt: skip
        self._initial = Settings(**vars(settings))
        self.clock = VirtualClock(clock_speed)
        self._speed = clock_speed
        self._call_limits = hourly_limit, daily_limit
        self.agenda = Agenda(self.clock)
        self.blobs = BlobStore(directory / "blobs")
        self.scheduler = Scheduler(self, directory / "runs", limits)
        self.signer = Signer()
        self.control_token = secrets.token_urlsafe(24)
        self.page_session = secrets.token_urlsafe(24)
        self._tasks: set[asyncio.Task[object]] = set()
        self._start(api_key)

    def _start(self, api_key: str | None) -> None:
        self.settings = Settings(**vars(self._initial))
        self.accounts = Accounts()
        quota = self.accounts.add("default", api_key).quota
        quota.hourly.limit, quota.daily.limit = self._call_limits
        self.ledger = Ledger()
        self.faults = FaultBook()
        self._storages: dict[str, Storage] = {}

    def reset(self) -> None:
        """Back to the start: nothing stored, nothing running, nothing remembered. Key, ports and time stay."""
        key = self.accounts.get().last_key
        self.scheduler.clear()
        self.agenda.clear()
        self.blobs.clear()
        self.clock.speed = self._speed
        self._start(key)

    def storage(self, user: str) -> Storage:
        """An account's storage."""
        if user not in self._storages:
            self._storages[user] = Storage(self.blobs.drop)
        return self._storages[user]

    # -- uploads and the listings' cache

    def store(self, user: str, path: str, blob: Blob, listed: bool = False) -> Node:
        """Take a file in: invisible until the cache is deleted or too old, gone after 60 days."""
        storage = self.storage(user)
        node = storage.put(path, blob, listed)
        if not listed:
            self.agenda.at(blob.created + self.settings.cache_seconds, lambda when: self._reveal(storage, node, blob))
        self.agenda.at(blob.created + FILE_LIFETIME, lambda when: self._expire(storage, node, blob))
        return node

    def store_result(self, user: str, path: str, blob: Blob) -> None:
        """Take in what a run saved: listed at once; dropped where the folder has become impossible."""
        try:
            self.store(user, path, blob, listed=True)
        except StorageError:
            self.blobs.drop(blob)

    def _reveal(self, storage: Storage, node: Node, blob: Blob) -> None:
        if node.blob is blob:
            storage.reveal(node)

    def _expire(self, storage: Storage, node: Node, blob: Blob) -> None:
        if node.blob is blob:
            storage.delete(node)

    def delete_cache(self, user: str) -> None:
        """Let the listings see all uploads, at once or after the lag that was asked for."""
        storage = self.storage(user)
        nodes, storage.unseen = storage.unseen, []

        def reveal(when: float) -> None:
            for node in nodes:
                storage.reveal(node)

        if self.settings.storage_lag:
            self.agenda.at(self.clock.now() + self.settings.storage_lag, reveal)
        else:
            reveal(0.0)

    # -- bookkeeping

    def violation(self, kind: str, detail: str, endpoint: str, user: User | None) -> None:
        """Take down what a client should not have done, one of ``VIOLATIONS``."""
        assert kind in VIOLATIONS, kind
        name = user.name if user else None
        self.ledger.violations.append(Violation(kind, detail, endpoint, name, self.clock.now()))
        _log.warning("violation %s: %s (%s)", kind, detail, endpoint)

    def current_ledger(self) -> Ledger:
        """The ledger as it is now, with the bills of what runs."""
        now = self.clock.now()
        self.ledger.bills = {s.id: s.bill(now) for s in self.scheduler.all.values()}
        return self.ledger.snapshot()

    # -- time

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something short in the background; ``settle`` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("background work failed", exc_info=error)

    def pump(self) -> None:
        """Do what is due."""
        self.agenda.run_due()
        self.scheduler.poll()

    async def settle(self) -> None:
        """Do what is due and wait for what that set off, so that a test sees what it asked for."""
        self.pump()
        while self._tasks:
            await asyncio.wait(set(self._tasks), timeout=30)
            self.pump()

    async def tick(self) -> None:
        """Keep time until cancelled."""
        while True:
            try:
                self.pump()
            except Exception:
                _log.exception("the emulator's clockwork stumbled")
            await asyncio.sleep(_TICK)

    async def close(self) -> None:
        """End everything that runs."""
        self.scheduler.clear()
        self.agenda.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.settle()
        self.scheduler.clear()
