# SPDX-License-Identifier: Apache-2.0
"""One emulator for a module's tests, fresh for each of them, and a client of plain requests: none of our own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.endpoints import API_PREFIX

TIMEOUT = 20.0
HOUR = 3600.0
OCTETS = "application/octet-stream"


class Api:
    """Calls the emulator's API with a key, as any program would."""

    def __init__(self, emulator: CloudHPCEmulator, key: str | None = None) -> None:
        self.emulator, self.key = emulator, key or emulator.api_key

    def send(self, method: str, path: str, json: Any = None, **more: Any) -> requests.Response:
        """The bare answer."""
        headers = {"X-API-key": self.key, **more.pop("headers", {})}
        url = self.emulator.url + API_PREFIX + path
        return requests.request(method, url, json=json, headers=headers, timeout=TIMEOUT, allow_redirects=False, **more)

    def ask(self, method: str, path: str, json: Any = None) -> Any:
        """What stands under ``response`` of an answer that must be a success."""
        answer = self.send(method, path, json)
        assert answer.status_code == 200, (method, path, answer.status_code, answer.text)
        return answer.json()["response"]

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def upload_url(self, path: str) -> str:
        dirname, _, filename = path.rpartition("/")
        body = {"dirname": dirname, "filename": filename, "contentType": OCTETS}
        return str(self.ask("POST", "/storage/upload-url", body)["url"])

    def put(self, path: str, content: bytes) -> requests.Response:
        return requests.put(self.upload_url(path), data=content, headers={"Content-Type": OCTETS}, timeout=TIMEOUT)

    def link(self, path: str) -> str:
        """A signed URL to read a listed file."""
        return str(self.get(f"/storage/download/{self.ask('POST', '/storage/view-by-path', {'path': path})['id']}"))

    def launch(self, **changes: Any) -> int:
        body = {"cpu": 2, "ram": "standard", "script": "fds6.9.1", "folder": "case", **changes}
        return int(self.ask("POST", "/simulation/add", body))

    def status(self, id_: int) -> int:
        return int(self.get(f"/simulation/view-short/{id_}")["status"])

    def listed(self, path: str = "/simulation/index-short/id/asc/1") -> list[int]:
        return [int(record["id"]) for record in self.get(path)]


@pytest.fixture(scope="module")
def server() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as running:
        yield running


@pytest.fixture
def emulator(server: CloudHPCEmulator) -> CloudHPCEmulator:
    server.control.reset()
    server.control.set_quota(0, 0)
    # No fixed quota window ends in the middle of a test.
    server.control.jump(HOUR - server.control.now() % HOUR)
    return server


@pytest.fixture
def api(emulator: CloudHPCEmulator) -> Api:
    return Api(emulator)
