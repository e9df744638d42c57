# SPDX-License-Identifier: Apache-2.0
"""Starting solvers and waiting for their end; every run that a test leaves behind is killed."""

from __future__ import annotations

import time

import pytest

from airflow_provider_cloudhpc.emulator.solvers import start_run

#: Seconds after which a wait has failed; nothing here takes a tenth of it.
PATIENCE = 60


class Clock:
    """An emulated clock that stands still until told."""

    def __init__(self, time: float = 0.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


def until(condition, what="it"):
    """Wait for a condition and give what it gave."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen within {PATIENCE} s")


def ended(run):
    """Wait for a run's end and give its exit code."""
    until(lambda: run.poll() is not None, f"the end of the run ({run.output()[-500:]})")
    return run.poll()


@pytest.fixture
def start(tmp_path):
    """Start a script on files given as name -> content."""
    runs = []

    def starter(script, files, *, cpu=2, ram="standard", **options):
        folder = tmp_path / f"run{len(runs)}" / "case"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        folder.mkdir(parents=True, exist_ok=True)
        runs.append(start_run(script=script, cpu=cpu, ram=ram, workdir=folder, **options))
        return runs[-1]

    yield starter
    for run in runs:
        run.kill()
