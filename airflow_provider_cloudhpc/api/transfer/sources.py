# SPDX-License-Identifier: Apache-2.0
"""What can be uploaded: anything that has a size and can be opened anew for each try."""

from __future__ import annotations

import io
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
