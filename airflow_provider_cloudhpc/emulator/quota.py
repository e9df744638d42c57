# SPDX-License-Identifier: Apache-2.0
"""How many API calls an account may make in an hour and in a day."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Window:
    """
    Calls counted over a span of virtual time.

    :param length: seconds
    :param limit: calls allowed in it; 0 = unlimited
    :param kind: ``fixed`` starts anew at every full hour (day), ``rolling`` looks back from now
    """

    length: float
    limit: int
    kind: Literal["fixed", "rolling"] = "fixed"
    _times: list[float] = field(default_factory=list)

    def used(self, now: float) -> int:
        """Calls that count at ``now``."""
        start = now - self.length if self.kind == "rolling" else now - now % self.length
        # A call at the very start of a fixed window counts; one exactly a length ago has left a rolling window.
        cut = (
            bisect.bisect_right(self._times, start)
            if self.kind == "rolling"
            else bisect.bisect_left(self._times, start)
        )
        del self._times[:cut]
        return len(self._times)

    def wait(self, now: float) -> float:
        """Seconds until a call is allowed again; 0 where one is allowed now."""
        used = self.used(now)
        if not self.limit or used < self.limit:
            return 0.0
        if self.kind == "fixed":
            return self.length - now % self.length
        return self._times[used - self.limit] + self.length - now

    def add(self, now: float, calls: int = 1) -> None:
        """Count calls."""
        self._times.extend([now] * calls)

    def changed(self, now: float, limit: int | None, kind: str | None) -> Window:
        """
        The same calls under another rule; what is None stays.

        :raises ValueError: for a limit or a kind that there is not
        """
        self.used(now)
        if kind not in (None, "fixed", "rolling"):
            raise ValueError(f"window is fixed or rolling; not {kind!r}")
        limit = self.limit if limit is None else check_count(limit, "a limit")
        return Window(self.length, limit, self.kind if kind is None else kind, self._times)  # type: ignore[arg-type]

    def emptied(self, now: float, used: int) -> Window:
        """The same rule, and calls that were all made just now."""
        return Window(self.length, self.limit, self.kind, [now] * check_count(used, "a number of calls"))


def check_count(value: int, what: str, least: int = 0) -> int:
    """
    Give a number of things back.

    :raises ValueError: where it is none, or below the least
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{what} is a whole number from {least} on; not {value!r}")
    return value


@dataclass
class Quota:
    """
    An account's quota.

    :param hourly: the hour's window
    :param daily: the day's window
    """

    hourly: Window = field(default_factory=lambda: Window(3600.0, 500))
    daily: Window = field(default_factory=lambda: Window(86400.0, 0))

    def take(self, now: float) -> float:
        """Count a call if it is allowed. Returns 0, or the seconds until one will be."""
        wait = max(self.hourly.wait(now), self.daily.wait(now))
        if not wait:
            self.hourly.add(now)
            self.daily.add(now)
        return wait

    def headers(self, now: float, exhausted: bool = False) -> dict[str, str]:
        """
        What every API answer carries.

        :param exhausted: claim that the hour is used up
        """
        limit = (self.hourly.limit or 100) if exhausted else self.hourly.limit
        return {
            "x-ratelimit-hourly-limit": str(limit),
            "x-ratelimit-hourly-used": str(limit if exhausted else self.hourly.used(now)),
            "x-ratelimit-daily-limit": str(self.daily.limit),
            "x-ratelimit-daily-used": str(self.daily.used(now)),
        }
