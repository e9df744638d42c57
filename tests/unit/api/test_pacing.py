# SPDX-License-Identifier: Apache-2.0
"""The plan for the polls, against accounts that count in different ways."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.errors import CloudHPCQuotaError
from airflow_provider_cloudhpc.api.models import Quota
from airflow_provider_cloudhpc.api.waiting.pacing import (
    ASSUMED_HOURLY_LIMIT,
    DAY,
    FIRST_PAUSE,
    HOUR,
    LONGEST_BACKOFF,
    LONGEST_PAUSE,
    MIN_INTERVAL,
    Pace,
    backoff,
    reserve_of,
)

BEGUN = 1_000_000 * HOUR


@dataclass
class Account:
    """An account of the service that counts its calls, by a window of one kind."""

    hourly: int
    daily: int = 0
    kind: str = "rolling"
    calls: list[float] = field(default_factory=list)
    most: dict[float, int] = field(default_factory=lambda: {HOUR: 0, DAY: 0})

    def used(self, length: float, now: float) -> int:
        if self.kind == "rolling":
            return len(self.calls) - bisect.bisect_right(self.calls, now - length)
        return len(self.calls) - bisect.bisect_left(self.calls, now - now % length)

    def call(self, now: float) -> Quota:
        """Count a call; what its answer tells."""
        assert not self.calls or now >= self.calls[-1]
        self.calls.append(now)
        for length in self.most:
            self.most[length] = max(self.most[length], self.used(length, now))
        return Quota(self.hourly, self.used(HOUR, now), self.daily, self.used(DAY, now))


def poll(pace: Pace, account: Account, now: float, *, asked: float = 0.0, calls: int = 1) -> Iterator[float]:
    """A poller that looks for ever with ``calls`` calls a look; yields when it acts next."""
    yield now
    while True:
        for _ in range(calls):
            while (free := pace.earliest(now)) > now:
                now = free
                yield now
            pace.called(account.call(now), now)
        now += pace.interval(now, asked, calls)
        yield now


def play(actors: list[Iterator[float]], until: float) -> None:
    """Let actors act in the order of time."""
    due = [next(actor) for actor in actors]
    while (when := min(due)) < until:
        first = due.index(when)
        due[first] = next(actors[first])


def foreign(account: Account, now: float, pause: float) -> Iterator[float]:
    """Another program, which calls at its own pace whatever the counters say."""
    yield now
    while True:
        account.call(now)
        now += pause
        yield now


@pytest.mark.parametrize(("limit", "reserve"), [(100, 5), (500, 25), (60, 5), (1000, 50), (101, 6), (8, 4), (1, 0)])
def test_the_reserve_is_five_percent_and_at_least_five_but_never_more_than_half(limit, reserve):
    assert reserve_of(limit) == reserve


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
@settings(max_examples=40)
@given(
    limit=st.integers(12, 600),
    daily=st.sampled_from([0, 300, 2000]),
    share=st.floats(0.1, 1.0),
    calls=st.integers(1, 12),
    shift=st.floats(0, HOUR),
)
def test_one_poller_keeps_to_its_share_and_out_of_the_reserve(kind, limit, daily, share, calls, shift):
    account = Account(limit, daily, kind)
    play([poll(Pace(share), account, BEGUN + shift, calls=calls)], BEGUN + shift + 3 * HOUR)
    assert account.most[HOUR] <= max(1, min(int(share * limit), limit - reserve_of(limit)))
    if daily:
        assert account.most[DAY] <= max(1, min(int(share * daily), daily - reserve_of(daily)))
    assert account.calls


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
def test_a_share_is_used_where_the_looks_need_it(kind):
    account = Account(100, kind=kind)
    play([poll(Pace(0.5), account, BEGUN, calls=2)], BEGUN + 5 * HOUR)
    last_hour = sum(call > BEGUN + 4 * HOUR for call in account.calls)
    assert 40 <= last_hour <= 50


def test_no_limit_told_means_the_limit_of_a_free_account():
    pace = Pace(0.5)
    assert pace.interval(BEGUN, 0.0, 1) == HOUR / (0.5 * ASSUMED_HOURLY_LIMIT)
    for number in range(50):
        assert pace.earliest(BEGUN + number) == BEGUN + number
        pace.called(None, BEGUN + number)
    assert pace.earliest(BEGUN + 60) >= BEGUN + HOUR


def test_a_limit_of_nought_is_none():
    pace = Pace(0.5)
    for number in range(2000):
        pace.called(Quota(0, 4000 + number, 0, 4000 + number), BEGUN + number)
    now = BEGUN + 2000
    assert pace.earliest(now) == now
    assert pace.interval(now, 45.0, 40) == 45.0
    assert pace.burst >= 1000


@given(
    asked=st.floats(0, 7200), calls=st.floats(0.1, 50), limit=st.integers(0, 5000), share=st.floats(0.01, 1.0)
)  # fmt: skip
def test_an_interval_is_never_under_thirty_seconds_nor_under_what_was_asked(asked, calls, limit, share):
    pace = Pace(share)
    pace.called(Quota(limit, 1, 0, 1), BEGUN)
    assert pace.interval(BEGUN + 1, asked, calls) >= max(MIN_INTERVAL, asked)


def test_a_smaller_share_means_longer_intervals():
    intervals = []
    for share in (1.0, 0.5, 0.25, 0.1):
        pace = Pace(share)
        pace.called(Quota(100, 1, None, None), BEGUN)
        intervals.append(pace.interval(BEGUN, 0.0, 1))
    assert intervals == sorted(set(intervals))


@pytest.mark.parametrize("window", ["hourly", "daily"])
def test_the_reserve_is_left_when_others_use_the_rest(window):
    pace = Pace(1.0)

    def told(used: int, now: float) -> None:
        pace.called(Quota(100, used, 0, 0) if window == "hourly" else Quota(0, 0, 100, used), now)

    told(94 - 1, BEGUN)
    told(95, BEGUN + 10)
    length = HOUR if window == "hourly" else DAY
    # Two of them are to be forgiven first (the others may have made one since), and ours are those that surely are.
    assert BEGUN + 10 + length <= pace.earliest(BEGUN + 20) <= BEGUN + length + 12
    assert pace.earliest(BEGUN + length + 12) == BEGUN + length + 12


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
@settings(max_examples=40)
@given(
    limit=st.sampled_from([60, 100, 500]),
    shift=st.floats(0, HOUR),
    second=st.floats(0, 600),
    rate=st.sampled_from([0.0, 0.05, 0.1, 0.2]),
    calls=st.integers(1, 6),
    share=st.sampled_from([0.5, 0.8, 1.0]),
)
def test_two_pollers_and_a_foreign_program_stay_below_the_limit(kind, limit, shift, second, rate, calls, share):
    account = Account(limit, kind=kind)
    begun = BEGUN + shift
    pollers = [poll(Pace(share), account, begun + late, asked=60.0, calls=calls) for late in (0.0, second)]
    # It calls blindly, so what it does after the pollers have filled the hour goes into the reserve: it is for that.
    others = [foreign(account, begun + 7, HOUR / (rate * limit))] if rate else []
    play([*pollers, *others], begun + 4 * HOUR)
    assert account.most[HOUR] <= (limit if others else limit - reserve_of(limit))


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
@pytest.mark.parametrize("rate", [0.4, 0.5])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_two_pollers_leave_a_blind_program_the_half_that_it_takes(kind, rate, share):
    for minute, calls in itertools.product((0, 10, 25, 45), (1, 2, 6)):
        account, begun = Account(100, kind=kind), BEGUN + minute * 60
        pollers = [poll(Pace(share), account, begun + 40 * n, asked=60.0, calls=calls) for n in range(2)]
        play([*pollers, foreign(account, begun + 7, HOUR / (rate * 100))], begun + 8 * HOUR)
        assert account.most[HOUR] <= 100
        # And they do not starve beside it.
        assert len(account.calls) >= 8 * (100 * rate + 28)


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
def test_a_poller_makes_way_for_a_program_that_takes_half(kind):
    account = Account(100, kind=kind)
    play([poll(Pace(1.0), account, BEGUN, calls=2), foreign(account, BEGUN + 7, HOUR / 50)], BEGUN + 5 * HOUR)
    assert account.most[HOUR] <= 96
    assert sum(call > BEGUN + 4 * HOUR for call in account.calls) >= 90


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
def test_two_pollers_go_on_beside_each_other(kind):
    account = Account(100, kind=kind)
    told: list[list[float]] = [[], []]

    def noted(actor: Iterator[float], times: list[float]) -> Iterator[float]:
        for when in actor:
            times.append(when)
            yield when

    pollers = [poll(Pace(0.5), account, BEGUN + 40 * n, asked=60.0, calls=2) for n in range(2)]
    play([noted(poller, times) for poller, times in zip(pollers, told, strict=True)], BEGUN + 6 * HOUR)
    for times in told:
        assert max(b - a for a, b in itertools.pairwise(times)) <= 20 * 60
    assert sum(call > BEGUN + 5 * HOUR for call in account.calls) >= 60


def test_a_refusal_pauses_with_jitter_and_longer_each_time():
    first, second = (Pace(jitter=random.Random(seed)) for seed in (1, 2))
    error = CloudHPCQuotaError("no")
    assert first.refused(error, BEGUN) != second.refused(error, BEGUN)
    pauses, now = [], BEGUN
    pace = Pace(jitter=random.Random(3))
    for _ in range(8):
        until = pace.refused(error, now)
        assert pace.earliest(now) == until
        pauses.append(until - now)
        now = until
    for number, pause in enumerate(pauses):
        least = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert least < pause <= 1.1 * least + 2
    pace.answered()
    assert pace.refused(error, now) - now <= 1.1 * FIRST_PAUSE + 2


@given(retry_after=st.floats(0, 5000), used=st.integers(0, 100))
def test_retry_after_is_what_is_waited_for(retry_after, used):
    pace = Pace(jitter=random.Random(4))
    pace.called(Quota(100, used, 0, used), BEGUN)
    until = pace.refused(CloudHPCQuotaError("no", retry_after=retry_after), BEGUN + 1)
    assert BEGUN + 1 + retry_after < until <= BEGUN + 1 + 1.1 * retry_after + 2


def test_a_burst_is_a_part_of_the_share():
    pace = Pace(0.5)
    pace.called(Quota(500, 1, 0, 1), BEGUN)
    assert pace.burst == 500 // 2 // 4
    assert Pace(0.01).burst == 1


def test_backing_off_grows_to_a_limit():
    pauses = [backoff(failures) for failures in range(1, 60)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 30.0
    assert pauses[-1] == LONGEST_BACKOFF


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
@settings(max_examples=30)
@given(limit=st.integers(20, 300), shift=st.floats(0, HOUR), delay=st.floats(1, 60), share=st.floats(0.2, 1.0))
def test_promised_reads_and_polls_stay_out_of_the_reserve(kind, limit, shift, delay, share):
    account, pace = Account(limit, kind=kind), Pace(share)
    now, left, made = BEGUN + shift, 2 * limit, []
    while left and now < BEGUN + 12 * HOUR:
        if pace.earliest(now) <= now:
            pace.called(account.call(now), now)
        promised = pace.promise(left, now)
        left -= promised
        made += [now + delay] * promised
        now += 60.0
        for when in [when for when in made if when <= now]:
            account.call(when)
        made = [when for when in made if when > now]
    assert account.most[HOUR] <= limit - reserve_of(limit)
    assert left == 0


def test_where_no_counters_or_no_limit_are_told_every_read_has_its_call():
    pace = Pace(0.5)
    assert pace.promise(1000, BEGUN) == 1000
    pace.called(Quota(0, 4000, 0, 4000), BEGUN)
    assert pace.promise(1000, BEGUN) == 1000


def test_a_third_of_the_free_calls_at_once_and_no_more_for_two_minutes():
    pace = Pace(0.5)
    pace.called(Quota(100, 4, 0, 0), BEGUN)
    assert [pace.promise(50, BEGUN + 60 * minute) for minute in range(4)] == [30, 0, 20, 0]


def test_a_promised_read_that_never_comes_is_given_up():
    pace = Pace(0.5)

    def promised_when_told(now: float) -> int:
        pace.called(Quota(100, 93, 0, 0), now)
        return pace.promise(50, now)

    assert [promised_when_told(BEGUN + minutes * 60) for minutes in (0, 5, 29, 31)] == [1, 0, 0, 1]


@pytest.mark.parametrize("reads", [1, 50, 95, 250])
def test_the_times_told_are_in_order_and_reach_over_the_hours(reads):
    pace = Pace(0.5)
    for minute in range(30):
        pace.called(Quota(100, 3 * minute + 5, 0, 0), BEGUN + 60 * minute)
    now = BEGUN + 1800
    times = pace.promise_times(range(reads), now)
    assert times == sorted(times)
    assert len(times) == reads
    # 94 of 95 are free now or within an hour and a half; the rest an hour later, and so on.
    assert now <= times[0] <= times[-1] <= BEGUN + 1.6 * HOUR + (reads - 1) // 95 * HOUR


def test_after_a_refusal_that_says_how_long_nothing_is_promised_before_the_counters_are_told():
    pace = Pace(0.5, jitter=random.Random(5))
    pace.called(Quota(100, 20, 0, 0), BEGUN)
    until = pace.refused(CloudHPCQuotaError("no", retry_after=600.0), BEGUN + 1)
    assert pace.promise(5, BEGUN + 2) == pace.promise(5, until) == 0
    assert pace.earliest(until) == until
    pace.called(Quota(100, 1, 0, 0), until)
    assert pace.promise(5, until) == 5


@pytest.mark.parametrize("told", [(-1, -5), (None, 100), (None, None), (0, 100)])
def test_counters_that_tell_no_limit_hold_nothing_back(told):
    pace = Pace(0.5)
    limit, used = told
    for number in range(10):
        pace.called(Quota(limit, used, limit, used), BEGUN + 72 * number)
        assert pace.earliest(BEGUN + 72 * number) == BEGUN + 72 * number
    assert pace.promise(40, BEGUN + 720) == 40


@pytest.mark.parametrize("limit", [2**31 - 1, 2**63, 10**30])
def test_a_limit_that_means_none_costs_no_memory(limit):
    pace = Pace()
    pace.called(Quota(limit, 3, 100, 100), BEGUN)
    pace.refused(CloudHPCQuotaError("no"), BEGUN)
    assert pace.promise(3, BEGUN) == 0
    first, last = pace.promise_times([0, 250], BEGUN)
    assert BEGUN < first < last < BEGUN + 4 * 86400
    assert pace.next_promise(3, BEGUN) > BEGUN


@pytest.mark.parametrize("limit", [3, 5, 8])
def test_on_very_few_calls_too_the_reads_come_in_the_end(limit):
    account, pace, left, now = Account(limit), Pace(1.0), 3, BEGUN
    while left and now < BEGUN + 40 * HOUR:
        if pace.earliest(now) <= now:
            pace.called(account.call(now), now)
        for _ in range(pace.promise(left, now)):
            account.call(now + 1)
            left -= 1
        now += 60.0
    assert left == 0
    assert account.most[HOUR] <= limit
