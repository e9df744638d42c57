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
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

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
#: Seconds after which a promised read that was not seen is no longer expected: its task was cleared, or died.
PROMISE_LIFETIME = 1800.0
#: What part of the free calls is promised within so many seconds: by then the reads of others show in the counters.
BATCH, BATCH_PAUSE = 1 / 3, 120.0
#: What part of the calls that nobody makes a poller adds to its own, where others call too: they may do the same.
STEP = 1 / 3
#: Part of a limit that a poller never makes less of, however many others call: it has to hear when they stop.
LEAST_SHARE = 0.05
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
        #: How many of our own polls came after it.
        self._unheard = 0
        #: What was used is known no longer, and has to be told before anything is promised on it.
        self._stale = False
        #: Our own calls before this time are not among the used ones: a fixed window began anew.
        self._counted_since = -math.inf
        #: Our own calls, and the final reads of delivered endings that are known to have been made, by time.
        self._polls: list[float] = []
        self._reads: list[float] = []
        #: When reads were promised that have not been seen among the used ones yet.
        self._promised: list[float] = []
        #: When calls of others were first heard of: (time, how many); and since when anything is heard.
        self._others: deque[tuple[float, int]] = deque()
        self._heard_since = math.inf

    # -- what happens

    def called(self, now: float) -> None:
        self._polls.append(now)
        self._unheard += 1
        for calls in (self._polls, self._reads):
            del calls[: bisect_right(calls, now - 2 * self.length)]

    def promise(self, now: float, reads: int) -> None:
        if self.limit and self.used is not None:
            self._promised.extend([now] * reads)

    def told(self, limit: int | None, used: int | None, now: float) -> None:
        self._stale = False
        if limit is not None:
            self.limit = max(0, limit)
        if limit is None or used is None or not self.limit:
            self.used = None
            self._promised.clear()
            return
        since, self._unheard = self._unheard, 0
        begun_anew = self.used is not None and used < self.used and used <= since + 0.1 * self.limit
        if self.used is not None:
            # At least so many calls were others'; those that waited longest for theirs have made them.
            others = max(0, used - since - (0 if begun_anew else self._still_used(now)))
            made = min(others, len(self._promised))
            if others > made:
                self._others.append((now, others - made))
            self._reads.extend([now] * made)
            del self._promised[:made]
            del self._promised[: bisect_right(self._promised, now - PROMISE_LIFETIME)]
        else:
            self._heard_since = now
        if begun_anew:
            self._counted_since = self._told_at
        self.used, self._told_at = used, now

    def forget_used(self) -> None:
        self._stale = True

    # -- what follows from it

    def allowance(self, now: float, share: float) -> float:
        """How many calls of our own the window may hold: within our share, and of what others leave a part."""
        if not self.limit:
            return math.inf
        allowed = share * self.limit
        if self.used is not None:
            others, own = self._expected(now), len(self._own(now))
            left = self.limit - reserve_of(self.limit) - others
            if others and left > own:
                left = own + (left - own) * STEP
            allowed = min(allowed, max(LEAST_SHARE * self.limit, left))
        return max(1.0, allowed)

    def earliest(self, now: float, share: float) -> float:
        """When the next poll is within the share and out of the reserve."""
        allowed = self.allowance(now, share)
        if allowed < len(self._own(now)) + 1:
            now = max(now, self._polls[-math.floor(allowed)] + self.length + MARGIN)
        return self.room_at(1, now)

    def room(self, now: float) -> float:
        """How many calls are free outside of the reserve, as far as is surely known; negative: so many too few."""
        if not self.limit or self.used is None:
            return math.inf
        if self._stale:
            return 0
        used = self._still_used(now) + self._unheard + self._outstanding(now)
        # Others may have made one that was not heard of yet.
        others = self.used > sum(len(calls) for calls in self._counted())
        return self.limit - reserve_of(self.limit) - used - others

    def room_at(self, calls: int, now: float) -> float:
        """When so many calls are surely free: now, or later."""
        lacking = calls - self.room(now)
        if lacking <= 0 or self._stale:
            return now
        upcoming = self._upcoming(now)
        last = self._told_at if lacking > len(upcoming) else upcoming[int(lacking) - 1]
        return max(now, last + self.length + MARGIN)

    def room_times(self, places: Iterable[int], now: float) -> list[float]:
        """When further calls are free, about, by their places in the queue: others' are taken for forgiven late."""
        if not self.limit or self.used is None or self._stale:
            return [now for _ in places]
        room = int(max(0, self.room(now)))
        missing = int(max(0, -self.room(now)))
        later = [max(now, call + self.length + MARGIN) for call in self._upcoming(now)[missing:]]
        most = max(1, self.limit - reserve_of(self.limit))
        late = max(now, self._told_at + self.length + MARGIN)

        def first(place: int) -> float:
            return now if place < room else later[place - room] if place - room < len(later) else late

        return [first(place % most) + place // most * self.length for place in places]

    def _upcoming(self, now: float) -> list[float]:
        """Our own counted calls that have not surely been forgiven yet."""
        counted = sorted(chain(*self._counted()))
        return counted[bisect_right(counted, now - self.length - MARGIN) :]

    def _outstanding(self, now: float) -> int:
        """How many promised reads are still to come, or were made and not heard of."""
        return len(self._promised) - bisect_right(self._promised, now - PROMISE_LIFETIME - self.length)

    def _counted(self) -> tuple[list[float], list[float]]:
        """Our own polls, and reads, that were surely among the used ones when these were told."""
        since = max(self._counted_since, self._told_at - self.length)
        polls, reads = (
            calls[bisect_right(calls, since) : bisect_right(calls, self._told_at)]
            for calls in (self._polls, self._reads)
        )
        return polls, reads

    def _still_used(self, now: float) -> int:
        """What was used when it was told last, without what has surely been forgiven since."""
        forgiven = now - self.length - MARGIN
        if self.used is None or self._told_at <= forgiven:
            return 0
        return max(0, self.used - sum(bisect_right(calls, forgiven) for calls in self._counted()))

    def seconds_a_call(self, now: float, share: float) -> float:
        """How far apart polls have to be to stay within our share and what others leave, and never to run dry."""
        if not self.limit:
            return 0.0
        rate = self.allowance(now, share)
        own = self._own(now)
        free = max(0.0, rate - len(own))
        # Until the k-th of our calls is forgiven there are only those that are free now, and k.
        dry = ((call + self.length - now) / (free + number) for number, call in enumerate(own, 1))
        return max(self.length / rate, max(dry, default=0.0))

    def _own(self, now: float) -> list[float]:
        """Our own calls of a window's length, as far as they may count now."""
        return self._polls[bisect_right(self._polls, now - self.length) :]

    def _expected(self, now: float) -> float:
        """How many calls of a whole window others are expected to make, as far as we have to make way for them."""
        if self.used is None:
            return 0.0
        seen = max(0, self.used - len(self._counted()[0])) + self._outstanding(now)
        span = min(max(now - self._heard_since, self.length / 3), self.length)
        while self._others and self._others[0][0] <= now - self.length:
            self._others.popleft()
        rate = sum(calls for _, calls in self._others) * self.length / span
        return max(seen, rate)


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
        self._windows = _Window(HOUR, ASSUMED_HOURLY_LIMIT), _Window(DAY, None)
        self._paused_until = -math.inf
        self._refusals = 0
        #: How many reads may still be promised until when.
        self._batch, self._batch_until = 0.0, -math.inf
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads load, guards nothing

    def called(self, quota: Quota | None, now: float) -> None:
        """
        Take in that a call was made.

        :param quota: the counters that its answer told, None where it told none
        :param now: when its answer came: not before the service counted it
        """
        hour, day = self._windows
        hour.called(now)
        day.called(now)
        if quota is not None:
            self.quota = quota
            hour.told(quota.hourly_limit, quota.hourly_used, now)
            day.told(quota.daily_limit, quota.daily_used, now)

    def answered(self) -> None:
        """Take in that a call was answered: a refusal after it is a new one."""
        self._refusals = 0

    def refused(self, error: CloudHPCQuotaError, now: float) -> float:
        """
        Take in that a call was refused for quota.

        :return: when to call again at the earliest: as the service says, within a day; else after a pause that grows
        """
        if error.retry_after is not None:
            pause = min(error.retry_after, DAY)  # no counter is longer, and what a proxy asks for may be absurd
            # The service knows better than our sums when calls are free again.
            for window in self._windows:
                window.forget_used()
        else:
            pause = min(FIRST_PAUSE * 2**self._refusals, LONGEST_PAUSE)
        self._refusals += 1
        self._paused_until = now + pause + self._jitter.uniform(1.0, max(2.0, 0.1 * pause))
        return self.earliest(now)

    def earliest(self, now: float) -> float:
        """Give the time at which the next poll may be made: now, or later."""
        return max(now, self._paused_until, *(window.earliest(now, self.share) for window in self._windows))

    def free(self, now: float) -> float:
        """Give the time at which a call is free outside of the reserve, whatever our share is: now, or later."""
        return max(now, self._paused_until, *(window.room_at(1, now) for window in self._windows))

    def promise(self, wanted: int, now: float) -> int:
        """
        Promise calls to the tasks that are about to read a run's output; they are outside of the polls' share.

        Never more than a third of what is free within two minutes: another triggerer may promise another third.

        :param wanted: how many reads
        :return: how many of them have a call now; all where the account has no limit, or tells no counters
        """
        if now < self._paused_until:
            return 0
        room = min(window.room(now) for window in self._windows)
        if now >= self._batch_until:
            self._batch, self._batch_until = max(self._least_batch, room * BATCH), now + BATCH_PAUSE
        granted = int(max(0, min(wanted, room, self._batch)))
        self._batch -= granted
        for window in self._windows:
            window.promise(now, granted)
        return granted

    @property
    def _least_batch(self) -> int:
        """Reads that are promised together though they are more than a third: the reserve bears as many unforeseen."""
        return max(1, min((reserve_of(window.limit) for window in self._windows if window.limit), default=1))

    def promise_times(self, places: Collection[int], now: float) -> list[float]:
        """
        Give about when waiting reads have their calls.

        :param places: their places in the queue, from 0
        """
        now = max(now, self._paused_until)
        return [max(times) for times in zip(*(window.room_times(places, now) for window in self._windows), strict=True)]

    def next_promise(self, reads: int, now: float) -> float:
        """Give when it is worth a poll to learn whether waiting reads have calls: a batch of them, not each one."""
        return max(self.earliest(now), *self.promise_times([min(reads, self._least_batch) - 1], now))

    def interval(self, now: float, asked: float, calls: float) -> float:
        """
        Plan the time until the next look, seconds.

        :param asked: the shortest interval that a wait asked for
        :param calls: what a look costs on average
        """
        per_call = max(window.seconds_a_call(now, self.share) for window in self._windows)
        return max(MIN_INTERVAL, asked, calls * per_call)

    @property
    def burst(self) -> int:
        """How many calls may be made at once without spending the share of the hour on it."""
        limit = self._windows[0].limit
        return max(1, int(self.share * limit) // 4) if limit else 1_000


def backoff(failures: int) -> float:
    """
    Give the pause before the service is tried to be reached again, seconds.

    :param failures: how often in a row it was not reached
    """
    return min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 20), LONGEST_BACKOFF)
