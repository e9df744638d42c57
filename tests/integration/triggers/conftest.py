# SPDX-License-Identifier: Apache-2.0
"""An account on the emulator whose time stands still, and a poller that lives in that time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from airflow_provider_cloudhpc.api.lifecycle import Ending, Watch
from airflow_provider_cloudhpc.api.waiting.following import OutputFollower
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.triggers.poller import Pollers, Wait
from tests.simulated_time import SimulatedClock

CONN_ID = "cloudhpc_default"


@dataclass
class Waits:
    """Waits of one event loop, on simulated time."""

    emulator: CloudHPCEmulator
    tasks: dict[int, asyncio.Task[Ending]] = field(default_factory=dict)
    ended_at: dict[int, float] = field(default_factory=dict)
    lines: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = SimulatedClock(self.emulator.control.jump, self.emulator.control.now())
        self.pollers = Pollers(self.clock)

    async def begin(self, simulation_id: int, *, conn_id: str = CONN_ID, poll_interval: float = 60.0, **watch) -> None:
        """Begin to wait, as the trigger does."""
        resumed = watch.pop("resumed", None)
        account = await self.pollers.connect(conn_id)
        lines = self.lines.setdefault(simulation_id, [])
        now = self.clock.time()
        options = {"page": account.client.simulation_page(simulation_id), "started": now, "now": now, **watch}
        wait = Wait(
            Watch(simulation_id, tell=lines.append, **options),
            conn_id,
            poll_interval,
            None if resumed is None else OutputFollower(resumed=resumed),
        )

        async def finish() -> Ending:
            ending = await self.pollers.wait(wait, account)
            self.ended_at[simulation_id] = self.clock.time()
            return ending

        self.tasks[simulation_id] = asyncio.create_task(finish())
        await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let time go by, for the service and the poller alike."""
        await self.clock.advance(seconds, lambda: self.pollers.running)

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
        connect(monkeypatch, emulator)
        yield emulator


def connect(monkeypatch: pytest.MonkeyPatch, emulator: CloudHPCEmulator, conn_id: str = CONN_ID, key: str = "") -> None:
    """Put a connection into the environment."""
    document = {"conn_type": "cloudhpc", "host": emulator.url, "password": key or emulator.api_key}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(document))


@pytest.fixture
def run(service: CloudHPCEmulator) -> Callable[[Callable[[Waits], Awaitable[None]]], Waits]:
    """Run a coroutine function on waits of its own event loop."""

    def run_it(story: Callable[[Waits], Awaitable[None]]) -> Waits:
        async def main() -> Waits:
            waits = Waits(service)
            await story(waits)
            for task in waits.tasks.values():
                task.cancel()
            await asyncio.gather(*waits.tasks.values(), return_exceptions=True)
            return waits

        return asyncio.run(main())

    return run_it
