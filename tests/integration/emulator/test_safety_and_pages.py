# SPDX-License-Identifier: Apache-2.0
"""What the emulator shows, and what it refuses and writes down."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.cli import main


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


@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "localhost"])
def test_the_host_that_it_listens_on_is_its_own(host: str, recwarn: pytest.WarningsRecorder) -> None:
    with CloudHPCEmulator(host=host) as emulator:
        url = signed_url(emulator)
        more = {"Content-Type": "application/octet-stream"}
        assert requests.put(url, data=b"x", headers=more, timeout=10).status_code == 200
    assert len(recwarn) == 0


def test_more_than_loopback_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="listens on 0.0.0.0: whoever reaches it and has the key runs scripts"):
        CloudHPCEmulator(host="0.0.0.0").start().stop()


@pytest.mark.parametrize(
    ("knob", "value", "words"),
    [
        ("page_size", 0, "page_size is a whole number from 1 on; not 0"),
        ("clock_speed", -1, "clock speed -1 is negative"),
        ("clock_speed", float("nan"), "clock speed nan is no speed"),
        ("api_key", "a key", "a key is made of ASCII letters, digits and punctuation, without spaces"),
        ("hourly_limit", -1, "a limit is a whole number from 0 on; not -1"),
        ("daily_limit", 1.5, "a limit is a whole number from 0 on; not 1.5"),
    ],
)
def test_a_knob_that_there_is_not(knob: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CloudHPCEmulator(**{knob: value})


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, emulator: CloudHPCEmulator) -> None:
    nowhere = CloudHPCEmulator(data_dir=tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"no room for the stored files in .*nowhere: No such file"):
        nowhere.start()
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {emulator.port}"):
        CloudHPCEmulator(emulator.port, data_dir=tmp_path).start()
    assert list(tmp_path.iterdir()) == []
    nowhere.stop()


def test_it_starts_again_and_not_twice(tmp_path: Path) -> None:
    emulator = CloudHPCEmulator(api_key="k")
    for _ in range(2):
        with emulator:
            with pytest.raises(RuntimeError, match="runs already"):
                emulator.start()
            assert requests.get(emulator.url, timeout=10).status_code == 200
    with pytest.raises(RuntimeError, match="is not running"):
        emulator.control.now()


def raw(emulator: CloudHPCEmulator, request: str) -> str:
    """The first line and the rest of what comes back."""
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_clients_of_old_know_no_host(emulator: CloudHPCEmulator) -> None:
    answer = raw(emulator, f"GET /api/v2/simulation/view-ram HTTP/1.0\nX-API-key: {emulator.api_key}\n\n")
    assert " 200 " in answer.splitlines()[0]
    assert '"highcpu"' in answer
    refused = raw(emulator, f"GET / HTTP/1.0\nHost: evil.example.com\nX-API-key: {emulator.api_key}\n\n")
    assert " 421 " in refused.splitlines()[0]


@pytest.mark.parametrize("path", ["/", "/en/catuser/view-api", "/api/v2/simulation/view-ram"])
def test_head_is_get_without_its_body(emulator: CloudHPCEmulator, path: str) -> None:
    asked, got = (getattr(requests, how)(emulator.url + path, headers=headers(emulator), timeout=10)
                  for how in ("head", "get"))  # fmt: skip
    assert (asked.status_code, asked.content, kinds(emulator)) == (200, b"", [])
    assert set(asked.headers) == set(got.headers)


@pytest.mark.parametrize("path", ["/simulation/view-ram/", "//simulation/view-ram", "/simulation//view-ram//"])
def test_slashes_too_many_say_nothing(emulator: CloudHPCEmulator, path: str) -> None:
    answer = requests.get(emulator.api_url + path, headers=headers(emulator), timeout=10)
    assert (answer.status_code, kinds(emulator)) == (200, [])
    assert emulator.ledger.count("GET /simulation/view-ram") == 1


@pytest.mark.parametrize("id_", ["77", "-1", "last", "9" * 30])
def test_a_page_of_a_simulation_that_there_is_not(emulator: CloudHPCEmulator, id_: str) -> None:
    page = requests.get(f"{emulator.url}/en/simulation/view/{id_}", timeout=10)
    assert (page.status_code, f"No simulation {id_}" in page.text) == (404, True)


def test_the_pages_tell_what_the_status_does_not(emulator: CloudHPCEmulator) -> None:
    control = emulator.control
    control.set_speed(0)
    control.add_user("other")
    control.set_quota(70, hourly_used=7, user="other")
    (crashed,) = control.simulation(pending=0, running=0, ending="crashed", user="other")
    (spot,) = control.simulation(pending=0, running=None)
    control.preempt(spot)
    page = requests.get(f"{emulator.url}/en/simulation/view/{crashed}", timeout=10).text
    assert ("COMPLETED" in page, "error in output" in page, "7 of 70" in page) == (True, True, True)
    page = requests.get(f"{emulator.url}/en/simulation/view/{spot}", timeout=10).text
    assert ("spot machine, restarted 1" in page, "error in output" in page) == (True, False)
    overview = requests.get(emulator.url, timeout=10).text
    assert overview.count("error in output") == 1
    assert ("restarts: 1" in overview, "<td>other</td>" in overview, "7 of 70" in overview) == (True, True, True)


def test_the_overview_hides_none_that_bills(emulator: CloudHPCEmulator) -> None:
    """However many have come and gone since it was launched."""
    (forgotten,) = emulator.control.simulation(pending=0, running=None)
    ended = emulator.control.simulation(count=60, pending=0, running=0)
    overview = requests.get(emulator.url, timeout=10).text
    shown = [id_ for id_ in (forgotten, *ended) if f"/en/simulation/view/{id_}" in overview]
    assert (shown, "and 11 older ones" in overview) == ([forgotten, *ended[11:]], True)


def test_headers_are_spelled_as_they_are_documented(emulator: CloudHPCEmulator) -> None:
    """Some programs look for them with grep."""
    answer = raw(emulator, f"GET /api/v2/user HTTP/1.0\nX-API-key: {emulator.api_key}\n\n")
    names = re.findall(r"^([\w-]+): ", answer, re.MULTILINE)
    quota = [f"X-RateLimit-{span}-{what}" for span in ("Hourly", "Daily") for what in ("Limit", "Used")]
    assert {*quota, "Content-Type", "Content-Length", "Date"} <= set(names), names
    emulator.control.file("case/a", b"x")
    item = {"path": "case/a"}
    item = requests.post(f"{emulator.api_url}/storage/view-by-path", json=item, headers=headers(emulator), timeout=10)
    link = f"{emulator.api_url}/storage/download/{item.json()['response']['id']}"
    url = requests.get(link, headers=headers(emulator), timeout=10).json()["response"]
    with urllib.request.urlopen(url, timeout=10) as opened:
        assert {"ETag", "x-goog-hash", "Accept-Ranges", "Last-Modified"} <= set(opened.headers.keys())
    emulator.control.settings(download_shape="redirect")
    path = link.partition(str(emulator.port))[2]
    answer = raw(emulator, f"GET {path} HTTP/1.0\nX-API-key: {emulator.api_key}\n\n")
    assert "\r\nLocation: http" in answer


def test_a_browser_that_has_looked_at_the_pages_can_open_a_link(emulator: CloudHPCEmulator) -> None:
    """Cookies know no ports: what a page sets, and any other program on this machine, would be sent to the store."""
    browser = requests.Session()
    browser.headers.update({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"})
    browser.cookies.set("session", "of-another-program", domain="127.0.0.1")
    browser.get(emulator.url, timeout=10)
    emulator.control.file("case/a", b"x")
    item = {"path": "case/a"}
    item = browser.post(f"{emulator.api_url}/storage/view-by-path", json=item, headers=headers(emulator), timeout=10)
    link = f"{emulator.api_url}/storage/download/{item.json()['response']['id']}"
    url = browser.get(link, headers=headers(emulator), timeout=10).json()["response"]
    assert (browser.get(url, timeout=10).text, kinds(emulator)) == ("x", [])
    assert requests.get(url, headers={"Cookie": "a=b"}, timeout=10).status_code == 400  # a program is told


def test_two_emulators_in_one_browser(emulator: CloudHPCEmulator) -> None:
    browser = requests.Session()
    with CloudHPCEmulator() as other:
        for one in (emulator, other):
            browser.get(one.url, timeout=10)
        for one in (emulator, other):
            assert browser.get(f"{one.url}/live/overview", timeout=10).status_code == 200
    assert requests.get(f"{emulator.url}/live/overview", timeout=10).status_code == 401


def test_nothing_outlives_it_and_no_file_stays(tmp_path: Path) -> None:
    with CloudHPCEmulator(data_dir=tmp_path) as emulator:
        emulator.control.file("case/run.sh", "sleep 600")
        assert list(tmp_path.glob("*/blobs/*"))
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_finds_no_room_is_told(tmp_path: Path) -> None:
    """A full disk answers alike; here something has cleaned the directory."""
    with CloudHPCEmulator(data_dir=tmp_path) as emulator:
        url = signed_url(emulator)
        (blobs,) = tmp_path.glob("*/blobs")
        blobs.rmdir()
        answer = requests.put(url, data=b"x", headers={"Content-Type": "application/octet-stream"}, timeout=10)
        assert (answer.status_code, "could not store this: No such file" in answer.text) == (503, True)
        assert emulator.control.files() == []


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


COMMAND = [sys.executable, "-m", "airflow_provider_cloudhpc.emulator.cli"]


def test_a_port_that_is_taken_is_said_at_once(emulator: CloudHPCEmulator) -> None:
    done = subprocess.run([*COMMAND, "--port", str(emulator.port)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, "in use" in done.stderr.lower(), done.stdout) == (3, True, "")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--port", "99999", "a port is a number from 0 to 65535"),
        ("--store-port", "-1", "a port is a number from 0 to 65535"),
        ("--hourly-limit", "-5", "a limit is a whole number from 0 on"),
        ("--daily-limit", "many", "a limit is a whole number from 0 on"),
        ("--clock-speed", "-1", "clock speed -1.0 is negative"),
        ("--clock-speed", "inf", "clock speed inf is no speed"),
        ("--api-key", "a key", "a key is made of ASCII letters"),
        ("--data-dir", "/nowhere", "there is no directory"),
        ("--colour", "red", "unrecognized arguments"),
    ],
)
def test_a_command_line_that_cannot_be(capsys: pytest.CaptureFixture[str], option: str, value: str, words: str) -> None:
    with pytest.raises(SystemExit) as left:
        main([option, value])
    assert (left.value.code, words in capsys.readouterr().err) == (2, True)


@contextmanager
def served(tmp_path: Path, hangup: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command, whatever this process was told to do with a SIGHUP; give it and its address."""
    options = ["--port", "0", "--api-key", "k", "--data-dir", str(tmp_path), "--hourly-limit", "7"]
    command = ["env", f"--{hangup}-signal=HUP", *COMMAND, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            address, *_ = [process.stdout.readline() for _ in range(5)]
            yield process, address.split()[-1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_serves_until_a_signal_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    with served(tmp_path, "default") as (process, url):
        answer = requests.get(f"{url}/api/v2/simulation/view-cpu", headers={"X-API-key": "k"}, timeout=10)
        assert answer.headers["X-RateLimit-Hourly-Limit"] == "7"
        assert list(tmp_path.iterdir())
        process.send_signal(number)
        rest = process.communicate(timeout=30)
    assert (process.returncode, rest, list(tmp_path.iterdir())) == (0, ("", ""), [])


def test_under_nohup_the_command_outlives_its_terminal(tmp_path: Path) -> None:
    with served(tmp_path, "ignore") as (process, url):
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert requests.get(f"{url}/api/v2/simulation/view-cpu", headers={"X-API-key": "k"}, timeout=10).ok
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
