# SPDX-License-Identifier: Apache-2.0
"""A launch notes what its folder held before, where something can have been there; it costs nothing where not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_cloudhpc.api.names import mint_folder
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.launch_record import RECORD_KEY
from airflow_provider_cloudhpc.operators.simulation import CloudHPCAddSimulationOperator
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask

MINTED = mint_folder("dag", "manual__1", "add", -1, 2)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        connect(monkeypatch, emulator)
        emulator.control.plan(running=None)
        yield emulator


def add(folder: str) -> AirflowTask:
    return AirflowTask(
        lambda: CloudHPCAddSimulationOperator(
            task_id="add", cpu=2, ram="highcpu", script="custom-script", folder=folder, settle=0
        )
    )


@pytest.mark.parametrize("again", [False, True])
def test_in_a_named_folder_it_tells_what_was_there(service: CloudHPCEmulator, again: bool) -> None:
    service.control.file("mine/FDS.tar.gz", b"yesterday's")
    service.control.file("mine/run.sh", b"true")
    task = add("mine")
    simulation_id = task.run()
    if again:
        assert task.retry() == simulation_id
    record = task.instance.xcoms[RECORD_KEY]
    assert record["simulation_id"] == simulation_id
    assert sorted(size for _, size, _ in record["before"]) == [4, 11]


def test_in_a_folder_of_its_own_it_asks_nothing(service: CloudHPCEmulator) -> None:
    service.control.file(f"{MINTED}/case.sh", b"true")
    task = add(MINTED)
    task.run()
    assert task.instance.xcoms[RECORD_KEY]["before"] == []
    assert service.ledger.count("*/storage/*") == 0


def test_after_a_clear_what_the_first_run_left_is_not_the_second_s(service: CloudHPCEmulator) -> None:
    service.control.file(f"{MINTED}/case.sh", b"true")
    task = add(MINTED)
    service.control.finish(task.run(), results={"FDS.tar.gz": b"first"})
    task.clear()
    assert sorted(size for _, size, _ in task.instance.xcoms[RECORD_KEY]["before"]) == [4, 5]
