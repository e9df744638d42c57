# SPDX-License-Identifier: Apache-2.0
"""
How the emulator runs simulations: really where the solver is on this machine, else simulated.

Standard library only. The entry is :func:`start_run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from airflow_provider_cloudhpc.emulator.solvers import custom, stories
from airflow_provider_cloudhpc.emulator.solvers.base import Case, Limits, RefusedRun, Run
from airflow_provider_cloudhpc.emulator.solvers.families import family_of
from airflow_provider_cloudhpc.emulator.solvers.machine import too_small
from airflow_provider_cloudhpc.emulator.solvers.simulated import SimulatedRun

__all__ = ["Limits", "RefusedRun", "Run", "solver_available", "start_run"]


def solver_available(script: str) -> bool:
    """
    Whether a script really computes on this machine; False where it is simulated.

    :param script: name of the script, e.g. ``calculiX-2.21-PARDISO``
    """
    return script == "custom-script" or family_of(script).available()


def start_run(
    *,
    script: str,
    cpu: int,
    ram: str,
    workdir: Path,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
    started: float | None = None,
    mesh_dir: Path | None = None,
    seed: int = 0,
    message: str = "",
) -> Run:
    """
    Start a simulation; never raises for what is wrong with a case: that is in the run's output.

    :param script: name of the script, as in ``simulation/view-scripts``
    :param cpu: number of vCPU
    :param ram: name of the memory tier
    :param workdir: the unpacked content of the storage folder; results appear in it
    :param limits: what the run may use; default: :class:`Limits` as it comes
    :param clock: tells emulated seconds, for what is simulated
    :param started: when it started by that clock, default now
    :param mesh_dir: the unpacked content of the mesh folder, if one was named
    :param seed: of all that is made up
    :param message: lines of the platform to come first
    :return: the run, already at work
    """
    begun = clock() if started is None else started
    case = Case(
        script, cpu, ram, Path(workdir).resolve(), mesh_dir, limits or Limits(), clock, begun, seed, message
    )  # fmt: skip
    if script == "custom-script":
        return custom.start(case)
    if script.endswith("-static"):
        return SimulatedRun(case, stories.static(case))
    family = family_of(script)
    refused = too_small(case) or family.refusal(case)
    if refused:
        return RefusedRun(f"{case.banner}@@@ ERROR: {refused}\n")
    if family.start is not None and family.available():
        return family.start(case)
    return SimulatedRun(case, family.story(case))
