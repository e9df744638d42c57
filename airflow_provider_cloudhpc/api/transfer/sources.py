# SPDX-License-Identifier: Apache-2.0
"""What can be uploaded: anything that has a size and can be opened anew for each try."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

if TYPE_CHECKING:
    from pathlib import Path


class Source(Protocol):
    """
    What can be uploaded; opened anew for each try.

    :param name: for the log
    :param size: bytes
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO:
        """Open it for reading, at its beginning."""
        ...

    def stamp(self) -> object:
        """Give what tells it from what it will be when it has been written to."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A local file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Its bytes, now."""
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """Open it unbuffered: blocks are large."""
        return cast("BinaryIO", self.path.open("rb", buffering=0))

    def stamp(self) -> object:
        """Give its inode, time and size."""
        return _stamp(self.path.stat())


@dataclass(frozen=True)
class OpenFileSource:
    """
    An open file that may have no name any more.

    :param file: with a descriptor; opened anew it is read from its beginning, by one reader at a time
    """

    name: str
    file: BinaryIO

    @property
    def size(self) -> int:
        """Its bytes, now."""
        return os.fstat(self.file.fileno()).st_size

    def open(self) -> BinaryIO:
        """Open it once more, unbuffered."""
        again = os.fdopen(os.dup(self.file.fileno()), "rb", buffering=0)
        again.seek(0)
        return cast("BinaryIO", again)

    def stamp(self) -> object:
        """Give its inode, time and size."""
        return _stamp(os.fstat(self.file.fileno()))


@dataclass(frozen=True)
class BytesSource:
    """A few bytes in memory."""

    name: str
    data: bytes

    @property
    def size(self) -> int:
        """Their number."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Give them as a file."""
        return io.BytesIO(self.data)

    def stamp(self) -> object:
        """They never change."""
        return None


def _stamp(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_ino, info.st_mtime_ns, info.st_size
