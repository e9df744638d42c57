# SPDX-License-Identifier: Apache-2.0
"""
The peak memory of a child process, measured so that the measurement can fail.

``ru_maxrss`` will not do: a process that was forked and executed begins with its parent's, so a child of a large pytest
looks the same however much it takes. ``VmHWM`` belongs to the program alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_TELL = '\nprint("PEAK", open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])\n'


def peak_memory(code: str, *arguments: str | Path, timeout: float = 120) -> int:
    """Run Python code in a process of its own; give the most memory that it had, KiB."""
    done = subprocess.run(
        [sys.executable, "-c", code + _TELL, *arguments], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("PEAK ")[2])
