# SPDX-License-Identifier: Apache-2.0
"""A folder that an upload minted is a launch's own only where no other launch of the DAG can mean it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException

from airflow_provider_cloudhpc.api.names import mint_folder
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.simulation import CloudHPCAddSimulationOperator
from airflow_provider_cloudhpc.operators.storage import CloudHPCUploadFileOperator
from tests.integration.operators.airflow_task import AirflowTask

try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:  # Airflow 2
    from airflow.operators.empty import EmptyOperator

TEMPLATE = "{{ ti.xcom_pull(task_ids='upload')['folder'] }}"


def folder_of(generation: int = 2) -> str:
    return mint_folder("dag", "manual__1", "upload", -1, generation)


@pytest.fixture
def cloud(cloudhpc: CloudHPCEmulator) -> CloudHPCEmulator:
    cloudhpc.control.settings(soft_stop_seconds=0)
    cloudhpc.control.plan(pending=0, running=None)
    for generation in (2, 3):
        cloudhpc.control.file(f"{folder_of(generation)}/case.sh", b"true")
    return cloudhpc


def add(task_id: str, folder: str, **more: Any) -> CloudHPCAddSimulationOperator:
    return CloudHPCAddSimulationOperator(
        task_id=task_id, cpu=2, ram="highcpu", script="custom-script", folder=folder, settle=1, **more
    )


def dag(mine: str, folder: str, other: Callable[[Any], Any]) -> Callable[[], list[Any]]:
    """Make a DAG in which ``mine`` launches in the rendered folder; ``other`` adds another launch behind a gate."""

    def make() -> list[Any]:
        upload = CloudHPCUploadFileOperator(task_id="upload", source="case.sh")
        gate = EmptyOperator(task_id="gate")
        task, second = add(mine, folder), other(upload)
        upload >> gate >> [task, second]
        return [task, second, upload, gate]

    return make


@pytest.mark.parametrize("remembers", [True, False])
def test_a_lost_launch_takes_no_sibling_s(cloud: CloudHPCEmulator, remembers: bool) -> None:
    make = dag("fine", folder_of(), lambda upload: add("coarse", TEMPLATE))
    (sibling,) = cloud.control.simulation(folder=folder_of(), running=None)
    cloud.control.finish(sibling)
    cloud.control.fault("reset_before", "POST simulation/add", times=1, at_bytes=10)
    with pytest.raises(AirflowFailException, match="It may still come, run and BILL"):
        AirflowTask(make, remembers=remembers).run()


@pytest.mark.parametrize("remembers", [True, False])
def test_a_clear_stops_no_sibling(cloud: CloudHPCEmulator, remembers: bool) -> None:
    make = dag("fine", folder_of(), lambda upload: add("coarse", TEMPLATE))
    task = AirflowTask(make, remembers=remembers)
    mine = task.run()
    cloud.control.finish(mine)
    (sibling,) = cloud.control.simulation(folder=folder_of(), running=None)
    with pytest.raises(AirflowFailException, match="is already used by"):
        task.clear()
    assert sibling not in [stop.id for stop in cloud.ledger.stops]


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize(
    "other",
    [
        lambda upload: add("second", "a-folder-that-was-named"),
        lambda upload: add("second", CloudHPCUploadFileOperator(task_id="upload2", source="case.sh").output["folder"]),
    ],
    ids=["named", "another-upload"],
)
def test_one_that_means_another_folder_shares_nothing(
    cloud: CloudHPCEmulator, other: Callable[[Any], Any], remembers: bool
) -> None:
    cloud.control.fault("reset_after", "POST simulation/add", times=1)
    task = AirflowTask(dag("fine", folder_of(), other), remembers=remembers)
    assert task.run() == cloud.ledger.launches[0].id
    assert len(cloud.ledger.launches) == 1


@pytest.mark.parametrize("remembers", [True, False])
def test_cleared_with_its_upload_it_stops_the_old_one(cloud: CloudHPCEmulator, remembers: bool) -> None:
    folders = [folder_of(2), folder_of(3)]

    def make() -> list[Any]:
        upload = CloudHPCUploadFileOperator(task_id="upload", source="case.sh")
        task = add("add", folders[0])
        upload >> task
        return [task, upload]

    task = AirflowTask(make, remembers=remembers)
    old = task.run()
    folders.pop(0)
    new = task.clear()
    assert new != old
    assert [stop.id for stop in cloud.ledger.stops] == [old]
