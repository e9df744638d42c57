# SPDX-License-Identifier: Apache-2.0
"""
What is not whole yet stands aside: beside its target, hidden, with a name that nothing takes for the real one.

Each has a name of its own, so that two tries of a task that overlap (Airflow starts the next one when it has lost
sight of the first) never write into the same file. Its maker holds a lock on it; what a killed process left has none
and is swept away by the next one with the same target.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Ending of everything that is not whole yet.
PART_SUFFIX = ".cloudhpc-part"
_BUFFER = 256 << 10


@contextmanager
def file_aside(target: Path) -> Iterator[BinaryIO]:
    """
    Open a new file to be renamed to its target when it is whole; gone at the end if it was not.

    :param target: what it is to become; its folder must be there
    :return: the file, to be given its name by :func:`put_in_place`. It is buffered: an unbuffered one may write less
        than it is given when the disk is full, and say so only in a number
    """
    path, descriptor = _make(
        target, lambda path: os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    )
    with open(path, "wb", buffering=_BUFFER, opener=lambda *_: descriptor) as file:
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)


def put_in_place(file: BinaryIO, target: Path, *, replace: bool = True) -> None:
    """
    Give a file from :func:`file_aside` its name.

    :param replace: whether it may take the place of what is there by now
    :raises FileExistsError: it may not, and something is there
    :raises OSError: the last bytes do not fit on the disk, or the name cannot be given
    """
    file.flush()
    if not replace:
        try:
            os.link(file.name, target)  # which fails where the name is taken, unlike a rename
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: as near to it as can be had there.
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        else:
            return
    os.replace(file.name, target)  # noqa: PTH105  # a file's name is no Path


@contextmanager
def folder_aside(target: Path) -> Iterator[Path]:
    """
    Make a new folder whose content is to be moved to its target; gone at the end with all that is in it.

    :param target: what it is to become; the folder around it must be there
    """

    def make(path: Path) -> int:
        path.mkdir(mode=0o700)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    path, descriptor = _make(target, make)
    try:
        yield path
    finally:
        os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)


def _make(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Make something new and lock it; again if another process swept it away in the moment between."""
    while True:
        path = _new_name(target)
        try:
            descriptor = make(path)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            continue
        if _is_locked(descriptor, path):
            return path, descriptor
        os.close(descriptor)


def _is_locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks, where nothing is swept either
    return path.exists()


def _new_name(target: Path) -> Path:
    # The beginning of a long name will do; the names of files have at most 255 bytes.
    stem = f".{os.fsdecode(os.fsencode(target.name)[:150])}."
    _sweep(target.parent, stem)
    return target.with_name(f"{stem}{secrets.token_hex(6)}{PART_SUFFIX}")


def _sweep(folder: Path, stem: str) -> None:
    """Remove what killed processes left behind for this target: what nobody holds the lock on."""
    for path in folder.glob(f"{glob.escape(stem)}{'?' * 12}{PART_SUFFIX}"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(descriptor)
