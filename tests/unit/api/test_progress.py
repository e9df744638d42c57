# SPDX-License-Identifier: Apache-2.0
"""What the log says of a long transfer, and how often."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from airflow_provider_cloudhpc.api.progress import ProgressLog, format_bytes, format_seconds

GB = 10**9
log = logging.getLogger(__name__)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def run(progress: ProgressLog, clock: Clock, steps: list[tuple[float, int]], total: int | None = GB) -> None:
    for seconds, done in steps:
        clock.now = 100.0 + seconds
        progress(done, total)


def test_a_few_seconds_say_nothing(clock: Clock, lines: Callable[[], list[str]]) -> None:
    run(ProgressLog("Uploading a", log, clock=clock), clock, [(t / 10, t * 20_000_000) for t in range(50)])

    assert lines() == []


def test_percent_rate_and_time_left(clock: Clock, lines: Callable[[], list[str]]) -> None:
    run(ProgressLog("Uploading a", log, clock=clock), clock, [(0, 0), (5, GB // 4), (14.9, GB // 2), (15, GB // 2)])

    assert lines() == [
        "Uploading a: 25% (250.0 MB of 1.0 GB), 50.0 MB/s, 15.0 s left",
        "Uploading a: 50% (500.0 MB of 1.0 GB), 33.3 MB/s, 15.0 s left",
    ]


def test_a_night_is_a_line_a_minute(clock: Clock, lines: Callable[[], list[str]]) -> None:
    run(ProgressLog("Uploading a", log, clock=clock), clock, [(t, t * 1000) for t in range(3601)])

    assert 58 <= len(lines()) <= 66


def test_a_resumed_transfer_does_not_boast(clock: Clock, lines: Callable[[], list[str]]) -> None:
    """Half of it was there: the rate is of what comes."""
    run(ProgressLog("Downloading a", log, clock=clock), clock, [(0, GB // 2), (10, GB // 2 + 10**8)])

    assert lines() == ["Downloading a: 60% (600.0 MB of 1.0 GB), 10.0 MB/s, 40.0 s left"]


def test_one_that_begins_again_counts_from_there(clock: Clock, lines: Callable[[], list[str]]) -> None:
    run(ProgressLog("Uploading a", log, clock=clock), clock, [(0, 0), (4, GB // 2), (4.5, 0), (14.5, 10**8)])

    assert lines() == ["Uploading a: 10% (100.0 MB of 1.0 GB), 10.0 MB/s, 1 min 30 s left"]


@pytest.mark.parametrize(
    ("total", "line"),
    [(None, "Downloading a: 50.0 MB, 5.0 MB/s"), (0, "Downloading a: 50.0 MB, 5.0 MB/s")],
)
def test_no_percent_of_an_unknown_size(
    clock: Clock, lines: Callable[[], list[str]], total: int | None, line: str
) -> None:
    run(ProgressLog("Downloading a", log, clock=clock), clock, [(0, 0), (10, 50_000_000)], total)

    assert lines() == [line]


def test_a_stall_has_no_end_in_sight(clock: Clock, lines: Callable[[], list[str]]) -> None:
    run(ProgressLog("Uploading a", log, clock=clock), clock, [(0, 0), (10, 0)])

    assert lines() == ["Uploading a: 0% (0 B of 1.0 GB), 0 B/s, unknown left"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_550_000, "1.6 MB"), (10**15, "1.0 PB"), (10**19, "10000.0 PB")],
)
def test_sizes(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
