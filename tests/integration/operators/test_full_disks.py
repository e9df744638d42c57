# SPDX-License-Identifier: Apache-2.0
"""Disks that are really full, and workers that are killed in the middle: what is said, and what is left."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCTransferError
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator, CloudHPCUploadFolderOperator
from tests.disk import small_disk
from tests.integration.api.store import Fault, running_store
from tests.integration.operators.airflow_task import AirflowTask

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 2 * MIB) as where:
        yield where


@pytest.fixture
def temporary(disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worker's temporary directory is the small disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    return disk


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "noise").write_bytes(os.urandom(3 * MIB))
    return folder


def pack(case: Path) -> Any:
    return AirflowTask(
        lambda: CloudHPCUploadFolderOperator(task_id="up", source=str(case), folder="case", preflight="off")
    ).run()


def fetch(directory: Any, **arguments: Any) -> Any:
    return AirflowTask(
        lambda: CloudHPCDownloadResultOperator(task_id="down", folder="case", directory=directory, **arguments)
    ).run()


def in_memory() -> ObjectStoragePath:
    attach("memory", fs=MemoryFileSystem())
    return ObjectStoragePath(f"memory://box-{uuid.uuid4().hex}")


def test_packing_says_where_it_packs(cloudhpc: CloudHPCEmulator, case: Path, temporary: Path) -> None:
    with pytest.raises(CloudHPCArchiveError, match=r"No space left on device.*set TMPDIR.*Nothing was sent") as caught:
        pack(case)

    assert str(case) in str(caught.value)
    assert str(temporary) in str(caught.value)
    assert list(temporary.iterdir()) == []
    assert cloudhpc.control.files() == []
    (case / "noise").write_bytes(os.urandom(MIB))
    assert pack(case)["proof"] == "hash", "it has the room again"


def test_a_download_that_fills_the_disk(disk: Path) -> None:
    """There was room when it began."""

    def fill(done: int, total: int | None) -> None:
        if done:
            (disk / "another task").write_bytes(bytes(MIB // 2))

    with running_store() as store:
        store.data = os.urandom(2 * MIB - 100_000)
        store.default = Fault(drip=0.001)
        with pytest.raises(CloudHPCTransferError, match="could not be written: No space left on device"):
            Transfer().download(lambda: store.url, disk / "FDS.tar.gz", progress=fill)

        assert len(store.seen) == 1
    assert [path.name for path in disk.iterdir()] == ["another task"]


def test_unpacking_that_needs_more_than_it_said(cloudhpc: CloudHPCEmulator, disk: Path) -> None:
    """Small files take whole blocks of a disk. The archive stays, and the next try has not to fetch it again."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for number in range(800):
            member = tarfile.TarInfo(str(number))
            member.size = 1
            tar.addfile(member, io.BytesIO(b"1"))
    cloudhpc.control.file("case/FDS.tar.gz", made.getvalue())

    with pytest.raises(CloudHPCArchiveError, match=r"No space left on device\. Nothing of it was kept"):
        fetch(str(disk), extract=True)

    assert [path.name for path in disk.iterdir()] == ["FDS.tar.gz"]


def test_a_result_on_its_way_to_an_object_store(cloudhpc: CloudHPCEmulator, temporary: Path) -> None:
    cloudhpc.control.file("case/FDS.tar.gz", os.urandom(3 * MIB))
    box = in_memory()

    with pytest.raises(CloudHPCTransferError, match=r"3\.1 MB.*set TMPDIR to a larger one. Nothing was fetched"):
        fetch(box)

    assert not box.exists()
    assert list(temporary.iterdir()) == []


KILLED = """
import os, signal, sys, json
from airflow_provider_cloudhpc.operators import downloading, uploading
from tests.integration.operators import test_full_disks as tests
def kill(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
uploading.upload_file = downloading.put_object = kill
tests.pack(tests.Path(sys.argv[2])) if sys.argv[1] == "pack" else tests.fetch(tests.in_memory())
"""


@pytest.mark.parametrize("way", ["pack", "fetch"])
def test_a_worker_that_is_killed_fills_no_disk(
    cloudhpc: CloudHPCEmulator, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A packed archive has no name; a result that was to go to an object store is swept away by the next task."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    cloudhpc.control.file("case/FDS.tar.gz", b"result")

    died = subprocess.run(
        [sys.executable, "-c", KILLED, way, str(case)], env={**os.environ, "TMPDIR": str(temporary)}, timeout=300
    ).returncode

    assert died == -signal.SIGKILL
    if way == "fetch":
        assert list(temporary.glob("*/FDS.tar.gz"))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        fetch(in_memory())
    assert list(temporary.iterdir()) == []
