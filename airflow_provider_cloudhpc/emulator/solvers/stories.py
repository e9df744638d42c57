# SPDX-License-Identifier: Apache-2.0
"""What simulated solvers print and leave: believable, made from the case's own input, the same for the same seed."""

from __future__ import annotations

import math
import random
import re
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.solvers.machine import processes
from airflow_provider_cloudhpc.emulator.solvers.simulated import Story

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cloudhpc.emulator.solvers.base import Case

#: Shortest and longest simulated run, emulated seconds.
DURATION = 2.0, 5.0


def _random(case: Case) -> random.Random:
    return random.Random(f"{case.script}:{case.seed}")  # noqa: S311


def fds(case: Case) -> Story:
    """A fire: time steps to the input's ``T_END``, a growing and then steady heat release."""
    dice = _random(case)
    deck = case.files("*.fds")[0]
    text = deck.read_text(errors="replace")
    found = re.search(r"CHID\s*=\s*['\"]([^'\"]+)", text)
    chid = found.group(1) if found else deck.stem
    found = re.search(r"&TIME[^/]*?T_END\s*=\s*([\d.]+)", text, re.DOTALL)
    end = float(found.group(1)) if found else 1.0
    version = case.script.removeprefix("fds")
    head = [
        "@@@ Starting FDS ...",
        *(f" MPI Process {rank:6d} started on cloudhpc" for rank in range(processes(case))),
        " Reading FDS input file ...",
        "",
        " Fire Dynamics Simulator",
        "",
        f" Version          : FDS-{version}",
        f" Number of MPI Processes:  {processes(case)}",
        f" Job ID string    : {chid}",
        "",
    ]
    if "&MESH" not in text.upper():
        error = [
            "ERROR(201): No MESH line(s) defined.",
            f"ERROR: FDS was improperly set-up - FDS stopped (CHID: {chid})",
        ]
        log = "\n".join([*head, *error])
        return Story(DURATION[0], head, end=error, code=1, files=lambda fraction, ended: {f"{chid}.out": log},
                     archive=lambda name: "FDS.tar.gz")  # fmt: skip
    steps = 200
    lines = [f" Time Step: {n:6d}, Simulation Time: {end * n / steps:10.2f} s" for n in range(1, steps + 1)]
    peak = dice.uniform(200, 2000)
    heat = [peak * min(1.0, (3 * n / steps) ** 2) * dice.uniform(0.97, 1.03) for n in range(steps + 1)]

    def files(fraction: float, ended: bool) -> dict[str, str]:
        done = int(fraction * steps)
        last = [_FDS_DONE.format(chid=chid) if fraction >= 1 else _FDS_STOPPED.format(chid=chid)] if ended else []
        rows = [f"{end * n / steps:.5E},{heat[n]:.7E}" for n in range(done + 1)]
        return {
            f"{chid}.out": "\n".join([*head[1:], *lines[:done], *last]) + "\n",
            f"{chid}_hrr.csv": "\n".join(["s,kW", "Time,HRR", *rows]) + "\n",
            f"{chid}_steps.csv": "\n".join(
                ["Time Step,Simulation Time", *(f"{n},{end * n / steps:.5E}" for n in range(1, done + 1))]
            )
            + "\n",
        }

    return Story(
        dice.uniform(*DURATION), head, lines,
        end=["", _FDS_DONE.format(chid=chid)], stopped=["", _FDS_STOPPED.format(chid=chid)],
        files=files, archive=lambda name: "FDS.tar.gz",
    )  # fmt: skip


_FDS_DONE = "STOP: FDS completed successfully (CHID: {chid})"
_FDS_STOPPED = "STOP: FDS stopped by user (CHID: {chid})"


def converging(
    archive: str | Callable[[str], str], *, log: str, start: str, end: str, extra: tuple[str, ...] = ()
) -> Callable[[Case], Story]:
    """
    A solver whose residual falls.

    :param archive: name of the result archive, or of a file's archive
    :param log: name of the log in it; ``{name}`` is the input's
    :param start: its first line
    :param end: its last line where it ended by itself or after a soft stop
    :param extra: further files
    """

    def tell(case: Case) -> Story:
        dice = _random(case)
        inputs = case.files("*.export", "*.cfg", "*_0000.rad", "*.xml", "*.inp", "*.idf", "*.prj", "*.in", "*.cas")
        name = inputs[0].name.removesuffix(inputs[0].suffix).removesuffix("_0000") if inputs else "case"
        steps, rate = 120, dice.uniform(5, 7)
        residuals = [math.exp(-rate * n / steps * 2) * dice.uniform(0.8, 1.2) for n in range(1, steps + 1)]
        lines = [f" iteration {n:5d}   residual {value:.4e}" for n, value in enumerate(residuals, 1)]

        def files(fraction: float, ended: bool) -> dict[str, str]:
            done = lines[: int(fraction * steps)]
            rows = [f"{n},{value:.6e}" for n, value in enumerate(residuals[: len(done)], 1)]
            finished = [end] if ended else []
            return {
                log.format(name=name): "\n".join([start, *done, *finished]) + "\n",
                "residuals.csv": "\n".join(["iteration,residual", *rows]) + "\n",
                **{member.format(name=name): f"simulated by the emulator, seed {case.seed}\n" for member in extra},
            }

        return Story(
            dice.uniform(*DURATION), [start], lines, end=[end], stopped=[end], files=files,
            archive=archive if callable(archive) else lambda member: archive,
        )  # fmt: skip

    return tell


def openfoam_archive(name: str) -> str:
    """Which of the three OpenFOAM archives a file belongs into."""
    top = name.partition("/")[0]
    return f"OPENFOAM-{top if '/' in name and top in {'constant', 'system'} else 'solution'}.tar.gz"


def static(case: Case) -> Story:
    """A bare machine: runs, and bills, until stopped."""
    return Story(math.inf, [f"@@@ {case.script}: the machine runs until it is stopped"])
