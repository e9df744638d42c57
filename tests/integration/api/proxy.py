# SPDX-License-Identifier: Apache-2.0
"""A forward proxy as companies run them: absolute URLs for http, tunnels for https."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit


class _Handler(StreamRequestHandler):
    passed: list[str]

    def handle(self) -> None:
        method, target, version = self.rfile.readline().decode().split()
        self.passed.append(f"{method} {target.partition('?')[0]}")
        headers = b""
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            headers += line
        parts = urlsplit(target if method != "CONNECT" else f"//{target}")
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as upstream:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = target[target.index("/", 8) :]
                upstream.sendall(f"{method} {path} {version}\r\n".encode() + headers + b"Connection: close\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
            back.start()
            while data := self.rfile.read1(65536):
                upstream.sendall(data)
            back.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no news."""


@contextmanager
def running_proxy() -> Iterator[tuple[str, list[str]]]:
    """Give the proxy's address, and the list of what passed through it."""
    passed: list[str] = []
    server = _Server(("127.0.0.1", 0), type("BoundHandler", (_Handler,), {"passed": passed}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", passed
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
