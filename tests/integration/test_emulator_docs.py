# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/emulator.md, run as they stand there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator.cli import _parser
from airflow_provider_cloudhpc.emulator.control import Control
from airflow_provider_cloudhpc.emulator.faults import _OPTIONS, KINDS
from airflow_provider_cloudhpc.emulator.settings import Settings

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


def test_every_fault_is_named_with_its_options() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", PAGE, re.MULTILINE))
    missing = [(kind, option) for kind in KINDS for option in _OPTIONS.get(kind, ()) if option not in rows[kind]]
    assert missing == []
    assert KINDS.keys() <= rows.keys()


def test_every_control_is_named_with_its_arguments() -> None:
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    shared = inspect.signature(Control.plan).parameters.keys() - {"script", "times"}
    missing = []
    for name, method in inspect.getmembers(Control, inspect.isfunction):
        if name.startswith("_"):
            continue
        shown = re.search(rf"`{name}\(([^)]*)\)", rows)
        arguments = inspect.signature(method).parameters.keys() - {"self"}
        if name in ("simulation", "plan"):
            arguments -= shared
        missing += [
            f"{name}({argument})"
            for argument in arguments
            if shown is None or not re.search(rf"\b{argument}\b", shown.group(1))
        ]
        missing += [] if shown else [name]
    assert missing == []


def test_every_setting_and_option_is_named() -> None:
    names = [knob.name for knob in fields(Settings)]
    names += [text for action in _parser()._actions for text in action.option_strings if text not in ("-h", "--help")]
    assert [name for name in names if not re.search(rf"`{name}[` ]", PAGE)] == []
