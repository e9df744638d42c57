# SPDX-License-Identifier: Apache-2.0
"""
The output of a run can be longer than anybody wants in memory: keep its beginning and its end.

The end is worth the bytes on the way: that is where a solver crashes. What is kept, and so the memory, has a limit.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_cloudhpc.api.errors import CloudHPCConnectionError
from airflow_provider_cloudhpc.api.wire.breaks import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Bytes of an answer after which reading is given up: nothing says that it would ever end.
MAX_TRANSFER = 1_000_000_000
#: Bytes that are kept of what stands behind an output.
_REST = 1 << 16
_BLOCK = 1 << 18
_OPENING = re.compile(rb'"output"\s*+:\s*+"')
#: How far the opening may reach back into the block before.
_OVERLAP = 64
#: A string up to its closing quote, or as far as it was read. Possessive: linear whatever it holds.
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
#: What follows the first byte of a character in UTF-8.
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_WHOLE_CHARACTERS = re.compile(rb'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+')


class RecordReader:
    """
    Takes the body of ``{"response": {..., "output": "...", ...}}`` piece by piece and keeps a limited part of it.

    :param limit: bytes of the output that are kept, half of them of its beginning and half of its end; and bytes of
        what stands before it
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._before = bytearray()
        self._found = False
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._dropped = False
        self._broken = b""  # an escape that the end of a piece cut in two
        self._closed = False
        self._rest = bytearray()
        #: Whether what came is all there is.
        self.has_end = True

    def feed(self, piece: bytes) -> bool:
        """
        Take the next piece.

        :return: whether more of it is wanted
        """
        if not self._found:
            start = max(0, len(self._before) - _OVERLAP)
            self._before += piece
            opening = _OPENING.search(self._before, start)
            if opening is None:
                return len(self._before) <= self._limit
            self._found = True
            piece = bytes(self._before[opening.end() :])
            del self._before[opening.end() :]
        if not self._closed:
            piece = self._broken + piece
            inside = _STRING.match(piece)
            end = inside.end() if inside else 0
            self._keep(piece[:end])
            piece = piece[end:]
            self._closed = piece.startswith(b'"')
            self._broken = b"" if self._closed else piece
        if self._closed:
            self._rest += piece[: _REST - len(self._rest)]
        return True

    def _keep(self, piece: bytes) -> None:
        room = max(0, self._limit // 2 - len(self._head))
        room += _half_escape(piece[:room])
        self._head += piece[:room]
        if len(piece) > room:
            self._tail.append(piece[room:])
            self._tail_size += len(piece) - room
        too_much = self._tail_size - self._limit // 2
        if too_much > 0:
            self._drop(too_much)

    def _drop(self, size: int) -> None:
        """Drop the beginning of the tail, and never half an escape."""
        self._dropped = True
        while size > 0:
            first = self._tail.popleft()
            self._tail_size -= len(first)
            cut = first[:size]
            size -= len(cut)
            rest = first[len(cut) + _half_escape(cut) :]
            if rest:
                self._tail.appendleft(rest)
                self._tail_size += len(rest)

    @property
    def body(self) -> bytes | None:
        """The body, if all of it was kept."""
        if self._dropped or not self.has_end or (self._closed and len(self._rest) == _REST):
            return None
        return b"".join((self._before, self._head, *self._tail, self._broken, self._rest))

    def record(self) -> dict[str, Any]:
        """
        Give the record as far as it was kept.

        :return: its fields; ``output`` is the beginning and ``output_tail`` the end of an output that was too long
        """
        if not self._found:
            return {"output_is_whole": False}
        record = _fields(bytes(self._before[: self._before.rfind(b'"output"')]).rstrip(b" \t\r\n,") + b"}}")
        if self._closed:
            record |= _fields(b"{" + self._rest[1:].lstrip(b", \t\r\n"))
        tail = b"".join(self._tail)
        if not self._dropped:
            return record | {"output": _text(bytes(self._head) + tail), "output_is_whole": self._closed}
        # Without the closing quote this is not the end of the output, but the middle that happened to come last.
        record["output_tail"] = _text(tail.lstrip(_CONTINUATIONS)) if self._closed else None
        return record | {"output": _text(bytes(self._head)), "output_is_whole": False}


def read_record(
    response: requests.Response, limit: int, method: str, endpoint: str, *, most: int = MAX_TRANSFER
) -> bytes | dict[str, Any]:
    """
    Read an answer's body to its end, or as far as is sensible.

    :param limit: bytes that are kept
    :param most: bytes of the body after which reading is given up
    :param endpoint: template of the endpoint, for the error
    :return: the body, or of one that is too long the record as far as it was kept
    :raises CloudHPCConnectionError: the connection broke
    """
    reader = RecordReader(limit)
    size = 0
    try:
        with response:
            blocks: Iterable[bytes] = response.iter_content(_BLOCK)
            for block in blocks:
                size += len(block)
                if not reader.feed(block) or size > most:
                    reader.has_end = False
                    break
        body = reader.body
        return reader.record() if body is None else body
    except requests.RequestException as error:
        reason = describe(error)
    raise CloudHPCConnectionError(f"The answer broke off ({reason}).", method=method, endpoint=endpoint)


def _half_escape(text: bytes) -> int:
    """Give 1 where a piece ends within an escape, else 0."""
    return (len(text) - len(text.rstrip(b"\\"))) % 2


def _fields(text: bytes) -> dict[str, Any]:
    """Read the object that a text begins with, in its envelope or not; nothing where it is none."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
    except ValueError:
        return {}
    value = value.get("response", value) if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def _text(string: bytes) -> str:
    """Read the inside of a JSON string, which may be cut at its end."""
    found = _WHOLE_CHARACTERS.match(string)
    text = (found.group() if found else b"").decode("utf-8", "replace")
    return str(json.loads(f'"{text}"', strict=False))
