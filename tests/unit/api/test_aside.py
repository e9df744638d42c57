# SPDX-License-Identifier: Apache-2.0
"""A file gets its name when it is whole, and takes nobody's place unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_cloudhpc.api.transfer.aside import file_aside, put_in_place


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


def test_what_is_there_is_replaced_where_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with file_aside(target) as file:
        file.write(b"new")
        put_in_place(file, target)
    assert target.read_bytes() == b"new"
