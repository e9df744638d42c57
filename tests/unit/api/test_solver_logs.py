# SPDX-License-Identifier: Apache-2.0
"""Solver logs in results: what real and believable logs say, in folders and in archives."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_cloudhpc.api.diagnosis.catalogue import Severity
from airflow_provider_cloudhpc.api.diagnosis.solver_logs import check_results, is_log

if TYPE_CHECKING:
    from collections.abc import Callable

BANNER = "Build  : OPENFOAM=2406\nExec   : {}\ntrapFpe: Floating point exception trapping enabled (FOAM_SIGFPE).\n"
FDS = "\n Fire Dynamics Simulator\n\n Current Date : November 23, 2026\n Time Step 1\n"
STA = "SUMMARY OF JOB INFORMATION\n  STEP      INC     ATT  ITRS     TOT TIME     STEP TIME      INC TIME\n"
GOOD = "     1          1     1     4  0.250000E+00  0.250000E+00  0.250000E+00\n"
UNCONVERGED = "     1          1     1U    2  0.000000E+00  0.000000E+00  0.100000E+01\n"
DAT = "\n displacements (vx,vy,vz) for set NALL and time  0.1000000E+01\n\n         1  {}  0.0E+00  0.0E+00\n"

CASES: dict[str, tuple[str, str, list[str]]] = {
    "openfoam": ("log.simpleFoam", BANNER.format("simpleFoam") + "Starting time loop\nTime = 1\nEnd\n", []),
    "openfoam parallel": (
        "log.simpleFoam",
        BANNER.format("simpleFoam") + "Time = 1\nEnd\n\nFinalising parallel run\n",
        [],
    ),
    "openfoam utility broke off": (
        "log.blockMesh",
        BANNER.format("blockMesh") + "Creating block mesh\n",
        ["NOT_FINISHED"],
    ),
    "openfoam fatal": (
        "log.simpleFoam",
        BANNER.format("simpleFoam") + "--> FOAM FATAL ERROR: \ncannot find file\nFOAM exiting\n",
        ["FOAM_FATAL"],
    ),
    "openfoam diverged": (
        "log.icoFoam",
        BANNER.format("icoFoam")
        + "Starting time loop\n#0  Foam::error::printStack\n#1  Foam::sigFpe::sigHandler(int) at ??:?\n",
        ["FLOATING_POINT_EXCEPTION"],
    ),
    "openfoam utility with a time behind its End": (
        "log.foamToVTK",
        BANNER.format("foamToVTK") + "Wrote in 0 s, 139820 kB\n\nEnd: 0.01 s, 139820 kB (peak)\n",
        [],
    ),
    "openfoam utility without an End": (
        "log.foamUpgradeCyclics",
        BANNER.format("foamUpgradeCyclics") + "No changes made to field U\n",
        [],
    ),
    "a user's own log": ("log.prepare", "copying\ndone\n", []),
    "fds": ("room.out", FDS + " STOP: FDS completed successfully (CHID: room)\n", []),
    "fds broke off": ("room.out", FDS, ["NOT_FINISHED"]),
    "fds unstable": ("room.out", FDS + " ERROR: Numerical Instability - FDS stopped (CHID: room)\n", ["FDS_ERROR"]),
    "calculix sta": ("beam.sta", STA + UNCONVERGED + GOOD, []),
    "calculix sta of a frequency step": ("beam.sta", STA, []),
    "calculix gave up": ("beam.sta", STA + GOOD + UNCONVERGED + "\n", ["CALCULIX_NOT_CONVERGED"]),
    "calculix dat": ("beam.dat", DAT.format("0.1E+00"), []),
    "calculix nan": ("beam.dat", DAT.format("NaN"), ["CALCULIX_NAN"]),
    "another program's dat": ("table.dat", "x y\n1 nan\n", []),
    "calculix stdout": ("beam.log", " *ERROR in calinput: no material\n", ["CALCULIX_ERROR"]),
    "code_aster": ("plate.mess", "! <A> <CATAMESS_41> !\n EXECUTION_CODE_ASTER_EXIT_1=0\n", []),
    "code_aster fatal": ("plate.mess", "   ! <F> <MODELISA4_77> !\n", ["ASTER_FATAL"]),
    "not a log": ("beam.frd", " *ERROR Out of memory\n", []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_log_in_a_folder_and_in_archives(case: str, tmp_path: Path) -> None:
    name, text, codes = CASES[case]
    folder = tmp_path / "results" / "sub"
    folder.mkdir(parents=True)
    (folder / name).write_text(text)
    found = check_results(tmp_path / "results")
    assert [item.finding.code for item in found] == codes
    assert all(item.path == str(folder / name) and item.finding.severity is Severity.ERROR for item in found)

    with tarfile.open(tmp_path / "results.tar.gz", "w:gz") as archive:
        archive.add(folder, "sub")
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as zipped:
        zipped.write(folder / name, f"sub/{name}")
    for packed in ("results.tar.gz", "results.zip"):
        found = check_results([tmp_path / packed])
        assert [(item.path, item.finding.code) for item in found] == [
            (f"{tmp_path / packed}!sub/{name}", code) for code in codes
        ]


def test_results_are_not_changed_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log.a").write_text("Out of memory\n")
    os.utime(tmp_path / "log.a", (1, 1))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(check_results(tmp_path)) == 1
    assert (tmp_path / "log.a").stat().st_mtime == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.a", "loop"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _spoil(path: Path) -> None:
    path.write_bytes(b"this is no archive at all")


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _spoil, _remove])
@pytest.mark.parametrize("name", ["FDS.tar.gz", "FDS.zip"])
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    path = tmp_path / name
    noise = os.urandom(20_000)
    if name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("room.out", noise)
    else:
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("room.out")
            info.size = len(noise)
            archive.addfile(info, io.BytesIO(noise))
    damage(path)
    found = check_results(path)
    assert "UNREADABLE" in [item.finding.code for item in found]
    assert all(item.finding.severity is Severity.WARNING for item in found)
    assert found[0].report_lines()[0].startswith(f"{path}")


@pytest.mark.parametrize("ending", [".tar.gz", ".tar"])
def test_a_header_without_sense_is_said(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"FDS{ending}"
    with tarfile.open(path, "w:gz" if ending == ".tar.gz" else "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("room.out")
        info.pax_headers = {"GNU.sparse.map": "no,numbers"}
        archive.addfile(info)

    assert [item.finding.code for item in check_results(path)] == ["UNREADABLE"]


def test_a_budget_that_is_used_up_is_said(tmp_path: Path) -> None:
    (tmp_path / "log.a").write_text("x" * 1000)
    (tmp_path / "log.b").write_text("fine\n" * 100 + "Out of memory\n")
    codes = [item.finding.code for item in check_results(tmp_path, max_bytes=1200)]
    assert codes == ["NOT_FULLY_CHECKED"]
    assert [item.finding.code for item in check_results(tmp_path, max_bytes=10_000)] == ["OUT_OF_MEMORY"]


def test_errors_come_first(tmp_path: Path) -> None:
    (tmp_path / "log.a").write_text("@@@ WARNING: RAM used > 90%\n")
    (tmp_path / "log.b").write_text("Out of memory\n")
    assert [item.finding.code for item in check_results(tmp_path)] == ["OUT_OF_MEMORY", "RAM_USED"]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("log.icoFoam", True),
        ("a/log", True),
        ("x.out", True),
        ("x.mess", True),
        ("catalog.txt", False),
        ("log.d/x.vtk", False),
    ],
)
def test_which_files_are_logs(name: str, answer: bool) -> None:
    assert is_log(name) is answer


DECK = """*NODE, NSET=NALL
1,0,0,0
2,1,0,0
3,1,1,0
4,0,1,0
5,0,0,1
6,1,0,1
7,1,1,1
8,0,1,1
*ELEMENT, TYPE=C3D8, ELSET=EALL
1,1,2,3,4,5,6,7,8
*MATERIAL,NAME=STEEL
*ELASTIC
210000,0.3
*SOLID SECTION,ELSET=EALL,MATERIAL=STEEL
*BOUNDARY
1,1,3
4,1,3
5,1,3
8,1,3
*STEP
*STATIC
*CLOAD
2,3,-1
*NODE PRINT,NSET=NALL
U
*END STEP
"""
BROKEN_DECKS = {
    "good": (DECK, set()),
    "material": (DECK.replace("MATERIAL=STEEL", "MATERIAL=STEAL"), {"CALCULIX_ERROR"}),
    "missing": (None, {"CALCULIX_ERROR"}),
    "diverges": (
        DECK.replace("*STEP", "*STEP,NLGEOM", 1)
        .replace("*STATIC", "*STATIC\n1.,1.,.5,1.")
        .replace("2,3,-1", "2,3,-9e9"),
        {"CALCULIX_ERROR", "CALCULIX_NOT_CONVERGED"},
    ),
}


@pytest.mark.solver("ccx")
@pytest.mark.skipif(not shutil.which("ccx"), reason="CalculiX (ccx) is not installed")
@pytest.mark.parametrize("deck", BROKEN_DECKS)
def test_what_calculix_really_leaves(deck: str, tmp_path: Path) -> None:
    text, codes = BROKEN_DECKS[deck]
    if text is not None:
        (tmp_path / "beam.inp").write_text(text)
    with (tmp_path / "beam.log").open("wb") as log:
        subprocess.run(["ccx", "beam"], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, check=False, timeout=60)
    assert {item.finding.code for item in check_results(tmp_path)} == codes


@pytest.mark.solver("icoFoam")
@pytest.mark.skipif(not shutil.which("icoFoam"), reason="OpenFOAM is not installed")
def test_what_openfoam_really_leaves_without_a_controldict(tmp_path: Path) -> None:
    environment = {"WM_PROJECT_DIR": "/usr/share/openfoam", **os.environ}
    with (tmp_path / "log.icoFoam").open("wb") as log:
        subprocess.run(
            ["icoFoam"], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False, timeout=60
        )
    assert [item.finding.code for item in check_results(tmp_path)] == ["FOAM_FATAL"]


@pytest.mark.solver("icoFoam")
@pytest.mark.skipif(not shutil.which("icoFoam"), reason="OpenFOAM is not installed")
def test_logs_of_programs_that_end_well_are_clean(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[3] / "example_dags" / "cases" / "cavity_openfoam", tmp_path / "case")
    case = tmp_path / "case"
    control = case / "system" / "controlDict"
    control.write_text(control.read_text().replace("endTime             20", "endTime 0.1"))
    environment = {"WM_PROJECT_DIR": "/usr/share/openfoam", **os.environ}
    programs = [
        ["blockMesh"], ["checkMesh"], ["renumberMesh", "-overwrite"], ["icoFoam"], ["postProcess", "-func", "mag(U)"],
        ["foamToVTK"], ["foamToEnsight"], ["decomposePar", "-force"], ["foamListTimes"], ["foamUpgradeCyclics"],
    ]  # fmt: skip
    for program in programs:
        with (case / f"log.{program[0]}").open("wb") as log:
            subprocess.run(
                program, cwd=case, stdout=log, stderr=subprocess.STDOUT, env=environment, check=True, timeout=60
            )
    assert [item.report_lines() for item in check_results(case)] == []
