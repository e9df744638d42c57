# SPDX-License-Identifier: Apache-2.0
"""
Bytes to and from signed URLs.

The URLs are credentials of another host: no API key goes there, no message holds their query, no redirect is
followed. Files are streamed; a download is written under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import requests
import urllib3.exceptions

from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError
from airflow_provider_cloudhpc.api.http import NetworkOptions, masked_queries, new_session
from airflow_provider_cloudhpc.api.sending import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/octet-stream"
#: Bytes read and written at once.
BLOCK = 256 * 1024
#: Ending of a file that is not whole yet.
PART_SUFFIX = ".cloudhpc-part"

try:
    import google_crc32c
except ImportError:  # the md5, which the store names as well, serves then
    google_crc32c = None


class Checksums:
    """The hashes by which the store names an object, made while its bytes pass; the cheapest that will do."""

    def __init__(self) -> None:
        self._crc32c = google_crc32c.Checksum() if google_crc32c else None
        self._md5 = None if google_crc32c else hashlib.md5(usedforsecurity=False)

    def update(self, block: bytes) -> None:
        """Take in the next bytes."""
        for checksum in (self._crc32c, self._md5):
            if checksum is not None:
                checksum.update(block)

    def match(self, headers: Mapping[str, str]) -> bool | None:
        """
        Compare with what the store says of its object.

        :return: True for equal, False for different, None where the store names no hash that was made here
        """
        named = _named_hashes(headers)
        for kind, checksum in (("crc32c", self._crc32c), ("md5", self._md5)):
            if checksum is not None and kind in named:
                return base64.b64encode(checksum.digest()).decode() == named[kind]
        return None


def _named_hashes(headers: Mapping[str, str]) -> dict[str, str]:
    """Read ``x-goog-hash: crc32c=<b64>,md5=<b64>``."""
    pairs = (part.strip().partition("=") for part in headers.get("x-goog-hash", "").split(","))
    return {kind: value for kind, _, value in pairs if value}


@dataclass(frozen=True)
class Transferred:
    """
    What went over the wire.

    :param size: bytes
    :param proven: whether the store's own hash equals that of the bytes; None where it names none
    """

    size: int
    proven: bool | None


class _Body:
    """A file as a request's body: it has a length (else it would go chunked) and hashes what is read."""

    def __init__(self, source: BinaryIO, size: int, progress: Callable[[int], None] | None) -> None:
        self.checksums = Checksums()
        self._source, self._size, self._progress = source, size, progress

    def __len__(self) -> int:
        return self._size

    def read(self, amount: int = -1) -> bytes:
        block = self._source.read(amount)
        self.checksums.update(block)
        if self._progress:
            self._progress(len(block))
        return block


class Transfer:
    """
    Sends files to signed URLs and fetches them from there.

    :param network: timeouts, proxies, CA bundle: the same as for the API
    """

    def __init__(self, network: NetworkOptions | None = None) -> None:
        self._network = network or NetworkOptions()

    def put(self, url: str, source: Path, *, progress: Callable[[int], None] | None = None) -> Transferred:
        """
        Send a file to a signed URL, once.

        :param progress: is called with the number of bytes just sent
        :raises CloudHPCTransferError: the store refused, the connection broke, or the store holds other bytes
        """
        size = source.stat().st_size
        with source.open("rb", buffering=0) as file:
            body = _Body(file, size, progress)
            response = self._request("PUT", url, data=body if size else b"", headers={"Content-Type": CONTENT_TYPE})
            with response:
                _check_status(response, "PUT")
                proven = body.checksums.match(response.headers)
        if proven is False:
            raise _transfer_error("The store holds other bytes than were sent.", "PUT", transient=True)
        return Transferred(size, proven)

    def get(
        self, url: str, target: Path, *, size: int | None = None, progress: Callable[[int], None] | None = None
    ) -> Transferred:
        """
        Fetch a file from a signed URL, once; it gets its name when it is whole.

        :param size: bytes it must have, None where not known
        :param progress: is called with the number of bytes just received
        :raises CloudHPCTransferError: the store refused, the connection broke, or the bytes are not the object's
        """
        part = target.with_name(target.name + PART_SUFFIX)
        try:
            response = self._request("GET", url, stream=True, headers={"Accept-Encoding": "identity"})
            with response, part.open("wb", buffering=0) as file:
                _check_status(response, "GET")
                checksums, received = Checksums(), 0
                for block in self._blocks(response):
                    file.write(block)
                    checksums.update(block)
                    received += len(block)
                    if progress:
                        progress(len(block))
                named = response.headers.get("Content-Length")
                for expected, who in ((int(named) if named else None, "store"), (size, "storage's listing")):
                    if expected is not None and expected != received:
                        raise _transfer_error(
                            f"{received} bytes came where the {who} says {expected}.", "GET", transient=True
                        )
                proven = checksums.match(response.headers)
                if proven is False:
                    raise _transfer_error("The bytes that came do not have the object's hash.", "GET", transient=True)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return Transferred(received, proven)

    def _request(self, method: str, url: str, **options: Any) -> requests.Response:
        reason = ""
        try:
            # A session of its own: nothing of the API's session, its key least of all, may reach the store.
            with masked_queries(), new_session() as session:
                return session.request(method, url, **self._network.request_options(), **options)
        except requests.RequestException as error:
            reason = describe(error)
        raise _transfer_error(f"The connection to the object store failed ({reason}).", method, transient=True)

    @staticmethod
    def _blocks(response: requests.Response) -> Any:
        reason = ""
        try:
            while block := response.raw.read(BLOCK):
                yield block
            return
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = describe(error)
        raise _transfer_error(f"The connection to the object store broke ({reason}).", "GET", transient=True)


def _check_status(response: requests.Response, method: str) -> None:
    status = response.status_code
    if status in (200, 201):
        return
    # The store answers 400 or 403 to a signed URL that has expired, and its words need not say which.
    expired = status in (400, 401, 403)
    raise _transfer_error(
        "The object store refused the signed URL (expired, or it does not fit the request)."
        if expired
        else f"The object store answered with HTTP {status}.",
        method,
        status=status,
        expired=expired,
        transient=expired or status >= 500 or status in (408, 429),
    )


def _transfer_error(message: str, method: str, **details: Any) -> CloudHPCTransferError:
    return CloudHPCTransferError(message, method=method, endpoint="<signed URL>", **details)
