# SPDX-License-Identifier: Apache-2.0
"""The emulator's time: it may run faster than the wall's, and jump. Whatever waits for it stands in the agenda."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

#: Time ends here: dates have four digits for the year.
_END = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
#: The service does not name the time zone of its dates. Ours differs from UTC, so that nobody relies on that.
SERVER_TIME_ZONE = timezone(timedelta(hours=1))


class VirtualClock:
    """
    Seconds since the epoch, on a clock that can be sped up and moved forward.

    :param speed: virtual seconds per real second, default 1
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._virtual = time.time()
        self._real = time.monotonic()
        self._speed = 1.0
        self.speed = speed

    @property
    def speed(self) -> float:
        """Virtual seconds per real second; 0 stands still."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        if value < 0:
            raise ValueError(f"clock speed {value} is negative: time does not run backwards here")
        if not math.isfinite(value):
            raise ValueError(f"clock speed {value} is no speed")
        self._virtual, self._real = self.now(), time.monotonic()
        self._speed = value

    def now(self) -> float:
        """The time, in seconds since the epoch."""
        return min(_END, self._virtual + (time.monotonic() - self._real) * self._speed)

    def jump(self, seconds: float) -> None:
        """
        Move forward at once.

        :param seconds: virtual seconds, not negative
        :raises ValueError: for a jump into the past, and for one beyond the year 9998
        """
        if seconds < 0:
            raise ValueError(f"cannot jump by {seconds} s: time does not run backwards here")
        if not self.now() + seconds < _END:
            raise ValueError(f"cannot jump by {seconds} s: time ends with the year 9998 here")
        self._virtual += seconds


@dataclass(order=True)
class Entry:
    """Something to do at a virtual time; ``cancelled`` entries are dropped."""

    when: float
    order: int
    action: Callable[[float], None]
    cancelled: bool = False


class Agenda:
    """
    What is to happen at which virtual time, in order, however far the clock jumped.

    :param clock: the clock that says what is due
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._entries: list[tuple[float, int, Entry]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[float], None]) -> Entry:
        """
        Call ``action(when)`` once the clock has passed ``when`` (seconds since the epoch).

        The action is told the time it was due at, not the time it is: what it schedules next hangs on that, so a jump
        over a whole simulation bills what the simulation took.
        """
        entry = Entry(when, next(self._order), action)
        heapq.heappush(self._entries, (entry.when, entry.order, entry))
        return entry

    def run_due(self) -> None:
        """Do everything that is due, in order, including what that makes due."""
        while self._entries and self._entries[0][0] <= self._clock.now():
            entry = heapq.heappop(self._entries)[2]
            if not entry.cancelled:
                entry.action(entry.when)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


def service_date(seconds: float | None) -> str:
    """A date as the service writes it (``YYYY-MM-DD HH:MM:SS``, zone unnamed); empty for "not yet"."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, SERVER_TIME_ZONE).strftime("%Y-%m-%d %H:%M:%S")


def storage_date(seconds: float) -> str:
    """A date as the object store writes it (ISO 8601, UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
