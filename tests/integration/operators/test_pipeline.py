# SPDX-License-Identifier: Apache-2.0
"""Upload, launch, wait and download, one after another: what they hand on, and what they cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.links import LINK_KEY
from airflow_provider_cloudhpc.operators.simulation import (
    CloudHPCAddSimulationOperator,
    CloudHPCRunSimulationOperator,
    CloudHPCStopSimulationOperator,
)
from airflow_provider_cloudhpc.operators.storage import (
    CloudHPCDownloadResultOperator,
    CloudHPCUploadFileOperator,
    CloudHPCUploadFolderOperator,
)
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
from tests.integration.operators.airflow_task import AirflowTask

#: What looks whether a run has ended.
POLLS = ("GET /simulation/view-short/{id}", "GET /simulation/index-short/{sort}/{order}/{page}")


def run(operator: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """Run a task of a DAG that has an upload too; give its result and what it pushed."""

    def make() -> list[Any]:
        task = operator(task_id=operator.__name__, **arguments)
        if operator is CloudHPCUploadFileOperator:
            return [task]
        upload = CloudHPCUploadFileOperator(task_id=CloudHPCUploadFileOperator.__name__)
        upload >> task
        return [task, upload]

    task = AirflowTask(make)
    return task.run(), task.instance.xcoms


def test_a_run_costs_eight_calls_besides_polls(cloudhpc: CloudHPCEmulator, tmp_path: Path) -> None:
    cloudhpc.control.plan(running=0.1, pending=0.1, results={"RESULTS.tar.gz": b"results"})
    case = tmp_path / "case.sh"
    case.write_text("true")
    upload, _ = run(CloudHPCUploadFileOperator, source=str(case))
    simulation_id, pushed = run(
        CloudHPCAddSimulationOperator, cpu=2, ram="highcpu", script="custom-script", folder=upload["folder"]
    )
    cloudhpc.control.jump(60)
    record, _ = run(CloudHPCSimulationSensor, simulation_id=simulation_id, poke_interval=0.1)
    fetched, _ = run(
        CloudHPCDownloadResultOperator, folder=record["folder"], directory=str(tmp_path / "out"), check_output=False
    )
    assert Path(fetched[0]).read_bytes() == b"results"
    assert pushed["simulation_id"] == simulation_id
    assert pushed[LINK_KEY] == f"{cloudhpc.url}/en/simulation/view/{simulation_id}"
    calls = [call for call in cloudhpc.ledger.calls if call.surface == "api"]
    polls = [call for call in calls if f"{call.method} {call.endpoint}" in POLLS]
    assert len(calls) - len(polls) <= 8, [f"{call.method} {call.endpoint}" for call in calls]
    assert len(cloudhpc.ledger.launches) == 1


@pytest.mark.parametrize(
    "hand_over", [int, str, lambda id_: {"id": id_}, lambda id_: {"simulation_id": str(id_)}, float]
)
def test_an_id_comes_as_it_likes(cloudhpc: CloudHPCEmulator, hand_over: Any) -> None:
    (simulation_id,) = cloudhpc.control.simulation()
    cloudhpc.control.finish(simulation_id)
    record, _ = run(CloudHPCSimulationSensor, simulation_id=hand_over(simulation_id))
    assert record["id"] == simulation_id


def test_what_is_templated() -> None:
    assert set(CloudHPCUploadFileOperator.template_fields) >= {"source", "data", "folder", "filename"}
    assert set(CloudHPCAddSimulationOperator.template_fields) >= {
        "cpu",
        "ram",
        "script",
        "folder",
        "mesh",
        "preemptible",
    }
    assert set(CloudHPCDownloadResultOperator.template_fields) >= {"directory", "paths", "folder", "simulation_id"}
    assert set(CloudHPCSimulationSensor.template_fields) >= {"simulation_id", "on_timeout"}


@pytest.mark.parametrize(
    "task",
    [
        CloudHPCAddSimulationOperator,
        CloudHPCDownloadResultOperator,
        CloudHPCRunSimulationOperator,
        CloudHPCSimulationSensor,
        CloudHPCStopSimulationOperator,
        CloudHPCUploadFileOperator,
        CloudHPCUploadFolderOperator,
    ],
)
def test_the_docs_name_what_is_templated(task: Any) -> None:
    documented = re.findall(r"^ +:param (\w+):((?:(?!^ +:).*\n)*)", task.__doc__, re.MULTILINE)
    assert {name for name, text in documented if "(templated)" in text} == set(task.template_fields)
