# SPDX-License-Identifier: Apache-2.0
"""How far a long piece of work is: the callback that everything here reports to, and one that writes a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

#: Called with the bytes done and the bytes in all (None where that is not known), at most once a block.
ProgressCallback = Callable[[int, int | None], None]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def format_bytes(size: float) -> str:
    """
    Write a number of bytes for people.

    :param size: bytes
    :return: e.g. ``512 B``, ``1.5 MB`` (decimal units, as storage is sold and billed)
    """
    for unit in _UNITS:
        if abs(size) < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def format_seconds(seconds: float) -> str:
    """
    Write a duration for people.

    :param seconds: the duration
    :return: e.g. ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


class ProgressLog:
    """
    A progress callback that writes percent, rate and time left to a log, at growing intervals.

    Nothing is written for work of a few seconds; the first line comes after ``first`` seconds and each next one after
    twice the time, at most ``longest`` seconds apart, so that neither a minute nor a night drowns the log.

    :param what: how a line begins, e.g. ``Uploading caseA/upload.tar.gz``
    :param log: where to write, level INFO
    :param first: seconds until the first line
    :param longest: seconds between two lines at most
    :param clock: seconds, monotonic; given by tests
    """

    def __init__(
        self,
        what: str,
        log: logging.Logger,
        *,
        first: float = 5.0,
        longest: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._log = log
        self._interval = first
        self._longest = longest
        self._clock = clock
        self._begun = clock()
        self._next = self._begun + first
        # The rate counts from here: a resumed transfer begins in the middle, a repeated one falls back.
        self._base = (self._begun, 0)
        self._done: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """
        Take note of the progress, and write a line if one is due.

        :param done: bytes done so far
        :param total: bytes in all, None where not known
        """
        now = self._clock()
        if self._done is None or done < self._done:
            self._base = (now, done) if done else (self._begun if self._done is None else now, 0)
        self._done = done
        if now < self._next:
            return
        self._interval = min(self._interval * 2, self._longest)
        self._next = now + self._interval
        since, base = self._base
        rate = (done - base) / (now - since) if now > since else 0.0
        if not total:
            self._log.info("%s: %s, %s/s", self._what, format_bytes(done), format_bytes(rate))
            return
        left = format_seconds((total - done) / rate) if rate > 0 else "unknown"
        self._log.info(
            "%s: %.0f%% (%s of %s), %s/s, %s left",
            self._what,
            100 * done / total,
            format_bytes(done),
            format_bytes(total),
            format_bytes(rate),
            left,
        )
