# SPDX-License-Identifier: Apache-2.0
"""Solver logs among the results are read when they are fetched."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask

FATAL = b"Starting time loop\n--> FOAM FATAL ERROR: \nMaximum number of iterations exceeded\nFOAM exiting\n"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        connect(monkeypatch, emulator)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            member = tarfile.TarInfo("log.simpleFoam")
            member.size = len(FATAL)
            tar.addfile(member, io.BytesIO(FATAL))
        emulator.control.file("case/OPENFOAM-solution.tar.gz", archive.getvalue())
        yield emulator


@pytest.fixture
def download(service: CloudHPCEmulator) -> Callable[..., Any]:
    def run(directory: Any, **arguments: Any) -> Any:
        return AirflowTask(
            lambda: CloudHPCDownloadResultOperator(task_id="fetch", folder="case", directory=directory, **arguments)
        ).run()

    return run


@pytest.mark.parametrize("extract", [False, True])
def test_an_error_in_a_log_fails_and_the_files_stay(
    download: Callable[..., Any], tmp_path: Path, extract: bool
) -> None:
    with pytest.raises(AirflowFailException) as failure:
        download(str(tmp_path), extract=extract)
    assert "log.simpleFoam" in str(failure.value)
    assert "FOAM FATAL ERROR" in str(failure.value)
    assert (tmp_path / "OPENFOAM-solution.tar.gz").is_file()
    assert (tmp_path / "OPENFOAM-solution").is_dir() == extract


def test_an_object_is_put_though_its_log_holds_an_error(download: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="FOAM FATAL ERROR"):
        download(f"file://{tmp_path}/results")
    assert (tmp_path / "results" / "OPENFOAM-solution.tar.gz").is_file()


@pytest.mark.parametrize(("check", "told"), [("warn", True), (False, False)])
def test_the_user_decides(
    download: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, check: Any, told: bool
) -> None:
    assert download(str(tmp_path), check_output=check) == [str(tmp_path / "OPENFOAM-solution.tar.gz")]
    assert ("FOAM FATAL ERROR" in caplog.text) == told
