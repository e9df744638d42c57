# SPDX-License-Identifier: Apache-2.0
"""The page that is made by a command is what the command makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    module = "dev.document_troubles"
    done = subprocess.run([sys.executable, "-m", module, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"python -m {module} --write makes it current\n{done.stderr[-2000:]}"
