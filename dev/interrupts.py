# SPDX-License-Identifier: Apache-2.0
"""What ends a program with servers of its own: Ctrl-C and SIGTERM, both as a :class:`KeyboardInterrupt`."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """Raise on both, also in the background of a shell, where SIGINT is ignored unless a program says otherwise."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
