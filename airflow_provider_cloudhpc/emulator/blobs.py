# SPDX-License-Identifier: Apache-2.0
"""The bytes of the object store: one file on disk each, hashed while they are written, in constant memory."""

from __future__ import annotations

import base64
import hashlib
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

BLOCK = 1 << 18


@dataclass(frozen=True)
class Blob:
    """
    One generation of an object.

    :param path: where its bytes are
    :param size: bytes
    :param crc32c: big-endian checksum, as in ``x-goog-hash``
    :param md5: digest
    :param created: virtual seconds since the epoch
    :param generation: counts up with every object written
    :param content_type: as it was uploaded
    """

    path: Path
    size: int
    crc32c: bytes
    md5: bytes
    created: float
    generation: int
    content_type: str

    @property
    def etag(self) -> str:
        """Quoted entity tag: changes whenever the bytes do."""
        return f'"{self.md5.hex()}"'

    @property
    def goog_hash(self) -> str:
        """The ``x-goog-hash`` header."""
        return f"crc32c={base64.b64encode(self.crc32c).decode()},md5={base64.b64encode(self.md5).decode()}"


class BlobWriter:
    """Takes a body block by block. ``finish`` makes a blob of it, ``discard`` leaves nothing."""

    def __init__(self, path: Path, generation: int) -> None:
        self._path, self._generation = path, generation
        self._file = path.open("wb", buffering=0)
        self._crc, self._md5 = 0, hashlib.md5(usedforsecurity=False)
        self.size = 0

    def write(self, block: bytes) -> None:
        """Append a block."""
        self._file.write(block)
        self._crc = google_crc32c.extend(self._crc, block)
        self._md5.update(block)
        self.size += len(block)

    def finish(self, now: float, content_type: str) -> Blob:
        """
        The whole blob.

        :raises FileNotFoundError: where everything was thrown away while it was written
        """
        self._file.close()
        self._path.stat()
        return Blob(
            self._path, self.size, self._crc.to_bytes(4, "big"), self._md5.digest(), now, self._generation, content_type
        )

    def discard(self) -> None:
        """Throw away what was written."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class BlobStore:
    """
    Blobs under one directory.

    :param directory: where; made if need be
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._generations = itertools.count(1)
        self._borrowers = 0
        self._dropped: list[Blob] = []

    def writer(self) -> BlobWriter:
        """A place for a new blob."""
        generation = next(self._generations)
        return BlobWriter(self.directory / f"{generation:09d}", generation)

    def from_bytes(self, content: bytes, now: float, content_type: str = "application/octet-stream") -> Blob:
        """A blob of some bytes."""
        writer = self.writer()
        writer.write(content)
        return writer.finish(now, content_type)

    def from_file(self, source: Path, now: float) -> Blob:
        """A blob of a file's bytes; the file stays."""
        writer = self.writer()
        with source.open("rb") as file:
            while block := file.read(BLOCK):
                writer.write(block)
        return writer.finish(now, "application/octet-stream")

    def drop(self, blob: Blob) -> None:
        """Remove a blob's bytes, as soon as nobody has borrowed any."""
        if self._borrowers:
            self._dropped.append(blob)
        else:
            blob.path.unlink(missing_ok=True)

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """As long as this lasts, bytes are where they were, though their object was written anew or deleted."""
        self._borrowers += 1
        try:
            yield
        finally:
            self._borrowers -= 1
            if not self._borrowers:
                dropped, self._dropped = self._dropped, []
                for blob in dropped:
                    self.drop(blob)

    def clear(self) -> None:
        """Remove every byte."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
