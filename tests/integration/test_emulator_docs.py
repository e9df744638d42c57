# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/emulator.md, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator.faults import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, tmp_path: Path) -> None:
    file = tmp_path / "test_example.py"
    file.write_text(EXAMPLES[number])
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "def test_" in EXAMPLES[number] else []
    done = subprocess.run([sys.executable, *command, str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_fault_is_named() -> None:
    assert [kind for kind in KINDS if f"`{kind}`" not in PAGE] == []
