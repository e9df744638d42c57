# SPDX-License-Identifier: Apache-2.0
"""``calculiX-*``: the folder's input deck, by ``ccx`` where it is installed (Debian: ``calculix-ccx``)."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.solvers.machine import threads
from airflow_provider_cloudhpc.emulator.solvers.process import ProcessRun

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_cloudhpc.emulator.solvers.base import Case, Run

ARCHIVE = "CALCULIX.tar.gz"
_STEP = re.compile(rb"\s*\*STEP\b", re.IGNORECASE)


def available() -> bool:
    """Whether CalculiX is on this machine."""
    return shutil.which("ccx") is not None


def refusal(case: Case) -> str | None:
    """What the platform says instead of starting the solver, None where it starts."""
    if len(_decks(case)) != 1:
        return "CalculiX needs exactly one .inp with a *STEP right in the folder"
    return None


def _decks(case: Case) -> list[Path]:
    """Input decks with a step; the others are included by one of them."""
    found = []
    for path in case.files("*.inp"):
        with path.open("rb") as lines:
            if any(map(_STEP.match, lines)):
                found.append(path)
    return found


def start(case: Case) -> Run:
    """
    Run the input deck.

    :param case: what to run; :func:`refusal` has nothing against it
    """
    return CalculixRun(case, ["ccx", "-i", _decks(case)[0].stem], archive=ARCHIVE, env={
        "OMP_NUM_THREADS": str(threads(case)),
    })  # fmt: skip


class CalculixRun(ProcessRun):
    """CalculiX at work. It knows no soft stop: SIGTERM ends it, and what it has written is kept."""

    def verdict(self, code: int, reason: str, log: str) -> str:
        """The exit code does not tell: a missing include file prints ``*ERROR`` and ends with 0."""
        if reason == "exit" and code == 0 and ("*ERROR" in log or "Job finished" not in log):
            return "@@@ ERROR: CalculiX did not finish its job: see *ERROR above\n"
        return super().verdict(code, reason, log)

    def pack_results(self, target: Path) -> list[Path]:
        """The archive, and the ``.frd`` beside it."""
        packed = super().pack_results(target)
        for name in self.changed_files():
            if name.endswith(".frd"):
                packed.append(target / name.rpartition("/")[2])
                shutil.copyfile(self.case.workdir / name, packed[-1])
        return packed
