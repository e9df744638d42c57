# SPDX-License-Identifier: Apache-2.0
"""An object store of one object behind signed URLs, on a real socket, which fails on request."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "X-Goog-Signature=5ecret"
CHUNK = 64 << 10


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def crc32c(data: bytes) -> str:
    """The checksum by its definition, bit by bit in a table: no library that the code under test uses."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return base64.b64encode(struct.pack(">I", crc ^ 0xFFFFFFFF)).decode()


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class Fault:
    """How one request is answered; the default is: well."""

    status: int | None = None
    #: Close the connection after so many bytes of the answer's body (GET) or of the request's (PUT).
    cut: int | None = None
    #: Close it with a reset instead of an orderly end.
    reset: bool = True
    #: Say nothing more after so many bytes until the client has left.
    stall: int | None = None
    #: Pause between chunks, seconds.
    drip: float = 0.0
    #: Name these hashes instead of the right ones; empty: none.
    hashes: str | None = None
    etag: str | None = None
    #: Change this byte of what is sent or stored.
    flip: int | None = None
    #: Put another object in place before answering.
    replace: bytes | None = None
    ignore_range: bool = False
    ignore_if_range: bool = False
    range_shift: int = 0
    #: What a 206 says of what it holds; empty: nothing.
    content_range: str | None = None
    #: Answer without reading the request's body.
    early: bool = False
    chunked: bool = False
    #: Say no length: the body ends where the connection does.
    unframed: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    #: Called when the body of a PUT is here.
    taken: Callable[[], object] | None = None


class Store:
    """The object and what happened to it."""

    def __init__(self) -> None:
        self.data = b""
        self.generation = 1
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.default = Fault()
        self.url = ""

    @property
    def etag(self) -> str:
        return f'"generation-{self.generation}"'

    def put_in(self, data: bytes) -> None:
        self.data = data
        self.generation += 1

    def next_fault(self) -> Fault:
        return self.faults.pop(0) if self.faults else self.default

    def ranges(self) -> list[str | None]:
        return [seen.range for seen in self.seen]


def hashes(data: bytes) -> str:
    return f"md5={md5(data)}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_PUT(self) -> None:
        fault = self._note()
        length = int(self.headers.get("Content-Length", "-1"))
        if fault.early:
            self._answer(fault, b"<Error/>")
            self.close_connection = True
            return
        if length < 0:
            self.store.seen[-1].body = b"chunked"
            self._answer(Fault(status=411), b"")
            self.close_connection = True
            return
        body = b""
        while len(body) < length:
            if fault.cut is not None and len(body) >= fault.cut:
                self._end(fault)
                return
            if fault.stall is not None and len(body) >= fault.stall:
                self._wait_for_the_end()
                return
            limit = min(x for x in (length, fault.cut, fault.stall) if x is not None)
            got = self.rfile.read(min(CHUNK, max(limit, 1) - len(body) if len(body) < limit else length - len(body)))
            if not got:
                return
            body += got
        self.store.seen[-1].body = body
        if fault.taken:
            fault.taken()
        if fault.status is None or fault.status < 300:
            if fault.flip is not None:
                body = flipped(body, fault.flip)
            self.store.put_in(body)
        self._answer(fault, b"" if fault.status is None else b"<Error/>")

    def do_GET(self) -> None:
        fault = self._note()
        if fault.replace is not None:
            self.store.put_in(fault.replace)
        if fault.status is not None:
            self._answer(fault, b"<Error/>")
            return
        data, start, status = self.store.data, 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = fault.ignore_if_range or self.headers.get("If-Range", self.store.etag) == self.store.etag
        if wanted and same and not fault.ignore_range:
            start, status = int(wanted[1]) + fault.range_shift, 206
            if start >= len(data):
                self._answer(Fault(status=416), b"")
                return
        body = data[start:]
        if fault.flip is not None:
            body = flipped(body, fault.flip - start)
        self.send_response(status)
        if status == 206:
            named = f"bytes {start}-{len(data) - 1}/{len(data)}" if fault.content_range is None else fault.content_range
            if named:
                self.send_header("Content-Range", named)
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif fault.unframed:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self._object_headers(fault)
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        sent = 0
        while sent < len(body):
            stops = [x for x in (fault.cut, fault.stall) if x is not None]
            if stops and sent >= min(stops):
                break
            piece = body[sent : min([sent + CHUNK, *stops])]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if fault.chunked else piece)
            sent += len(piece)
            time.sleep(fault.drip)
        if fault.cut is not None:
            self._end(fault)
        elif fault.stall is not None:
            self._wait_for_the_end()
        elif fault.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _note(self) -> Fault:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.store.seen.append(Seen(self.command, self.path, headers))
        fault = self.store.next_fault()
        if fault.before:
            fault.before()
        return fault

    def _answer(self, fault: Fault, body: bytes) -> None:
        self.send_response(fault.status or 200)
        self.send_header("Content-Length", str(len(body)))
        if fault.status is None:
            self._object_headers(fault)
        self.end_headers()
        self.wfile.write(body)

    def _object_headers(self, fault: Fault) -> None:
        named = hashes(self.store.data) if fault.hashes is None else fault.hashes
        if named:
            self.send_header("x-goog-hash", named)
        etag = self.store.etag if fault.etag is None else fault.etag
        if etag:
            self.send_header("ETag", etag)
        for name, value in fault.headers.items():
            self.send_header(name, value)

    def _end(self, fault: Fault) -> None:
        self.wfile.flush()
        if fault.reset:
            # What was sent must arrive before the reset throws it away.
            time.sleep(0.1)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _wait_for_the_end(self) -> None:
        self.wfile.flush()
        self.connection.settimeout(10)
        try:
            while self.connection.recv(CHUNK):
                pass
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if 0 <= at < len(data) else data


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is what these tests are about."""


class _Zeros(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    size = 0

    def do_PUT(self) -> None:
        buffer, left = bytearray(1 << 20), int(self.headers["Content-Length"])
        while left:
            left -= self.rfile.readinto(memoryview(buffer)[:left])  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.size))
        self.end_headers()
        block = bytes(1 << 20)
        for _ in range(self.size // len(block)):
            self.wfile.write(block)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _serving(server: _Server) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running_zeros(size: int) -> Iterator[str]:
    """Give the URL of a server that takes anything, and gives so many zeros (a multiple of 1 MiB)."""
    with _serving(_Server(("127.0.0.1", 0), type("BoundZeros", (_Zeros,), {"size": size}))) as port:
        yield f"http://127.0.0.1:{port}/zeros?{SECRET}"


@contextmanager
def running_store(context: ssl.SSLContext | None = None) -> Iterator[Store]:
    store = Store()
    server = _Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"store": store}))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if context else "http"
    store.url = f"{scheme}://127.0.0.1:{server.server_port}/bucket/case%20%C3%A4%25/~FDS.tar.gz?{SECRET}&n=%7E%2F"
    with _serving(server):
        yield store
