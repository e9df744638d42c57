# SPDX-License-Identifier: Apache-2.0
"""Hours in seconds: a clock for the poller that moves on, and the service with it, whenever everybody sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.triggers.waits import Clock

HOUR = 3600.0


def begin_an_hour(emulator: CloudHPCEmulator) -> None:
    """Move the service's clock to a full hour, so that no fixed quota window ends in the middle of a test."""
    emulator.control.jump(HOUR - emulator.control.now() % HOUR)


class SimulatedClock(Clock):
    """
    A clock that only :meth:`advance` moves.

    :param jump: moves the service's clock by as many seconds
    :param now: the time it begins with, seconds since the epoch
    """

    def __init__(self, jump: Callable[[float], object], now: float) -> None:
        self._jump = jump
        self._now = now
        self._ahead = 0.0
        #: Somebody has fallen asleep.
        self._quieter = asyncio.Event()
        self._sleepers: dict[asyncio.Future[None], tuple[float, asyncio.Event]] = {}

    def time(self) -> float:
        return self._now

    def ahead(self) -> float:
        return self._ahead

    def sleep(self, seconds: float) -> None:
        """Let time go by for one that is alone in it."""
        self._move(self._now + seconds)

    def set_forward(self, seconds: float) -> None:
        """Set the machine's clock, not the service's; negative: back."""
        self._ahead += seconds

    async def pause(self, seconds: float, wake: asyncio.Event) -> None:
        alarm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers[alarm] = self._now + max(0.0, seconds), wake
        self._quieter.set()
        woken = asyncio.ensure_future(wake.wait())
        try:
            await asyncio.wait({alarm, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            del self._sleepers[alarm]

    def asleep(self) -> int:
        """How many sleep, and are not about to wake."""
        return sum(not alarm.done() and not wake.is_set() for alarm, (_, wake) in self._sleepers.items())

    async def settle(self, actors: Callable[[], int]) -> None:
        """Wait until everybody sleeps."""
        await asyncio.sleep(0)
        while self.asleep() < actors():
            self._quieter.clear()
            # An actor that ends falls asleep nowhere.
            alarm = asyncio.get_running_loop().call_later(0.005, self._quieter.set)
            await self._quieter.wait()
            alarm.cancel()
        for _ in range(5):  # whoever waited for what just happened takes note
            await asyncio.sleep(0)

    async def advance(self, seconds: float, actors: Callable[[], int]) -> None:
        """
        Let time go by; who sleeps until then wakes in order.

        :param actors: tells how many there are that act by this clock
        """
        end = self._now + seconds
        await self.settle(actors)
        while True:
            upcoming = min((until for until, _ in self._sleepers.values()), default=end)
            self._move(min(max(upcoming, self._now), end))
            for alarm, (until, _) in list(self._sleepers.items()):
                if until <= self._now and not alarm.done():
                    alarm.set_result(None)
            await self.settle(actors)
            if self._now >= end and not any(until <= end for until, _ in self._sleepers.values()):
                return

    def _move(self, moment: float) -> None:
        if moment > self._now:
            self._jump(moment - self._now)
            self._now = moment
