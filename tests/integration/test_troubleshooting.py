# SPDX-License-Identifier: Apache-2.0
"""The pages that are made by a command are what the command makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["dev.document_troubles", "dev.document_catalogue"])
def test_the_page_is_current(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"python -m {module} --write makes it current\n{done.stderr[-2000:]}"
