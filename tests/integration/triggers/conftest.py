# SPDX-License-Identifier: Apache-2.0
"""An account on the emulator whose time stands still, and a poller that lives in that time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pytest

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.lifecycle import ENDED_KINDS, Ending, Watch
from airflow_provider_cloudhpc.api.waiting.following import OutputFollower
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.triggers.accounts import find_account
from airflow_provider_cloudhpc.triggers.pollers import Pollers
from airflow_provider_cloudhpc.triggers.waits import Wait
from tests.integration.connection import CONN_ID, connect
from tests.integration.triggers.between import Between
from tests.simulated_time import SimulatedClock, begin_an_hour


@dataclass
class Waits:
    """Waits of one event loop, on simulated time."""

    emulator: CloudHPCEmulator
    triggerers: int = 1
    tasks: dict[int, asyncio.Task[Ending]] = field(default_factory=dict)
    ended_at: dict[int, float] = field(default_factory=dict)
    lines: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = SimulatedClock(self.emulator.control.jump, self.emulator.control.now())
        self.all_pollers = [Pollers(self.clock) for _ in range(self.triggerers)]
        self.pollers = self.all_pollers[0]
        #: What the workers read at the end, or the error; and how many are about to.
        self.read: dict[int, object] = {}
        self.about_to_read = 0

    async def begin(
        self,
        simulation_id: int,
        *,
        conn_id: str = CONN_ID,
        poll_interval: float = 60.0,
        reads: bool = False,
        triggerer: int = 0,
        **watch,
    ) -> None:
        """Begin to wait, as the trigger does; and read the output at the end, as a worker does."""
        resumed = watch.pop("resumed", None)
        pollers = self.all_pollers[triggerer]
        account = await pollers.connect(conn_id)
        lines = self.lines.setdefault(simulation_id, [])
        now = self.clock.time()
        options = {"page": account.client.simulation_page(simulation_id), "started": now, "now": now, **watch}
        options["ahead"] = self.clock.ahead
        wait = Wait(
            Watch(simulation_id, tell=lines.append, **options),
            conn_id,
            poll_interval,
            None if resumed is None else OutputFollower(resumed=resumed),
            reads,
        )

        async def finish() -> Ending:
            ending = await pollers.wait(wait, account)
            self.ended_at[simulation_id] = self.clock.time()
            if reads and ending.kind in ENDED_KINDS:
                await self._read_output(simulation_id)
            return ending

        self.tasks[simulation_id] = asyncio.create_task(finish())
        await asyncio.sleep(0)

    async def _read_output(self, simulation_id: int) -> None:
        """Look at the output some seconds later: a worker has to begin first."""
        self.about_to_read += 1
        await self.clock.pause(7.0 + simulation_id % 40, asyncio.Event())
        try:
            self.read[simulation_id] = await asyncio.to_thread(self.worker.view_simulation, simulation_id)
        except CloudHPCError as error:
            self.read[simulation_id] = error
        finally:
            self.about_to_read -= 1

    @cached_property
    def worker(self) -> CloudHPCClient:
        """A client of another process: the pollers learn of its calls by the counters alone."""
        return find_account(CONN_ID).client

    async def advance(self, seconds: float) -> None:
        """Let time go by, for the service and all others alike."""
        await self.clock.advance(
            seconds, lambda: self.about_to_read + sum(pollers.running for pollers in self.all_pollers)
        )

    async def restart(self) -> None:
        """End all waits as a triggerer that dies does: nobody is told anything."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        for _ in range(10):
            await asyncio.sleep(0)

    def ending(self, simulation_id: int) -> Ending | None:
        """How a wait ended; None while it has not."""
        task = self.tasks[simulation_id]
        return task.result() if task.done() else None

    def calls(self, pattern: str = "*") -> int:
        """How many calls the service has counted."""
        return self.emulator.ledger.count(pattern)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudHPCEmulator]:
    """Give an emulator whose clock stands still, and the connection to it."""
    with CloudHPCEmulator(port=0, clock_speed=0.0) as emulator:
        begin_an_hour(emulator)
        connect(monkeypatch, emulator)
        yield emulator


@pytest.fixture
def put_between(service: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put a server between the pollers and the service."""
    servers = []

    def put(**how: object) -> None:
        servers.append(Between(service, **how))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        connect(monkeypatch, service, host=servers[-1].url)

    yield put
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run(service: CloudHPCEmulator) -> Callable[..., Waits]:
    """Run a coroutine function on waits of its own event loop."""

    def run_it(story: Callable[[Waits], Awaitable[None]], triggerers: int = 1) -> Waits:
        async def main() -> Waits:
            waits = Waits(service, triggerers)
            await story(waits)
            for task in waits.tasks.values():
                task.cancel()
            await asyncio.gather(*waits.tasks.values(), return_exceptions=True)
            return waits

        return asyncio.run(main())

    return run_it
