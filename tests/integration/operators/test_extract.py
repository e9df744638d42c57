# SPDX-License-Identifier: Apache-2.0
"""An archive that is there already is no proof that the folder beside it is what it holds."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator
from tests.integration.operators.airflow_task import AirflowTask


def archive(content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        member = tarfile.TarInfo("result.txt")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def fetch(cloudhpc: CloudHPCEmulator, tmp_path: Path) -> Callable[..., Any]:
    cloudhpc.control.file("case/FDS.tar.gz", archive(b"today"))

    def run(**arguments: Any) -> Any:
        return AirflowTask(
            lambda: CloudHPCDownloadResultOperator(
                task_id="fetch", folder="case", directory=str(tmp_path), extract=True, **arguments
            )
        ).run()

    return run


@pytest.fixture
def yesterday(tmp_path: Path) -> Path:
    result = tmp_path / "FDS" / "result.txt"
    result.parent.mkdir()
    result.write_text("yesterday")
    return result


def test_what_an_earlier_run_left_never_passes_for_this_one(fetch: Callable[..., Any], yesterday: Path) -> None:
    for _ in range(2):
        with pytest.raises(Exception, match="FDS"):
            fetch()
    assert yesterday.read_text() == "yesterday"


def test_a_try_that_died_before_it_unpacked_is_made_good(fetch: Callable[..., Any], yesterday: Path) -> None:
    (yesterday.parents[1] / "FDS.tar.gz").write_bytes(archive(b"today"))
    fetch(on_existing="overwrite")
    assert yesterday.read_text() == "today"


def test_what_was_unpacked_of_it_is_left_as_it_is(fetch: Callable[..., Any], tmp_path: Path) -> None:
    assert fetch() == [str(tmp_path / "FDS")]
    (tmp_path / "FDS" / "mine.txt").write_text("a note")
    assert fetch() == [str(tmp_path / "FDS")]
    assert (tmp_path / "FDS" / "mine.txt").read_text() == "a note"
