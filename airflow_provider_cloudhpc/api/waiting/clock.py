# SPDX-License-Identifier: Apache-2.0
"""The time that waits are paced by: it runs evenly, whatever is done to the machine's clock meanwhile."""

from __future__ import annotations

import time


class SteadyClock:
    """
    A clock that begins with the machine's time and never jumps.

    Pauses are measured by it. A deadline is a point of the machine's time, which :meth:`ahead` leads back to.
    """

    def __init__(self) -> None:
        self._begun = time.time() - time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch, as the machine's clock counted them when this one began."""
        return self._begun + time.monotonic()

    def ahead(self) -> float:
        """By how many seconds the machine's clock was set forward since; negative: back."""
        return time.time() - self.time()
