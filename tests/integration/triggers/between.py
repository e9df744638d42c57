# SPDX-License-Identifier: Apache-2.0
"""A server between a poller and the service, which gives out old listings or refuses to carry some calls."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests


class Between(ThreadingHTTPServer):
    """
    Stands before the service.

    :param lifetime: for how many seconds a page of a listing is kept, with the counters of its time
    :param broken: calls whose path holds one of these are answered with 503
    """

    daemon_threads = True

    def __init__(self, service, lifetime=0.0, broken=()):
        self.service, self.lifetime, self.broken = service, lifetime, broken
        self.pages = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Between

    def do_GET(self):
        between, now = self.server, self.server.service.control.now()
        if any(part in self.path for part in between.broken):
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer, when = between.pages.get(self.path, (None, 0.0))
        if answer is None or now - when >= between.lifetime:
            headers = {"X-API-key": self.headers["X-API-key"]}
            answer = requests.get(between.service.url + self.path, headers=headers, timeout=60)
            if "index-short" in self.path:
                between.pages[self.path] = answer, now
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower().startswith(("x-", "content-type")):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *arguments):
        pass
