# SPDX-License-Identifier: Apache-2.0
"""An archive that is there already is no proof that the folder beside it is what it holds."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_cloudhpc.api.archive import unpack
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator
from tests.integration.operators.airflow_task import AirflowTask


def archive(content: bytes, *names: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name in names or ["result.txt"]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def fetch(cloudhpc: CloudHPCEmulator, tmp_path: Path) -> Callable[..., Any]:
    cloudhpc.control.file("case/FDS.tar.gz", archive(b"today"))

    def run(**arguments: Any) -> Any:
        return AirflowTask(
            lambda: CloudHPCDownloadResultOperator(
                **{"task_id": "fetch", "folder": "case", "directory": str(tmp_path), "extract": True, **arguments}
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


def test_what_is_no_tar_stays_as_it_is_and_is_told(
    cloudhpc: CloudHPCEmulator, fetch: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cloudhpc.control.file("case/GRAPHS.zip", b"PK")

    assert fetch() == [str(tmp_path / "FDS"), str(tmp_path / "GRAPHS.zip")]

    assert "GRAPHS.zip stays as it is: only *.tar.gz, *.tgz, *.tar are unpacked" in caplog.text


def test_limits_can_be_raised_for_an_archive_that_is_trusted(
    cloudhpc: CloudHPCEmulator, fetch: Callable[..., Any], tmp_path: Path
) -> None:
    cloudhpc.control.file("case/FDS.tar.gz", archive(b"1", "U", "u"))
    with pytest.raises(CloudHPCArchiveError, match="set allow_case_collisions"):
        fetch()

    fetch(unpack_limits={"allow_case_collisions": True})

    assert {path.name for path in (tmp_path / "FDS").iterdir()} >= {"U", "u"}


@pytest.mark.parametrize("name", [".tar.gz", "..tar.gz", "...tar.gz", ".tgz"])
@pytest.mark.parametrize("on_existing", ["error", "overwrite"])
def test_a_name_that_is_all_ending_never_replaces_the_directory(
    cloudhpc: CloudHPCEmulator, fetch: Callable[..., Any], tmp_path: Path, name: str, on_existing: str
) -> None:
    """Without its ending it is the directory itself, or the one above."""
    directory = tmp_path / "results"
    directory.mkdir()
    (directory / "mine.txt").write_text("a note")
    cloudhpc.control.file(f"case/{name}", archive(b"today"))

    got = fetch(directory=str(directory), patterns=[name], on_existing=on_existing)

    assert got == [str(directory / name)]
    assert sorted(path.name for path in directory.iterdir()) == sorted([name, "mine.txt"])
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("other", ["FDS.tgz", "FDS"])
def test_two_results_of_one_folder_name_are_told_before_anything_is_fetched(
    cloudhpc: CloudHPCEmulator, fetch: Callable[..., Any], tmp_path: Path, other: str
) -> None:
    """The second would take the first one's place, or be refused when gigabytes had come."""
    cloudhpc.control.file(f"case/{other}", archive(b"other"))

    with pytest.raises(AirflowFailException, match=f"{other}.* would both become 'FDS'"):
        fetch(patterns=["*"], on_existing="overwrite")

    assert list(tmp_path.iterdir()) == []


def test_a_relative_directory_is_handed_on_as_a_whole_path(
    cloudhpc: CloudHPCEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that gets it from XCom runs somewhere else."""
    cloudhpc.control.file("case/FDS.tar.gz", archive(b"today"))
    monkeypatch.chdir(tmp_path)

    got = AirflowTask(lambda: CloudHPCDownloadResultOperator(task_id="fetch", folder="case", directory="results")).run()

    assert got == [str(tmp_path / "results" / "FDS.tar.gz")]


@pytest.mark.parametrize("on_existing", ["error", "keep", "overwrite"])
def test_two_tasks_at_once_agree(
    fetch: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_existing: str
) -> None:
    """The other one, of the same archive, is quicker by a hair."""
    real, others = unpack._move, iter([True])

    def slow(*arguments: Any) -> None:
        if next(others, False):
            assert fetch(on_existing=on_existing) == [str(tmp_path / "FDS")]
        real(*arguments)

    monkeypatch.setattr(unpack, "_move", slow)

    assert fetch(on_existing=on_existing) == [str(tmp_path / "FDS")]
    assert (tmp_path / "FDS" / "result.txt").read_bytes() == b"today"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FDS", "FDS.tar.gz"]


def test_another_folder_of_that_name_never_passes_for_what_was_unpacked(
    fetch: Callable[..., Any], tmp_path: Path
) -> None:
    """A folder that is made anew likely gets the inode of the one that was deleted."""
    fetch()
    folder = tmp_path / "FDS"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "mine.txt").write_text("a note")

    with pytest.raises(Exception, match="FDS"):
        fetch()


def test_a_try_that_died_when_it_had_unpacked_is_made_good(
    fetch: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as soon as the folder has its name: what would still be written then is not."""
    real = unpack._move

    def killed(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_move", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch()

    assert fetch() == [str(tmp_path / "FDS")]
