# SPDX-License-Identifier: Apache-2.0
"""Runs that really fail, on the emulator: COMPLETED or not, the sensor says that they failed, why, and what to do."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.api.models import LaunchRequest, SimulationStatus
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.solvers import solver_available
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask

CASES = Path(__file__).parents[2] / "example_dags" / "cases"
BEAM, CAVITY = CASES / "beam_calculix", CASES / "cavity_openfoam"
LIMIT = 60.0


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        connect(monkeypatch, emulator)
        yield emulator


def run(cloud: CloudHPCEmulator, script: str, files: dict[str, str], cpu: int = 4) -> int:
    """Run a case to its end; it travels as one archive, as folders do."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content.encode()), 0o755
            archive.addfile(member, io.BytesIO(content.encode()))
    cloud.control.file("case/upload.tar.gz", packed.getvalue())
    with CloudHPCClient(cloud.api_key, cloud.api_url) as client:
        simulation_id = client.add_simulation(LaunchRequest(cpu, "standard", script, "case"))
        deadline = time.monotonic() + LIMIT
        while not client.view_simulation_short(simulation_id).is_terminal:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return simulation_id


def verdict(simulation_id: int) -> str:
    """What the sensor fails with."""
    with pytest.raises(AirflowFailException) as failure:
        AirflowTask(lambda: CloudHPCSimulationSensor(task_id="wait", simulation_id=simulation_id)).run()
    return str(failure.value)


def download(simulation_id: int, directory: Path) -> None:
    operator = CloudHPCDownloadResultOperator
    AirflowTask(lambda: operator(task_id="get", simulation_id=simulation_id, directory=str(directory))).run()


def status(cloud: CloudHPCEmulator, simulation_id: int) -> int | None:
    with CloudHPCClient(cloud.api_key, cloud.api_url) as client:
        return client.view_simulation_short(simulation_id).status


def test_a_script_that_exits_1_is_completed_and_failed(cloud: CloudHPCEmulator) -> None:
    simulation_id = run(cloud, "custom-script", {"run.sh": "echo working\nexit 1\n"})
    assert status(cloud, simulation_id) == SimulationStatus.COMPLETED
    said = verdict(simulation_id)
    assert "is COMPLETED for the service, but its solver FAILED" in said
    assert "exit code 1" in said


def test_a_script_without_memory_is_told_to_take_more(cloud: CloudHPCEmulator) -> None:
    script = "ulimit -v 400000\npython3 -c 'x = bytearray(2_000_000_000)'\n"
    simulation_id = run(cloud, "custom-script", {"run.sh": script})
    assert status(cloud, simulation_id) == SimulationStatus.COMPLETED
    said = verdict(simulation_id)
    assert "MemoryError" in said
    assert "The next RAM tier is 'highmem'" in said


def test_a_script_that_raises_quotes_its_error(cloud: CloudHPCEmulator) -> None:
    simulation_id = run(cloud, "custom-script", {"run.py": "raise ValueError('diverged at step 17')\n"})
    assert "ValueError: diverged at step 17" in verdict(simulation_id)


CCX = pytest.mark.skipif(not solver_available("calculiX-2.21-PARDISO"), reason="ccx is not installed (calculix-ccx)")
FOAM = pytest.mark.skipif(not solver_available("openFoam-v2406"), reason="icoFoam is not installed (openfoam)")


@pytest.mark.solver("ccx")
@CCX
@pytest.mark.parametrize(
    ("old", "new", "quoted"),
    [
        # An element that is none, a material that is not there, a file that is not there: ccx ends with 0 then.
        ("TYPE=C3D8I", "TYPE=C3D8X", "*ERROR"),
        ("MATERIAL=STEEL", "MATERIAL=STAHL", "*ERROR"),
        ("*STEP", "*INCLUDE, INPUT=loads.inp\n*STEP", "*ERROR"),
    ],
)
def test_a_calculix_deck_with_an_error(
    cloud: CloudHPCEmulator, tmp_path: Path, old: str, new: str, quoted: str
) -> None:
    deck = (BEAM / "beam.inp").read_text()
    broken = deck.replace(old, new, 1)
    assert broken != deck
    simulation_id = run(cloud, "calculiX-2.21-PARDISO", {"beam.inp": broken})
    said = verdict(simulation_id)
    assert "CALCULIX_ERROR" in said
    assert quoted in said
    with pytest.raises(AirflowFailException, match=r"solver FAILED, says .* in "):
        download(simulation_id, tmp_path)


@pytest.mark.solver("icoFoam")
@FOAM
@pytest.mark.parametrize("with_script", [False, True])
def test_an_openfoam_case_that_diverges(cloud: CloudHPCEmulator, tmp_path: Path, with_script: bool) -> None:
    files = {str(path.relative_to(CAVITY)): path.read_text() for path in CAVITY.rglob("*") if path.is_file()}
    files["system/controlDict"] = files["system/controlDict"].replace("deltaT              0.02", "deltaT 500")
    files["system/controlDict"] = files["system/controlDict"].replace("endTime             20", "endTime 500000")
    if not with_script:
        del files["Allrun"]
    simulation_id = run(cloud, "openFoam-v2406", files)
    said = verdict(simulation_id)
    assert "FLOATING_POINT_EXCEPTION" in said
    with pytest.raises(AirflowFailException, match=r"solver FAILED, says log\.icoFoam in ") as failure:
        download(simulation_id, tmp_path)
    assert "FLOATING_POINT_EXCEPTION" in str(failure.value)


@pytest.mark.solver("icoFoam")
@FOAM
def test_an_openfoam_case_without_a_controldict(cloud: CloudHPCEmulator) -> None:
    said = verdict(run(cloud, "openFoam-v2406", {"constant/x": "x", "system/fvSchemes": "x"}))
    assert "NO_CONTROLDICT" in said
    assert "system/controlDict" in said


@pytest.mark.parametrize("script", ["fds6.9.1"])
def test_an_fds_input_without_a_mesh(cloud: CloudHPCEmulator, script: str) -> None:
    said = verdict(run(cloud, script, {"room.fds": "&HEAD CHID='room'/\n&TAIL/\n"}))
    assert "FDS_ERROR" in said
