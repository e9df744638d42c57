# SPDX-License-Identifier: Apache-2.0
"""A file gets its name when it is whole, and takes nobody's place unasked."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.api.transfer import aside
from airflow_provider_cloudhpc.api.transfer.aside import file_aside, folder_aside, put_in_place


@pytest.mark.parametrize("replace", [True, False])
def test_a_new_name_is_given(tmp_path: Path, replace: bool) -> None:
    target = tmp_path / "a"
    with file_aside(target) as file:
        file.write(b"new")
        put_in_place(file, target, replace=replace)
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_came_meanwhile_stays(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a"
    with file_aside(target) as file:
        file.write(b"new")
        if kind == "file":
            target.write_bytes(b"another's")
        else:
            target.symlink_to("nowhere")
        with pytest.raises(FileExistsError):
            put_in_place(file, target, replace=False)
    assert target.is_symlink() or target.read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("maker", [file_aside, folder_aside])
def test_what_was_made_a_moment_ago_is_not_swept(
    maker: Callable[[Path], AbstractContextManager[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task with the same target sweeps between the making and the lock; it locks while it sweeps."""
    target, lock, rivals = tmp_path / "a", fcntl.flock, iter([True])

    def flock(descriptor: int, operation: int) -> None:
        if next(rivals, False):
            with file_aside(target):
                pass
        lock(descriptor, operation)

    monkeypatch.setattr(aside.fcntl, "flock", flock)

    with maker(target):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_where_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with file_aside(target) as file:
        file.write(b"new")
        put_in_place(file, target)
    assert target.read_bytes() == b"new"
