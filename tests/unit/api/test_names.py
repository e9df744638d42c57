# SPDX-License-Identifier: Apache-2.0
"""Folders that a run mints for itself, and names that the service takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.names import check_folder, check_name, is_minted_by, is_result, mint_folder

TASK = st.tuples(
    st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.integers(-1, 5), st.integers(0, 5)
)


@given(TASK, TASK)
def test_two_tasks_never_mint_the_same_folder(one: tuple, other: tuple) -> None:
    assert (mint_folder(*one) == mint_folder(*other)) == (one == other)


@given(TASK)
def test_a_minted_folder_is_short_and_allowed(task: tuple) -> None:
    folder = mint_folder(*task)
    assert folder.isascii()
    assert len(folder) <= 64
    assert check_name(folder, "folder") == folder


@given(TASK, TASK)
def test_a_run_knows_its_own(one: tuple, other: tuple) -> None:
    assert is_minted_by(mint_folder(*one), *other[:2]) == (one[:2] == other[:2])


def test_borders_between_the_parts_count() -> None:
    assert mint_folder("a", "bc", "d") != mint_folder("ab", "c", "d")
    assert mint_folder("d", "r", "t", 1, 0) != mint_folder("d", "r", "t", 0, 1)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a b", "a\tb", "a\nb", "a\0b", "\u202eevil", 5, None])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(CloudHPCValueError, match="filename is"):
        check_name(name, "filename")


@pytest.mark.parametrize("name", ["a.fds", "upload.tar.gz", "größe.txt", "100%.csv", "-rf", ".hidden"])
def test_names_that_are_taken(name: str) -> None:
    assert check_name(name, "filename") == name


@pytest.mark.parametrize(("folder", "clean"), [("a", "a"), ("/a/b/", "a/b"), ("a/b", "a/b")])
def test_folders(folder: str, clean: str) -> None:
    assert check_folder(folder) == clean


@pytest.mark.parametrize("folder", ["", "/", "//", "a//b", "a/./b", "a/../b", "~/a b"])
def test_folders_that_are_refused(folder: str) -> None:
    with pytest.raises(CloudHPCValueError, match="folder is"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("FDS.tar.gz", True),
        ("OPENFOAM-solution.tar.gz", True),
        ("upload.tar.gz", False),
        ("CloudHPC-massive-files.tar.gz", False),
        ("case.fds", False),
    ],
)
def test_what_a_result_is(name: str, result: bool) -> None:
    assert is_result(name) == result
