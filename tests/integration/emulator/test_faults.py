# SPDX-License-Identifier: Apache-2.0
"""Every fault does what its name says, to the calls it was made for and to no others."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest
import requests
from urllib3.exceptions import ProtocolError

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.faults import KINDS
from tests.integration.emulator.conftest import OCTETS, Api

TESTED: set[str] = set()


def of(*kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks which kinds a test proves."""
    TESTED.update(kinds)
    return lambda test: test


def test_there_is_a_test_for_every_kind() -> None:
    assert set(KINDS) == TESTED


@of("rate_limit", "server_error", "unavailable", "html", "forbidden", "unauthorized")
@pytest.mark.parametrize(
    ("kind", "options", "status", "words"),
    [
        ("rate_limit", {}, 429, '"errors"'),
        ("server_error", {}, 500, '"errors"'),
        ("unavailable", {}, 503, '"errors"'),
        ("html", {}, 200, "<html>"),
        ("html", {"status": 502}, 502, "<html>"),
        ("forbidden", {}, 403, "A technical problem has occurred, try again later."),
        ("unauthorized", {}, 403, "Unauthorized."),
    ],
)
def test_an_answer_in_place_of_the_service_s(
    emulator: CloudHPCEmulator, api: Api, kind: str, options: dict[str, int], status: int, words: str
) -> None:
    emulator.control.file("case/a", "a")
    emulator.control.fault(kind, "POST simulation/add", **options)
    body = {"cpu": 2, "ram": "standard", "script": "fds6.9.1", "folder": "case"}
    answer = api.send("POST", "/simulation/add", body)
    assert (answer.status_code, words in answer.text) == (status, True)
    assert "X-RateLimit-Hourly-Used" in answer.headers  # whatever answers, the account is known
    assert emulator.ledger.launches == []  # nothing happened
    assert [call.fault for call in emulator.ledger.calls if call.endpoint == "/simulation/add"] == [kind]
    assert api.launch()  # it struck once


@pytest.mark.parametrize("kind", ["rate_limit", "unavailable"])
def test_retry_after_in_both_its_forms(emulator: CloudHPCEmulator, api: Api, kind: str) -> None:
    emulator.control.fault(kind, retry_after=7)
    emulator.control.fault(kind, retry_after=7, http_date=True)
    assert api.send("GET", "/simulation/view-cpu").headers["Retry-After"] == "7"
    assert parsedate_to_datetime(api.send("GET", "/simulation/view-cpu").headers["Retry-After"]).tzinfo is not None


