# SPDX-License-Identifier: Apache-2.0
"""Solvers of this machine at work on the shipped cases, and on broken ones."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator.solvers import solver_available, start_run
from tests.unit.emulator_solvers.conftest import ended, until

CASES = Path(__file__).parents[3] / "example_dags/cases"
CALCULIX, OPENFOAM = "calculiX-2.21-PARDISO", "openFoam-v2406"

with_calculix = [
    pytest.mark.solver("ccx"),
    pytest.mark.skipif(not solver_available(CALCULIX), reason="ccx is not installed (Debian: calculix-ccx)"),
]
with_openfoam = [
    pytest.mark.solver("openfoam"),
    pytest.mark.skipif(not solver_available(OPENFOAM), reason="icoFoam is not installed (Debian: openfoam)"),
]


@pytest.fixture
def case(tmp_path):
    """Start a shipped case; ``change`` may break it first."""
    runs = []

    def starter(name, script, change=None, **options):
        folder = tmp_path / "case"
        shutil.copytree(CASES / name, folder)
        if change:
            change(folder)
        runs.append(start_run(script=script, workdir=folder, **{"cpu": 4, "ram": "standard", **options}))
        return runs[-1]

    yield starter
    for run in runs:
        run.kill()


def names(archive):
    with tarfile.open(archive) as tar:
        return tar.getnames()


class TestCalculix:
    pytestmark = with_calculix

    def test_cantilever_bends_as_beam_theory_says(self, case, tmp_path):
        run = case("beam_calculix", CALCULIX)
        assert ended(run) == 0
        assert "Job finished" in run.output()
        assert run.output().endswith("@@@ END\n")
        archive, frd = sorted(run.pack_results(tmp_path / "results"))
        assert (archive.name, frd.name) == ("CALCULIX.tar.gz", "beam.frd")
        with tarfile.open(archive) as tar:
            text = tar.extractfile("beam.dat").read().decode()
        deflections = [float(line.split()[3]) for line in text.splitlines() if re.match(r"\s+\d+(\s+\S+){3}$", line)]
        assert len(deflections) == 9
        theory = 90 * 100**3 / (3 * 210000 * 10**4 / 12)
        assert sum(deflections) / 9 == pytest.approx(-theory, rel=0.01)

    def test_a_bad_deck_is_completed_with_an_error_line(self, case):
        run = case(
            "beam_calculix", CALCULIX, lambda folder: edit(folder / "beam.inp", "MATERIAL=STEEL", "MATERIAL=WOOD")
        )
        assert ended(run) != 0
        assert run.failed is False
        assert "*ERROR" in run.output()
        assert "@@@ ERROR: ccx ended with exit code" in run.output()

    def test_a_missing_include_is_an_error_though_ccx_says_0(self, case):
        run = case(
            "beam_calculix",
            CALCULIX,
            lambda folder: edit(folder / "beam.inp", "*NODE,", "*INCLUDE, INPUT=no.inp\n*NODE,"),
        )
        ended(run)
        assert "@@@ ERROR:" in run.output()
        assert "@@@ END" not in run.output()


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


class TestOpenFoam:
    pytestmark = with_openfoam

    @pytest.mark.parametrize("driver", ["Allrun", "application", "one process"])
    def test_cavity(self, case, tmp_path, driver):
        def change(folder):
            edit(folder / "system/controlDict", "endTime             20;", "endTime 1;")
            edit(folder / "system/controlDict", "250;", "25;")
            if driver != "Allrun":
                (folder / "Allrun").unlink()
            if driver == "one process":
                (folder / "system/decomposeParDict").unlink()

        run = case("cavity_openfoam", OPENFOAM, change)
        assert ended(run) == 0, run.output()
        assert run.output().endswith("@@@ END\n")
        packed = {path.name: names(path) for path in run.pack_results(tmp_path / "results")}
        assert set(packed) == {f"OPENFOAM-{part}.tar.gz" for part in ("solution", "constant", "system")}
        assert {"1/U", "1/p", "log.icoFoam"} < set(packed["OPENFOAM-solution.tar.gz"])
        assert "constant/polyMesh/points" in packed["OPENFOAM-constant.tar.gz"]
        assert "system/controlDict" in packed["OPENFOAM-system.tar.gz"]
        assert (run.case.workdir / "log.icoFoam").read_text().rstrip().endswith("End") or driver != "one process"

    def test_soft_stop_writes_the_fields_of_this_moment(self, case, tmp_path):
        def change(folder):
            edit(folder / "system/controlDict", "endTime             20;", "endTime 100000;")
            edit(folder / "system/controlDict", "250;", "100000000;")

        run = case("cavity_openfoam", OPENFOAM, change)
        log = run.case.workdir / "log.icoFoam"
        until(lambda: log.exists() and "Time = 0.2\n" in log.read_text(), "the first time steps")
        run.soft_stop()
        assert ended(run) == 0
        assert "soft stop, results saved" in run.output()
        (archive, *_) = run.pack_results(tmp_path / "results")
        fields = [name for name in names(archive) if re.fullmatch(r"[\d.]+/U", name)]
        assert len(fields) == 1
        assert "endTime;" in (run.case.workdir / "system/controlDict").read_text()  # as it was

    def test_a_diverging_case_is_completed_with_an_error_line(self, case):
        def change(folder):
            edit(folder / "system/controlDict", "0.02", "5")
            edit(folder / "system/controlDict", "endTime             20;", "endTime 1000;")

        run = case("cavity_openfoam", OPENFOAM, change)
        ended(run)
        assert run.failed is False
        assert "@@@ ERROR: log.icoFoam ends with an error" in run.output()

    def test_a_fatal_error_behind_an_allrun_that_ends_with_0(self, case):
        def change(folder):
            edit(folder / "system/fvSolution", "PCG", "nonsense")
            with (folder / "Allrun").open("a") as stream:
                stream.write("\nexit 0\n")

        run = case("cavity_openfoam", OPENFOAM, change)
        assert ended(run) == 0
        assert "FOAM FATAL" in run.output()
        assert "@@@ ERROR: log.icoFoam ends with an error" in run.output()

    def test_a_mesh_folder_gives_its_mesh(self, case, tmp_path):
        mesh = tmp_path / "mesh"
        (mesh / "constant/polyMesh").mkdir(parents=True)
        (mesh / "constant/polyMesh/canary").touch()
        run = case("cavity_openfoam", OPENFOAM, mesh_dir=mesh)
        assert (run.case.workdir / "constant/polyMesh/canary").exists()
        assert "polyMesh folder not found" not in run.output()

    def test_a_mesh_folder_without_a_mesh_is_a_warning(self, case, tmp_path):
        (tmp_path / "mesh").mkdir()
        run = case("cavity_openfoam", OPENFOAM, mesh_dir=tmp_path / "mesh")
        assert "@@@ WARNING: polyMesh folder not found" in run.output()
