# SPDX-License-Identifier: Apache-2.0
"""The hashes by which an object store names what it holds: CRC32C and MD5."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

try:
    import google_crc32c
except ImportError:  # MD5, which stores name as well, serves then
    google_crc32c = cast("Any", None)

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["crc32c", "md5"]

_BLOCK = 1 << 20
_MD5_ETAG = re.compile(r'"[0-9a-fA-F]{32}"')


class Checksum:
    """
    A hash, made while the bytes pass.

    :param kind: ``crc32c`` (which costs little) or ``md5`` (which halves the speed on a fast network)
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._hash: Any = hashlib.md5(usedforsecurity=False)
        if kind == "crc32c":
            self._hash = google_crc32c.Checksum()  # type: ignore[no-untyped-call]

    def update(self, block: bytes) -> None:
        """Take in the next bytes."""
        self._hash.update(block)

    @property
    def value(self) -> str:
        """The hash as stores write it: base64."""
        return base64.b64encode(self._hash.digest()).decode()


def cheapest() -> Kind:
    """Name the hash that costs the least here."""
    return "crc32c" if google_crc32c else "md5"


def usable(named: Mapping[Kind, str]) -> Kind | None:
    """Choose the cheapest of the hashes that a store names, None where it names none that can be made here."""
    if google_crc32c and "crc32c" in named:
        return "crc32c"
    return "md5" if "md5" in named else None


def hash_of(file: BinaryIO, kind: Kind) -> str:
    """Read an open file from where it stands to its end, and give its hash."""
    checksum = Checksum(kind)
    while block := file.read(_BLOCK):
        checksum.update(block)
    return checksum.value


def named_hashes(headers: Mapping[str, str]) -> dict[Kind, str]:
    """
    Read what a store says of the object it has just taken or is about to give.

    That is ``x-goog-hash: crc32c=<base64>,md5=<base64>``; else the ``ETag`` where it is an MD5: 32 hex digits, and
    not of an object that the store encrypted with a key of the customer's (there it looks like one and is none).
    """
    found: dict[Kind, str] = {}
    for part in headers.get("x-goog-hash", "").split(","):
        kind, _, value = part.strip().partition("=")
        if kind == "crc32c" and value:
            found["crc32c"] = value
        elif kind == "md5" and value:
            found["md5"] = value
    etag = headers.get("ETag", "")
    encrypted = headers.get("x-amz-server-side-encryption", "AES256") != "AES256" or any(
        name.lower().startswith("x-amz-server-side-encryption-customer") for name in headers
    )
    if not found and not encrypted and _MD5_ETAG.fullmatch(etag):
        found["md5"] = base64.b64encode(bytes.fromhex(etag.strip('"'))).decode()
    return found
