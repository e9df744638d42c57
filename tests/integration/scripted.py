# SPDX-License-Identifier: Apache-2.0
"""A server that does to its clients what a test says, down to the bytes; and a proxy that remembers what it carried."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """What arrived; header names in lower case, the first of several."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An answer; ``body`` in place of ``json`` for one that is none, ``keep`` leaves the connection open after it."""

    json: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    keep: bool = True

    def to_bytes(self) -> bytes:
        body = json.dumps(self.json).encode() if self.body is None else self.body
        kind = "application/json" if self.body is None else "text/html"
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Cut:
    """Some bytes of an answer (or none), then a reset."""

    after: bytes = b""


@dataclass(frozen=True)
class Hang:
    """Nothing, until the client gives up or the server is closed."""


#: The connection is reset at once, before a byte is read from it.
RESET_AT_ONCE = Cut()
OK = Answer({"response": "ok"})


def reset(connection: socket.socket) -> None:
    """Close a connection so that the other side sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_head(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """Read up to the end of a request's headers: its first line, its headers, what came after them."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = connection.recv(65536)
        if not block:
            raise ConnectionError("closed")
        data += block
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), value.strip())
    return first, headers, rest


class _Listener:
    """A listening socket on loopback, one thread a connection; everything ends with the ``with`` block."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        self.closing = threading.Event()

    def __enter__(self) -> Any:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._guard, args=(connection, self.connections), daemon=True).start()

    def _guard(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            self.serve(connection, number)

    def serve(self, connection: socket.socket, number: int) -> None:
        raise NotImplementedError


class ScriptedServer(_Listener):
    """
    Answers request after request as the script says, the last step again for every further one.

    :param script: what is done about each request
    :param on_connect: what is done about each new connection before anything is read: None to go on
    :param tls: its side of TLS
    """

    def __init__(
        self, *script: Answer | Cut | Hang, on_connect: Sequence[Cut | None] = (), tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self.script = script or (OK,)
        self.requests: list[Request] = []
        self._on_connect = list(on_connect)
        self._tls = tls
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket, number: int) -> None:
        if self._on_connect and self._on_connect.pop(0):
            reset(connection)
            return
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True)
        while True:
            first, headers, body = read_head(connection)
            while len(body) < int(headers.get("content-length", 0)):
                body += connection.recv(1 << 16)
            method, target, _ = first.split(" ")
            with self._lock:
                self.requests.append(Request(method, target, headers, body, number))
                step = self.script[min(len(self.requests), len(self.script)) - 1]
            if isinstance(step, Hang):
                self.closing.wait()
                return
            if isinstance(step, Cut):
                connection.sendall(step.after)
                reset(connection)
                return
            connection.sendall(step.to_bytes())
            if not step.keep:
                return


class ScriptedProxy(_Listener):
    """
    A forward proxy: ``CONNECT`` and absolute targets.

    :param upstream: (host, port) that every request is really carried to, whatever it names
    :param refuse: status with which every ``CONNECT`` is refused
    """

    def __init__(self, upstream: tuple[str, int] | None = None, *, refuse: int | None = None) -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"
        #: First line and headers of everything that was asked for, in the clear as a proxy sees it.
        self.seen: list[tuple[str, dict[str, str]]] = []
        self._upstream = upstream
        self._refuse = refuse

    def serve(self, connection: socket.socket, number: int) -> None:
        first, headers, rest = read_head(connection)
        self.seen.append((first, headers))
        method, target, version = first.split(" ")
        address = urlsplit(f"//{target}" if method == "CONNECT" else target)
        if self._refuse and method == "CONNECT":
            connection.sendall(f"HTTP/1.1 {self._refuse} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        with socket.create_connection(self._upstream or (address.hostname or "", address.port or 80)) as far:
            if method == "CONNECT":
                connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                far.sendall(rest)
            else:
                path = address.path + (f"?{address.query}" if address.query else "")
                lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers.items())]
                far.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + rest)
            threading.Thread(target=_pump, args=(far, connection), daemon=True).start()
            _pump(connection, far)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            sink.sendall(block)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
