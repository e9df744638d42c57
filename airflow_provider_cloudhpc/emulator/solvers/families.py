# SPDX-License-Identifier: Apache-2.0
"""Which scripts there are: what each refuses, how it runs for real, what it pretends where it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_cloudhpc.emulator.solvers import calculix, openfoam, stories
from airflow_provider_cloudhpc.emulator.solvers.base import Case, Run
from airflow_provider_cloudhpc.emulator.solvers.machine import processes
from airflow_provider_cloudhpc.emulator.solvers.simulated import Story

_MESH_PROCESS = re.compile(r"&MESH\b[^/]*?MPI_PROCESS\s*=\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Family:
    """
    Scripts of one solver.

    :param prefix: how their names begin, in lower case
    :param refusal: what the platform says instead of starting the solver, None where it starts
    :param story: what is pretended
    :param available: whether the solver is on this machine
    :param start: runs it for real; None where the emulator only pretends
    """

    prefix: str
    refusal: Callable[[Case], str | None]
    story: Callable[[Case], Story]
    available: Callable[[], bool] = lambda: False
    start: Callable[[Case], Run] | None = None


def _needs(pattern: str, message: str) -> Callable[[Case], str | None]:
    return lambda case: None if case.files(pattern) else message


def _fds(case: Case) -> str | None:
    decks = case.files("*.fds")
    if not decks:
        pyrosim = case.files("*.psm")
        return f"{pyrosim[0].name} is a pyrosim file: export an .fds" if pyrosim else "No FDS file detected"
    ranks = [int(rank) for rank in _MESH_PROCESS.findall(decks[0].read_text(errors="replace"))]
    if ranks != sorted(ranks):
        return "MPI_PROCESS must be in ASCENDING ORDER"
    if ranks and ranks[-1] >= processes(case):
        return f"MPI_MPI_PROCESS incorrect: {ranks[-1] + 1} processes asked for, {processes(case)} cores"
    return None


def _snappy(case: Case) -> str | None:
    if not (case.workdir / "system/controlDict").is_file():
        return "Cannot find system/controlDict"
    if processes(case) < 2:
        return f"snappy script runs with nProc > 1: {case.cpu} vCPU of {case.ram} give nProc = 1"
    if not (case.workdir / "system/snappyHexMeshDict").is_file():
        return "snappyHexMesh failure: no system/snappyHexMeshDict"
    return None


def _anything(case: Case) -> None:
    """Nothing is known of what the script needs."""


_FOAM_END = "End"

FAMILIES = (
    Family("fds", _fds, stories.fds),
    Family(
        "openfoam", openfoam.refusal,
        stories.converging(stories.openfoam_archive, log="log.solver", start="Starting time loop", end=_FOAM_END,
                           extra=("100/U", "100/p", "system/controlDict", "constant/transportProperties")),
        openfoam.available, openfoam.start,
    ),
    Family(
        "snappyhexmesh", _snappy,
        stories.converging(stories.openfoam_archive, log="log.snappyHexMesh", start="Create mesh for time = 0",
                           end=_FOAM_END, extra=tuple(f"constant/polyMesh/{part}" for part in
                                                      ("boundary", "faces", "neighbour", "owner", "points"))),
    ),
    Family(
        "calculix", calculix.refusal,
        stories.converging(calculix.ARCHIVE, log="{name}.dat", start="CalculiX Version (simulated)",
                           end=" Job finished", extra=("{name}.frd",)),
        calculix.available, calculix.start,
    ),
    Family(
        "codeaster", _needs("*.export", "no export file detected"),
        stories.converging("CODE-ASTER.tar.gz", log="{name}.mess", start="-- CODE_ASTER",
                           end="<I> EXECUTION_CODE_ASTER_EXIT_0", extra=("{name}.rmed", "{name}.resu")),
    ),
    Family(
        "su2", _needs("*.cfg", "no .cfg file in the folder"),
        stories.converging("SU2.tar.gz", log="{name}.log", start="Begin Solver",
                           end="Exit Success (SU2_CFD)", extra=("restart_flow.dat",)),
    ),
    Family(
        "saturne", _anything,
        stories.converging("SATURNE-solution.tar.gz", log="RESU/run_solver.log", start="code_saturne",
                           end="END OF CALCULATION"),
    ),
    Family(
        "openradioss", _needs("*_0000.rad", "no *_0000.rad in the folder"),
        stories.converging("OPENRADIOSS.tar.gz", log="{name}_0001.out", start="OpenRadioss Engine",
                           end="NORMAL TERMINATION", extra=("{name}A001",)),
    ),
    Family(
        "energyplus", _needs("*.idf", "No IDF file found"),
        stories.converging("ENERGYPLUS.tar.gz", log="eplusout.err", start="EnergyPlus Starting",
                           end="EnergyPlus Completed Successfully.", extra=("eplusout.csv",)),
    ),
    Family(
        "contam", _needs("*.prj", "No PRJ file found"),
        stories.converging("CONTAM.tar.gz", log="{name}.log", start="CONTAM", end="simulation completed"),
    ),
    Family(
        "cfast", _needs("*.in", "No IN file found"),
        stories.converging("CFAST.tar.gz", log="{name}.log", start="CFAST", end="Normal exit from CFAST"),
    ),
    Family(
        "telemac", _needs("*.cas", "No CAS file found"),
        stories.converging("TELEMAC.tar.gz", log="{name}.log", start="LISTING OF TELEMAC", end="CORRECT END OF RUN"),
    ),
)  # fmt: skip

#: For scripts of no known family.
OTHER = Family(
    "", _anything,
    stories.converging("RESULTS.tar.gz", log="solver.log", start="solver started", end="solver finished"),
)  # fmt: skip


def family_of(script: str) -> Family:
    """The family that a script's name begins like, in any case; :data:`OTHER` for an unknown one."""
    return next((family for family in FAMILIES if script.lower().startswith(family.prefix)), OTHER)
