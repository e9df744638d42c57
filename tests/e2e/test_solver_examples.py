# SPDX-License-Identifier: Apache-2.0
"""The example DAGs with engineering solvers: really solved where the solver is installed, skipped where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.solvers import solver_available
from tests.e2e.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "example_dags"


def example(name, script, program, package):
    """One example; its test is skipped, with the reason, where the solver is absent."""
    missing = not solver_available(script)
    return pytest.param(
        name,
        marks=[
            pytest.mark.solver(program),
            pytest.mark.skipif(missing, reason=f"{program} is not installed (Debian: {package})"),
        ],
        id=name,
    )


@pytest.fixture
def emulator():
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator


def run(airflow_home, emulator, tmp_path, name, **more):
    home = airflow_home(EXAMPLES, **more)
    home.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=emulator.api_key)
    return home, home.dag_test(EXAMPLES / f"{name}.py", name, {"results": str(tmp_path / "results")})


@pytest.mark.parametrize(
    "name",
    [
        example("cloudhpc_calculix_beam", "calculiX-2.21-PARDISO", "ccx", "calculix-ccx"),
        example("cloudhpc_openfoam_cavity", "openFoam-v2406", "icoFoam", "openfoam"),
    ],
)
def test_the_results_agree_with_theory(airflow_home, emulator, tmp_path, name):
    home, ran = run(airflow_home, emulator, tmp_path, name)
    assert set(home.task_states(ran).values()) == {"success"}, home.logs()[-6000:]
    assert ran.state == "success"
    xcoms = home.xcoms(ran)
    found = xcoms["check"]["return_value"]
    if name == "cloudhpc_calculix_beam":
        assert found["deflection"] == pytest.approx(0.1714, rel=0.02)
    else:
        assert found["centre"] == pytest.approx(-0.2058, abs=0.01)
    assert xcoms["wait"]["return_value"]["status"] == "COMPLETED"
    assert len(emulator.ledger.launches) == 1
    assert emulator.ledger.violations == []


@pytest.mark.parametrize("name", ["cloudhpc_calculix_beam", "cloudhpc_openfoam_cavity"])
def test_without_its_solver_an_example_is_skipped_and_says_why(airflow_home, emulator, tmp_path, name):
    """Nothing is launched, nothing fails; the line names what is missing."""
    environment = {"PATH": str(Path(os.devnull).parent / "nowhere")}
    home, ran = run(airflow_home, emulator, tmp_path, name, env=environment)
    assert set(home.task_states(ran).values()) == {"skipped"}
    written = "\n".join(path.read_text(errors="replace") for path in home.written_files() if path.suffix == ".log")
    assert "of this machine, and there is none" in written
    assert emulator.ledger.launches == []