@of("quota")
def test_a_quota_said_to_be_used_up(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.set_quota(100)
    emulator.control.fault("quota")
    answer = api.send("GET", "/simulation/view-cpu")
    assert answer.status_code == 403
    assert (answer.headers["X-RateLimit-Hourly-Used"], answer.headers["X-RateLimit-Hourly-Limit"]) == ("100", "100")
    assert api.send("GET", "/simulation/view-cpu").headers["X-RateLimit-Hourly-Used"] != "100"


@of("reset_before", "reset_after")
@pytest.mark.parametrize(("kind", "launches"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_on_either_side_of_the_effect(emulator: CloudHPCEmulator, api: Api, kind: str, launches: int) -> None:
    emulator.control.file("case/a", "a")
    emulator.control.fault(kind, "simulation/add")
    with pytest.raises(requests.ConnectionError):
        api.launch()
    assert len(emulator.ledger.launches) == launches
    assert len(api.listed()) == launches


def test_a_reset_amid_the_body_of_an_upload(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.fault("reset_before", "PUT signed-url", at_bytes=100_000)
    with pytest.raises(requests.ConnectionError):
        api.put("case/big", bytes(8_000_000))
    assert emulator.control.files() == []
    assert api.put("case/big", bytes(8_000_000)).status_code == 200


@of("late_effect")
def test_an_effect_that_comes_after_the_connection_is_lost(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/a", "a")
    emulator.control.set_speed(0)
    emulator.control.fault("late_effect", "simulation/add", after=60)
    with pytest.raises(requests.ConnectionError):
        api.launch()
    emulator.control.jump(59)
    assert (api.listed(), emulator.ledger.launches) == ([], [])
    emulator.control.jump(1)
    assert api.listed() == [launch.id for launch in emulator.ledger.launches] != []


@of("slow")
def test_a_slow_answer_is_whole(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/a", bytes(4000))
    link = api.link("case/a")
    emulator.control.fault("slow", "GET signed-url", bytes_per_second=8000)
    took = requests.get(link, timeout=20)
    assert took.content == bytes(4000)
    assert took.elapsed.total_seconds() < 20  # the headers came
    emulator.control.fault("slow", "simulation/view-cpu", delay=0.3)
    assert api.send("GET", "/simulation/view-cpu").elapsed.total_seconds() >= 0.3


def test_a_slow_answer_gives_up_a_client_that_has_no_patience(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.fault("slow", "simulation/view-cpu", delay=1)
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{emulator.api_url}/simulation/view-cpu", headers={"X-API-key": api.key}, timeout=0.2)


@of("truncated")
@pytest.mark.parametrize("reset", [False, True])
def test_half_an_answer(emulator: CloudHPCEmulator, api: Api, reset: bool) -> None:
    emulator.control.file("case/a", bytes(range(256)) * 40)
    link = api.link("case/a")
    emulator.control.fault("truncated", "GET signed-url", at_bytes=5000, reset=reset)
    answer = requests.get(link, stream=True, timeout=20)
    assert answer.headers["Content-Length"] == "10240"
    taken = bytearray()
    with pytest.raises((ProtocolError, OSError)):
        taken.extend(byte for block in iter(lambda: answer.raw.read(100), b"") for byte in block)
    assert len(taken) <= 5000
    assert requests.get(link, timeout=20).content == bytes(range(256)) * 40


@of("wrong_hash")
def test_a_hash_of_something_else(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/a", "right")
    link = api.link("case/a")
    right = requests.get(link, timeout=20).headers["x-goog-hash"]
    emulator.control.fault("wrong_hash", "GET signed-url")
    lying = requests.get(link, timeout=20)
    assert lying.content == b"right"
    assert lying.headers["x-goog-hash"] != right
    emulator.control.fault("wrong_hash", "PUT signed-url")
    assert api.put("case/a", b"right").headers["x-goog-hash"] != right


@of("changed")
def test_an_object_that_changes_between_two_reads(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/a", "0123456789")
    link = api.link("case/a")
    first = requests.get(link, headers={"Range": "bytes=0-4"}, timeout=20)
    emulator.control.fault("changed", "GET signed-url")
    resumed = requests.get(link, headers={"Range": "bytes=5-", "If-Range": first.headers["ETag"]}, timeout=20)
    assert (first.status_code, resumed.status_code) == (206, 200)  # the whole of the other object
    assert len(resumed.content) == 10
    assert resumed.headers["ETag"] != first.headers["ETag"]


def test_a_fault_chooses_its_calls(emulator: CloudHPCEmulator, api: Api) -> None:
    other = Api(emulator, emulator.control.add_user("other"))
    emulator.control.set_quota(0, 0, user="other")
    emulator.control.fault("server_error", "GET simulation/view-*", skip=1, times=2, user="default")
    seen = [api.send("GET", "/simulation/view-ram").status_code for _ in range(4)]
    assert seen == [200, 500, 500, 200]
    emulator.control.fault("server_error", times=None, user="other")
    assert api.send("GET", "/simulation/view-cpu").status_code == 200
    assert other.send("GET", "/simulation/view-cpu").status_code == 500
    (waiting,) = emulator.control.faults()
    assert (waiting["user"], waiting["hits"]) == ("other", 1)
    emulator.control.clear_faults(waiting["id"])
    assert other.send("GET", "/simulation/view-cpu").status_code == 200


def test_a_rate_strikes_some(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.fault("server_error", rate=0.5, times=None)
    seen = [api.send("GET", "/simulation/view-cpu").status_code for _ in range(60)]
    assert 10 < seen.count(500) < 50


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("flood", {}, "unknown fault 'flood'; there are: rate_limit"),
        ("slow", {"speed": 1}, "takes no option speed; it takes: bytes_per_second, delay"),
        ("slow", {"rate": 2}, "rate is a chance between 0 and 1; not 2"),
    ],
)
def test_a_fault_that_cannot_be(emulator: CloudHPCEmulator, kind: str, options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        emulator.control.fault(kind, **options)


def test_a_store_s_fault_never_strikes_the_api(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.fault("wrong_hash", "*")
    api.get("/simulation/view-cpu")
    assert len(emulator.control.faults()) == 1
    put = requests.put(api.upload_url("a"), data=b"a", headers={"Content-Type": OCTETS}, timeout=20)
    assert put.status_code == 200
    assert emulator.control.faults() == []
