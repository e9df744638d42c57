# SPDX-License-Identifier: Apache-2.0
"""A case that is known to fail is not sent, and nothing is billed for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators import checking
from airflow_provider_cloudhpc.operators.simulation import CloudHPCAddSimulationOperator, CloudHPCRunSimulationOperator
from airflow_provider_cloudhpc.operators.storage import CloudHPCUploadFolderOperator
from tests.integration.operators.airflow_task import AirflowTask

LAUNCH = {"cpu": 2, "ram": "highcpu", "script": "fds6.9.1"}


@pytest.fixture
def case(tmp_path: Path) -> str:
    (tmp_path / "room.psm").write_text("")
    return str(tmp_path)


def attempts(case: str) -> list[tuple[Any, dict[str, Any], str]]:
    return [
        (CloudHPCUploadFolderOperator, {"source": case, "script": "fds6.9.1"}, "PYROSIM_FILE"),
        (CloudHPCRunSimulationOperator, {"source": case, **LAUNCH}, "PYROSIM_FILE"),
        (CloudHPCRunSimulationOperator, {"source": case, **LAUNCH, "cpu": 1}, "LOW_VCPU"),
        (CloudHPCAddSimulationOperator, {"folder": "mine", **LAUNCH, "cpu": 1}, "LOW_VCPU"),
    ]


@pytest.mark.parametrize("number", range(4))
def test_what_is_known_to_fail_is_stopped_before_any_call(cloudhpc: CloudHPCEmulator, case: str, number: int) -> None:
    operator, arguments, code = attempts(case)[number]
    with pytest.raises(AirflowFailException, match=f"nothing was sent.*{code}.*What to do"):
        AirflowTask(lambda: operator(task_id="task", **arguments)).run()
    assert cloudhpc.ledger.count("*") == 0


@pytest.mark.parametrize("mode", ["warn", "off"])
@pytest.mark.parametrize("number", range(4))
def test_the_user_decides(
    cloudhpc: CloudHPCEmulator, case: str, number: int, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloudhpc.control.plan(pending=0, running=0)
    cloudhpc.control.file("mine/room.fds", b"&MESH/")
    operator, arguments, code = attempts(case)[number]
    AirflowTask(lambda: operator(task_id="task", preflight=mode, **arguments)).run()
    assert (f"Preflight: {code}" in caplog.text) == (mode == "warn")
    assert cloudhpc.ledger.count("*") > 0


def launch(**arguments: Any) -> Any:
    return AirflowTask(
        lambda: CloudHPCAddSimulationOperator(task_id="task", folder="mine", **LAUNCH, **arguments)
    ).run()


def test_a_folder_in_the_storage_is_looked_at_before_the_launch(
    cloudhpc: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "LOOK_AGAIN", 0.1)
    cloudhpc.control.file("mine/room.psm", b"")
    with pytest.raises(AirflowFailException, match=r"nothing was launched or billed\. PYROSIM_FILE: 'room\.psm'"):
        launch()
    assert cloudhpc.ledger.count("POST /simulation/add") == 0


def test_the_look_costs_no_call_more(cloudhpc: CloudHPCEmulator) -> None:
    cloudhpc.control.file("mine/room.fds", b"&MESH/")
    calls = []
    for preflight in ("error", "off"):
        before = cloudhpc.ledger.count("*")
        launch(preflight=preflight, on_conflict="launch")
        calls.append(cloudhpc.ledger.count("*") - before)
    assert calls[0] == calls[1]


def test_a_listing_that_lags_stops_no_launch(cloudhpc: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LOOK_AGAIN", 0.1)
    cloudhpc.control.file("mine/notes.txt", b"")

    def arrive(seconds: float) -> None:
        assert seconds == checking.LOOK_AGAIN
        cloudhpc.control.file("mine/room.fds", b"&MESH/")

    monkeypatch.setattr(checking.time, "sleep", arrive)
    assert launch() > 0
    assert cloudhpc.ledger.count("POST /simulation/add") == 1


def test_an_archive_as_source_is_looked_into(cloudhpc: CloudHPCEmulator, case: str, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path.parent / "packed"), "zip", case)
    with pytest.raises(AirflowFailException, match=r"nothing was sent\. PYROSIM_FILE"):
        AirflowTask(lambda: CloudHPCRunSimulationOperator(task_id="task", source=archive, **LAUNCH)).run()
    assert cloudhpc.ledger.count("*") == 0


def upload_then_launch(case: str, *launches: dict[str, Any]) -> AirflowTask:
    def make() -> list[Any]:
        upload = CloudHPCUploadFolderOperator(task_id="upload", source=case)
        for number, launched in enumerate(launches):
            mine = {"folder": upload.output["folder"]} if "folder" not in launched else {}
            mine |= {"mesh": upload.output["folder"]} if "folder" in launched else {}
            CloudHPCAddSimulationOperator(task_id=f"launch_{number}", **{**LAUNCH, **mine, **launched})
        return [upload]

    return AirflowTask(make)


def test_an_upload_knows_the_solver_by_the_launch_behind_it(cloudhpc: CloudHPCEmulator, case: str) -> None:
    with pytest.raises(AirflowFailException, match=r"nothing was sent\. PYROSIM_FILE"):
        upload_then_launch(case, {}).run()
    assert cloudhpc.ledger.count("*") == 0


def test_a_mapped_launch_tells_the_solver_too(cloudhpc: CloudHPCEmulator, case: str) -> None:
    def make() -> list[Any]:
        upload = CloudHPCUploadFolderOperator(task_id="upload", source=case)
        CloudHPCAddSimulationOperator.partial(
            task_id="launch", ram="highcpu", script="fds6.9.1", folder=upload.output["folder"]
        ).expand(cpu=[2, 4])
        return [upload]

    with pytest.raises(AirflowFailException, match="PYROSIM_FILE"):
        AirflowTask(make).run()


@pytest.mark.parametrize(
    "launches",
    [
        [],
        [{"folder": "another"}],
        [{}, {"script": "custom-script"}],
        [{"script": "{{ params.script }}"}],
    ],
)
def test_a_solver_that_is_not_known_is_not_guessed(
    cloudhpc: CloudHPCEmulator, case: str, launches: list[dict[str, Any]]
) -> None:
    assert upload_then_launch(case, *launches).run()["filename"] == "upload.tar.gz"


def test_what_no_late_file_solves_is_not_waited_for(
    cloudhpc: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking.time, "sleep", lambda seconds: pytest.fail("waited"))
    cloudhpc.control.file("mine/a.fds", b"&MESH/")
    cloudhpc.control.file("mine/b.fds", b"&MESH/")
    with pytest.raises(AirflowFailException, match="SEVERAL_FDS_FILES"):
        launch()
    assert launch(preflight="warn") > 0
