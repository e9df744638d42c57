# SPDX-License-Identifier: Apache-2.0
"""
When may the next poll be made: from the account's call counters to a plan, without I/O and without sleeping.

The service tells a limit and what is used of it, not when used calls are forgiven: the window may be fixed or rolling.
One fact holds for both: a call made at a time T no longer counts at T plus the window's length. On that alone polls
are let into what others left, so that they neither meet the limit nor touch the reserve.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.api.errors import CloudHPCQuotaError
    from airflow_provider_cloudhpc.api.models import Quota

HOUR, DAY = 3600.0, 86400.0
#: Shortest time between two regular looks, seconds.
MIN_INTERVAL = 30.0
#: Taken for the hourly limit while none is told: that of a free account.
ASSUMED_HOURLY_LIMIT = 100
#: First and longest pause after a refusal that does not say how long, seconds.
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 900.0
#: First and longest pause after the service was not reached, seconds.
FIRST_BACKOFF, LONGEST_BACKOFF = 30.0, 600.0
#: Seconds added to what two clocks are compared by.
MARGIN = 1.0


def reserve_of(limit: int) -> int:
    """Give the calls of a limit that polls leave to stops, launches and downloads: 5 %, at least 5."""
    return min(max(5, math.ceil(0.05 * limit)), limit // 2)


class _Window:
    """
    One of the account's counters.

    :param length: seconds after which a call no longer counts
    :param assumed: limit that is taken where none is told; None for no limit
    """

    def __init__(self, length: float, assumed: int | None) -> None:
        self.length = length
        self.limit = assumed
        self.used: int | None = None
        self._told_at = -math.inf
        #: Our own calls before this time are not among the used ones: a fixed window began anew.
        self._counted_since = -math.inf
        self._own: deque[float] = deque()

    def called(self, now: float) -> None:
        self._own.append(now)
        while self._own and self._own[0] <= now - self.length - MARGIN:
            self._own.popleft()

    def told(self, limit: int | None, used: int | None, now: float) -> None:
        if limit is not None:
            self.limit = limit
        if used is None or not self.limit:
            self.used = None
            return
        since = sum(1 for call in self._own if call > self._told_at)
        if self.used is not None and used < self.used and used <= since + 0.1 * self.limit:
            self._counted_since = self._told_at
        self.used, self._told_at = used, now

    def forget_used(self) -> None:
        self.used = None

    def allowance(self, share: float) -> int | None:
        """How many own calls the window may hold; None for no limit."""
        return max(1, math.floor(share * self.limit)) if self.limit else None

    def earliest(self, now: float, share: float) -> float:
        allowed = self.allowance(share)
        if allowed is None or not self.limit:
            return now
        moment = now
        if len(self._own) >= allowed:
            moment = max(moment, self._own[-allowed] + self.length + MARGIN)
        if self.used is None:
            return moment
        own = list(self._own)
        unheard = len(own) - bisect_right(own, self._told_at)
        too_many = self.used + unheard + 1 - (self.limit - reserve_of(self.limit))
        if too_many <= 0:
            return moment
        counted = self._counted(own)
        free = counted[too_many - 1] if len(counted) >= too_many else self._told_at
        return max(moment, min(free, self._told_at) + self.length + MARGIN)

    def _counted(self, own: list[float]) -> list[float]:
        """Our own calls that are surely among the used ones."""
        since = max(self._counted_since, self._told_at - self.length)
        return own[bisect_right(own, since) : bisect_right(own, self._told_at)]

    def seconds_a_call(self, now: float, share: float) -> float:
        """How far apart polls have to be to stay within our share and what others leave, and never to run dry."""
        if not self.limit:
            return 0.0
        foreign = 0 if self.used is None else max(0, self.used - len(self._counted(list(self._own))))
        rate = max(1.0, min(share * self.limit, self.limit - reserve_of(self.limit) - foreign))
        own = [call for call in self._own if call > now - self.length]
        free = max(0.0, rate - len(own))
        # Until the k-th of our calls is forgiven there are only those that are free now, and k.
        dry = ((call + self.length - now) / (free + number) for number, call in enumerate(own, 1))
        return max(self.length / rate, max(dry, default=0.0))


class Pace:
    """
    The plan for the polls of one account.

    Times are seconds since the epoch.

    :param share: part of each limit that polls may use, above 0 and up to 1
    :param jitter: source of chance for the pauses, so that several programs do not come back at the same moment
    """

    def __init__(self, share: float = 0.5, *, jitter: random.Random | None = None) -> None:
        self.share = share
        self.quota: Quota | None = None
        self._hour = _Window(HOUR, ASSUMED_HOURLY_LIMIT)
        self._day = _Window(DAY, None)
        self._paused_until = -math.inf
        self._refusals = 0
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads load, guards nothing

    def called(self, quota: Quota | None, now: float) -> None:
        """
        Take in that a call was made.

        :param quota: the counters that its answer told, None where it told none
        :param now: when its answer came: not before the service counted it
        """
        self._hour.called(now)
        self._day.called(now)
        if quota is not None:
            self.quota = quota
            self._hour.told(quota.hourly_limit, quota.hourly_used, now)
            self._day.told(quota.daily_limit, quota.daily_used, now)

    def answered(self) -> None:
        """Take in that a call was answered: a refusal after it is a new one."""
        self._refusals = 0

    def refused(self, error: CloudHPCQuotaError, now: float) -> float:
        """
        Take in that a call was refused for quota.

        :return: when to call again at the earliest: as the service says, else after a pause that grows
        """
        if error.retry_after is not None:
            pause = error.retry_after
            # The service knows better than our sums when calls are free again.
            self._hour.forget_used()
            self._day.forget_used()
        else:
            pause = min(FIRST_PAUSE * 2**self._refusals, LONGEST_PAUSE)
        self._refusals += 1
        self._paused_until = now + pause + self._jitter.uniform(1.0, max(2.0, 0.1 * pause))
        return self.earliest(now)

    def earliest(self, now: float) -> float:
        """Give the time at which the next poll may be made: now, or later."""
        windows = (self._hour, self._day)
        return max(now, self._paused_until, *(window.earliest(now, self.share) for window in windows))

    def interval(self, now: float, asked: float, calls: float) -> float:
        """
        Plan the time until the next look, seconds.

        :param asked: the shortest interval that a wait asked for
        :param calls: what a look costs on average
        """
        per_call = max(window.seconds_a_call(now, self.share) for window in (self._hour, self._day))
        return max(MIN_INTERVAL, asked, calls * per_call)

    @property
    def burst(self) -> int:
        """How many calls may be made at once without spending the share of the hour on it."""
        allowed = self._hour.allowance(self.share)
        return 1_000 if allowed is None else max(1, allowed // 4)


def backoff(failures: int) -> float:
    """
    Give the pause before the service is tried to be reached again, seconds.

    :param failures: how often in a row it was not reached
    """
    return min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 20), LONGEST_BACKOFF)
