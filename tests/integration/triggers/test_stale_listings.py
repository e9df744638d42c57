# SPDX-License-Identifier: Apache-2.0
"""Listings that are behind: every ending is found all the same, and no call is refused."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from airflow_provider_cloudhpc.api.lifecycle import EndingKind
from tests.integration.triggers.conftest import connect

FOR_EVER = 1e9


class Cache(ThreadingHTTPServer):
    """
    Stands before the service and gives out old listings, with the counters of their time.

    :param lifetime: for how many seconds a page is kept
    """

    daemon_threads = True

    def __init__(self, service, lifetime):
        self.service, self.lifetime = service, lifetime
        self.pages = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Cache

    def do_GET(self):
        cache, now = self.server, self.server.service.control.now()
        answer, when = cache.pages.get(self.path, (None, 0.0))
        if answer is None or now - when >= cache.lifetime:
            headers = {"X-API-key": self.headers["X-API-key"]}
            answer = requests.get(cache.service.url + self.path, headers=headers, timeout=60)
            if "index-short" in self.path:
                cache.pages[self.path] = answer, now
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower().startswith(("x-", "content-type")):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def behind(service, monkeypatch):
    """Put a cache before the service."""
    caches = []

    def start(lifetime):
        caches.append(Cache(service, lifetime))
        threading.Thread(target=caches[-1].serve_forever, daemon=True).start()
        connect(monkeypatch, service, host=caches[-1].url)

    yield start
    for cache in caches:
        cache.shutdown()
        cache.server_close()


@pytest.mark.parametrize("lifetime", [600.0, FOR_EVER])
def test_endings_are_found_behind_a_cache_that_is_not_renewed(service, run, behind, lifetime):
    service.control.set_quota(500)
    behind(lifetime)
    simulations = service.control.simulation(count=60, pending=1, running=None)
    ended = simulations[2::5]

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(300)
        for number in ended:
            service.control.finish(number)
        await waits.advance(2 * 3600)
        assert [number for number in ended if waits.ending(number) is None] == []
        assert [number for number in simulations if waits.tasks[number].done()] == ended

    waits = run(story)
    assert {waits.ending(number).kind for number in ended} == {EndingKind.COMPLETED}
    assert not any(call.status in (403, 429) for call in service.ledger.calls)
    # By one call for each wait and minute they would be thousands.
    assert waits.calls() <= 2.1 * 250


def test_what_the_listing_misses_at_first_is_found(service, run):
    service.control.settings(simulation_lag=1800)
    service.control.set_quota(500)
    old = service.control.simulation(count=30, pending=1, running=None)
    found = {}

    async def story(waits):
        for number in old:
            await waits.begin(number)
        await waits.advance(100)
        found["new"] = service.control.simulation(count=5, pending=1, running=100)
        for number in found["new"]:
            await waits.begin(number)
        listed = [record.id for record in waits.worker.list_simulations(1)]
        assert not set(found["new"]) & set(listed)
        await waits.advance(1200)

    waits = run(story)
    assert {waits.ending(number).kind for number in found["new"]} == {EndingKind.COMPLETED}
    assert waits.calls() <= 5 + 100
