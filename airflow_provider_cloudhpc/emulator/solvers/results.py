# SPDX-License-Identifier: Apache-2.0
"""Result archives: what a run left in its folder, packed while it may still be writing."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Relative path -> (size in bytes, modification time in ns) of every file.
Snapshot = dict[str, tuple[int, int]]


def snapshot(root: Path) -> Snapshot:
    """
    Look at all regular files below a directory; symbolic links are not followed.

    :param root: directory
    :return: what is there
    """
    found: Snapshot = {}
    for directory, _, files in os.walk(root):
        for name in files:
            path = os.path.join(directory, name)  # noqa: PTH118 (many files: no Path for each)
            with contextlib.suppress(OSError):
                info = os.lstat(path)
                if stat.S_ISREG(info.st_mode):
                    found[os.path.relpath(path, root)] = (info.st_size, info.st_mtime_ns)
    return found


def changed(before: Snapshot, now: Snapshot) -> list[str]:
    """Relative paths that are new or different, sorted."""
    return sorted(path for path, state in now.items() if before.get(path) != state)


class _Exactly:
    """Reads exactly the size the archive's header announced, from a file that a solver may be shrinking."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        return self._stream.read(size).ljust(size, b"\0")


def pack(root: Path, paths: Iterable[str], archive: Path, *, extra: dict[str, bytes] | None = None) -> list[Path]:
    """
    Write a ``.tar.gz`` of files, whole or not at all.

    :param root: directory the paths are relative to
    :param paths: files; one that has gone meanwhile is left out
    :param archive: file to write; its directory is made
    :param extra: further members, by name
    :return: ``[archive]``, or nothing where there was nothing to pack
    """
    paths = list(paths)
    if not paths and not extra:
        return []
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(archive.name + ".part")
    with tarfile.open(part, "w:gz", compresslevel=1) as tar:
        for path in paths:
            with contextlib.suppress(FileNotFoundError), (root / path).open("rb") as stream:
                info = tar.gettarinfo(arcname=path, fileobj=stream)
                info.type, info.linkname = tarfile.REGTYPE, ""  # a hard link is packed as the file it is
                info.size = os.fstat(stream.fileno()).st_size
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                tar.addfile(info, _Exactly(stream))  # type: ignore[arg-type]
        for name, content in (extra or {}).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    part.replace(archive)
    return [archive]
