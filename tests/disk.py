# SPDX-License-Identifier: Apache-2.0
"""A small disk of one's own that really gets full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(where: Path, size: int) -> Iterator[Path]:
    """Mount a file system of so many bytes in memory; skip where this machine does not allow that."""
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here, so none can be filled: {getattr(error, 'stderr', '') or error}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)
