# SPDX-License-Identifier: Apache-2.0
"""A forward proxy as companies run them: absolute URLs for http, tunnels for https."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit


@dataclass
class Moods:
    """
    How a proxy disappoints.

    :param credentials: ``user:password`` that it wants, in the clear
    :param refusals: statuses with which it refuses the next requests
    :param cuts: after how many bytes from behind it the next connections end; None: never
    """

    credentials: str = ""
    refusals: list[int] = field(default_factory=list)
    cuts: list[int | None] = field(default_factory=list)


class _Handler(StreamRequestHandler):
    passed: list[str]
    moods: Moods

    def handle(self) -> None:
        method, target, version = self.rfile.readline().decode().split()
        self.passed.append(f"{method} {target.partition('?')[0]}")
        headers = b""
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            headers += line
        wanted = base64.b64encode(self.moods.credentials.encode()).decode()
        refusal = self.moods.refusals.pop(0) if self.moods.refusals else 0
        if wanted and f"Proxy-Authorization: Basic {wanted}\r\n" not in headers.decode("latin-1"):
            refusal = 407
        if refusal:
            self.wfile.write(f"HTTP/1.1 {refusal} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        headers = b"".join(h for h in headers.splitlines(True) if not h.lower().startswith(b"proxy-authorization:"))
        cut = self.moods.cuts.pop(0) if self.moods.cuts else None
        parts = urlsplit(target if method != "CONNECT" else f"//{target}")
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as upstream:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = target[target.index("/", 8) :]
                upstream.sendall(f"{method} {path} {version}\r\n".encode() + headers + b"Connection: close\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, self.connection, cut), daemon=True)
            back.start()
            while data := self.rfile.read1(65536):
                upstream.sendall(data)
            back.join(10)


def _pump(source: socket.socket, sink: socket.socket, left: int | None) -> None:
    try:
        while data := source.recv(65536 if left is None else min(left, 65536)):
            sink.sendall(data)
            left = left if left is None else left - len(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no news."""


@contextmanager
def running_proxy(moods: Moods | None = None) -> Iterator[tuple[str, list[str]]]:
    """Give the proxy's address, and the list of what passed through it."""
    passed: list[str] = []
    server = _Server(("127.0.0.1", 0), type("BoundHandler", (_Handler,), {"passed": passed, "moods": moods or Moods()}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", passed
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
