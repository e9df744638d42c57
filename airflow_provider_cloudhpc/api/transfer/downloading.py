# SPDX-License-Identifier: Apache-2.0
"""One object on its way into one file, over as many connections as it takes."""

from __future__ import annotations

import logging
import os
import re
import shutil
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import urllib3.exceptions

from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError
from airflow_provider_cloudhpc.api.progress import ProgressCallback, format_bytes
from airflow_provider_cloudhpc.api.transfer.checksums import Checksum, Kind, hash_of, named_hashes, usable
from airflow_provider_cloudhpc.api.transfer.stores import Transferred, check_status, object_length, request, store_error
from airflow_provider_cloudhpc.api.wire.breaks import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import requests

    from airflow_provider_cloudhpc.api.wire.http import NetworkOptions

log = logging.getLogger(__name__)

#: Bytes received at once: a quarter of it costs a third more CPU, twice as much gains little; a reset loses one.
BLOCK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")

OnExisting = Literal["error", "overwrite", "keep"]


class Download:
    """
    One object on its way into one file, over as many connections as it takes.

    :param network: how the store is reached
    :param ask_url: gives a signed URL; asked again when the one it gave is refused
    :param target: what the file is to become
    :param part: where the bytes go until they are proven
    :param size: bytes it must have, None where not known
    :param on_existing: whether another file at the target is an error
    :param progress: called with the bytes received and those in all
    """

    def __init__(
        self,
        network: NetworkOptions,
        ask_url: Callable[[], str],
        target: Path,
        part: BinaryIO,
        size: int | None,
        on_existing: OnExisting,
        progress: ProgressCallback,
    ) -> None:
        self._network = network
        self._ask_url = ask_url
        self._target = target
        self._part = part
        self._size = size
        self._on_existing = on_existing
        self._progress = progress
        self._url: str | None = None
        #: Bytes of the object in the part, all of them hashed; and all that came, repeated ones too.
        self.received = 0
        self.fetched = 0
        self._total: int | None = None
        self._validator: tuple[str, ...] = ()
        self._named: dict[Kind, str] = {}
        self._checksum: Checksum | None = None

    def attempt(self) -> Transferred:
        """Go on, or begin, with one request."""
        if self._url is None:
            self._url = self._ask_url()
        headers = {"Accept-Encoding": "identity"}
        if self.received:
            headers |= {"Range": f"bytes={self.received}-", "If-Range": self._validator[0]}
        with request(self._network, "GET", self._url, stream=True, headers=headers) as response:
            self._check(response)
            if response.status_code != 206:
                self._begin(response.headers)
                if self._is_there():
                    return Transferred(self._target.stat().st_size, True, skipped=True)
            self._take(response)
            ends = self._total is not None or bool(response.raw.chunked)
        return self._prove(ends)

    def _check(self, response: requests.Response) -> None:
        try:
            check_status(response, "GET")
        except CloudHPCTransferError as error:
            if error.expired:
                self._url = None
            if error.status == 416:
                self._forget()
            raise
        if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            start, total = (int(match[1]), int(match[2])) if match else (0, 0)
            if (
                not self.received
                or start != self.received
                or self._total not in (None, total)
                or _validator(response.headers) != self._validator
            ):
                self._forget()
                raise store_error(
                    "The object store went on with something else than was asked for.", "GET", transient=True
                )
            self._total = total  # an answer in chunks tells no length
            log.info("The download of %s goes on at byte %d", self._target.name, self.received)

    def _forget(self) -> None:
        """Begin anew: what is there is not known to be of the object that the store has now."""
        self.received = 0

    def _begin(self, headers: Mapping[str, str]) -> None:
        """Take note of what the store says of the object; what was there of it is void."""
        if self.received:
            log.info("The download of %s begins again: the object changed, or cannot be resumed", self._target.name)
        self._forget()
        self._part.seek(0)
        self._part.truncate()
        self._total = object_length(headers)
        self._validator = _validator(headers)
        self._named = named_hashes(headers)
        kind = usable(self._named)
        self._checksum = Checksum(kind) if kind else None
        if self._size is not None and self._total is not None and self._total != self._size:
            raise store_error(
                f"The object store has {self._total} bytes where the storage's listing says {self._size}: it was "
                "replaced meanwhile, or something between here and the store answers in its place.",
                "GET",
                transient=True,
            )
        encoding = headers.get("Content-Encoding", "identity")
        if encoding != "identity" and not self._named and self._size is None:
            raise store_error(
                f"The answer came compressed ({encoding}) although that was not asked for, and nothing says whether "
                "the object is stored so or something between here and the store did it.",
                "GET",
                transient=True,
            )
        needed = self._size if self._total is None else self._total
        free = shutil.disk_usage(self._target.parent).free
        if needed is not None and needed > free:
            raise store_error(
                f"{self._target.name} has {format_bytes(needed)}, and {str(self._target.parent)!r} has "
                f"{format_bytes(free)} free. Make room, or download elsewhere; nothing was written.",
                "GET",
            )

    def _is_there(self) -> bool:
        """Say whether the file is there already; refuse to replace another unless that is asked for."""
        if not os.path.lexists(self._target):
            return False
        if self._target.is_file() and self._checksum and self._target.stat().st_size == self._total:
            with self._target.open("rb", buffering=0) as file:
                if hash_of(cast("BinaryIO", file), self._checksum.kind) == self._named[self._checksum.kind]:
                    return True
        if self._on_existing == "error":
            raise store_error(
                f"{str(self._target)!r} is there and is not known to be the same file. Delete it, download elsewhere, "
                "or choose on_existing='overwrite' or 'keep'.",
                "GET",
            )
        return False

    def _take(self, response: requests.Response) -> None:
        self._progress(self.received, self._total)
        try:
            while block := self._next(response):
                self._part.write(block)
                if self._checksum:
                    self._checksum.update(block)
                self.received += len(block)
                self.fetched += len(block)
                self._progress(self.received, self._total)
                if self._size is not None and self.received > self._size:
                    self._forget()
                    raise store_error(
                        f"The object store sends more than the {self._size} bytes that the storage's listing says.",
                        "GET",
                        transient=True,
                    )
        except CloudHPCTransferError:
            # Without an ETag nothing can prove that the rest will be of the same object.
            if not self._validator:
                self._forget()
            raise

    def _next(self, response: requests.Response) -> bytes:
        try:
            return cast("bytes", response.raw.read(BLOCK))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = describe(error)
        raise store_error(
            f"The connection to the object store broke after {self.received} bytes ({reason}).", "GET", transient=True
        )

    def _prove(self, ends: bool) -> Transferred:
        """
        Hold what came against what was announced.

        :param ends: whether the answer's end can be told from a broken connection
        """
        received = self.received
        for expected, who in ((self._total, "object store"), (self._size, "storage's listing")):
            if expected is not None and expected != received:
                self._forget()
                raise store_error(f"{received} bytes came where the {who} says {expected}.", "GET", transient=True)
        if self._checksum is None and not ends and self._size is None:
            self._forget()
            raise store_error(
                f"{received} bytes came, and nothing says whether that is the whole object: neither the store nor the "
                "storage's listing names a length or a hash.",
                "GET",
                transient=True,
            )
        if self._checksum is None:
            return Transferred(received, None)
        if self._checksum.value != self._named[self._checksum.kind]:
            self._forget()
            raise store_error("The bytes that came do not have the object's hash.", "GET", transient=True)
        return Transferred(received, True)


def _validator(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Give what tells one object from its successor: the strong ETag first, which ``If-Range`` takes; empty without."""
    etag = headers.get("ETag", "")
    if not etag.startswith('"'):
        return ()
    return etag, headers.get("x-goog-generation", ""), headers.get("x-goog-hash", "")
