# SPDX-License-Identifier: Apache-2.0
"""What the emulator shows, and what it refuses and writes down."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator


@pytest.fixture
def emulator() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as running:
        yield running


def headers(emulator: CloudHPCEmulator, **more: str) -> dict[str, str]:
    return {"Authorization": f"api-key {emulator.api_key}", "X-API-key": emulator.api_key, **more}


def kinds(emulator: CloudHPCEmulator) -> list[str]:
    return [violation.kind for violation in emulator.ledger.violations]


def signed_url(emulator: CloudHPCEmulator) -> str:
    body = {"dirname": "case", "filename": "a.bin", "contentType": "application/octet-stream"}
    answer = requests.post(f"{emulator.api_url}/storage/upload-url", json=body, headers=headers(emulator), timeout=10)
    said = answer.json()["response"]
    return str(said["url"] if isinstance(said, dict) else said)


@pytest.mark.parametrize("path", ["/", "/en/catuser/view-api", "/en/simulation/view/{id}"])
def test_a_page_is_whole_without_the_internet(emulator: CloudHPCEmulator, path: str) -> None:
    (simulation_id,) = emulator.control.simulation(folder="a<b>", running=None)
    page = requests.get(emulator.url + path.format(id=simulation_id), timeout=10)
    assert page.status_code == 200
    assert "a<b>" not in page.text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert [asset for asset in assets if "//" in asset] == []
    for asset in assets:
        assert requests.get(emulator.url + asset, timeout=10).status_code == 200, asset
    assert emulator.ledger.count("*") == 0  # looking costs no API call


def test_a_page_shows_what_failed(emulator: CloudHPCEmulator) -> None:
    (simulation_id,) = emulator.control.simulation()
    emulator.control.finish(simulation_id, "completed", "@@@ ERROR: it broke")
    page = requests.get(f"{emulator.url}/en/simulation/view/{simulation_id}", timeout=10).text
    assert re.search(r'class="platform wrong"[^>]*>@@@ ERROR: it broke', page)


def test_the_api_page_s_definition_is_one_that_it_shows(emulator: CloudHPCEmulator) -> None:
    definition = requests.get(f"{emulator.url}/en/catuser/openapi.json", timeout=10).json()
    assert definition["openapi"].startswith("3.0.")
    assert "/api/v2/simulation/add" in definition["paths"]
    assert definition["components"]["securitySchemes"]


@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_a_foreign_name_is_refused(emulator: CloudHPCEmulator, name: str) -> None:
    foreign = {"Host": "evil.example.com", "Origin": "http://evil.example.com"}[name]
    answer = requests.get(
        f"{emulator.api_url}/simulation/view-cpu", headers=headers(emulator, **{name: foreign}), timeout=10
    )
    assert answer.status_code in (400, 403, 421)
    assert "response" not in answer.text


def test_a_key_sent_to_the_store_is_refused_and_in_the_ledger(emulator: CloudHPCEmulator) -> None:
    more = headers(emulator, **{"Content-Type": "application/octet-stream"})
    answer = requests.put(signed_url(emulator), data=b"x", headers=more, timeout=10)
    assert answer.status_code >= 400
    assert kinds(emulator) == ["key-sent-to-store"]
    assert emulator.api_key not in str(emulator.ledger.violations)


def test_another_content_type_than_the_signed_one_is_refused(emulator: CloudHPCEmulator) -> None:
    answer = requests.put(signed_url(emulator), data=b"x", headers={"Content-Type": "text/plain"}, timeout=10)
    assert answer.status_code >= 400
    assert kinds(emulator) == ["wrong-content-type"]
    assert emulator.control.files() == []


def test_an_expired_link_is_refused(emulator: CloudHPCEmulator) -> None:
    url = signed_url(emulator)
    emulator.control.jump(7200)
    more = {"Content-Type": "application/octet-stream"}
    assert requests.put(url, data=b"x", headers=more, timeout=10).status_code >= 400
    assert emulator.control.files() == []


def test_a_call_without_a_key_is_refused(emulator: CloudHPCEmulator) -> None:
    answer = requests.get(f"{emulator.api_url}/simulation/view-cpu", timeout=10)
    assert answer.status_code == 403
    assert len(kinds(emulator)) == 1


def test_a_port_that_is_taken_is_said_at_once(emulator: CloudHPCEmulator) -> None:
    port = emulator.url.rpartition(":")[2]
    command = [sys.executable, "-m", "airflow_provider_cloudhpc.emulator.cli", "--port", port]
    code = f"import sys; from airflow_provider_cloudhpc.emulator.cli import main; sys.exit(main(['--port', '{port}']))"
    done = subprocess.run([command[0], "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 3
    assert "in use" in done.stderr.lower()
