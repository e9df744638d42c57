# SPDX-License-Identifier: Apache-2.0
"""The control desk, as Python methods and over HTTP: each method does what it says, both ways alike."""

from __future__ import annotations

import base64
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.control import Control
from airflow_provider_cloudhpc.emulator.endpoints import CONTROL_PREFIX
from airflow_provider_cloudhpc.emulator.routes.control import TOKEN_HEADER
from tests.integration.emulator.conftest import OCTETS, TIMEOUT, Api

PENDING, RUNNING, COMPLETED, STOPPED, ERROR = 20, 30, 10, 50, 60

Desk = Callable[..., Any]


def post(emulator: CloudHPCEmulator, name: str, arguments: Any, token: str | None = None) -> requests.Response:
    headers = {TOKEN_HEADER: emulator.control_token if token is None else token}
    return requests.post(
        f"{emulator.url}{CONTROL_PREFIX}/{name}", data=json.dumps(arguments), headers=headers, timeout=TIMEOUT
    )


@pytest.fixture(params=["python", "http"])
def desk(request: pytest.FixtureRequest, emulator: CloudHPCEmulator) -> Iterator[Desk]:
    """Calls a method by its name, one way or the other; the clock stands still."""

    def call(name: str, /, **arguments: Any) -> Any:
        if request.param == "python":
            return getattr(emulator.control, name)(**arguments)
        answer = post(emulator, name, arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()["response"]

    call("set_speed", speed=0)
    yield call
    call("reset")


def test_time(desk: Desk) -> None:
    start = desk("now")
    assert desk("jump", seconds=3600) == desk("now") == start + 3600
    desk("set_speed", speed=10_000)
    while desk("now") == start + 3600:
        pass
    desk("set_speed", speed=0)
    assert desk("now") == desk("now") > start + 3600


def test_made_simulations(desk: Desk, api: Api) -> None:
    ids = desk("simulation", count=2, script="fds6.9.1", cpu=4, folder="made", pending=10, running=60, ending="error",
               output="@@@ ERROR: something", results={"FDS.tar.gz": "bytes"})  # fmt: skip
    assert [api.status(id_) for id_ in ids] == [PENDING, PENDING]
    desk("jump", seconds=10)
    assert [api.status(id_) for id_ in ids] == [RUNNING, RUNNING]
    desk("jump", seconds=60)
    record = api.get(f"/simulation/view/{ids[0]}")
    assert (record["status"], record["cpu"], record["folder"]) == (ERROR, 4, "made")
    assert "@@@ ERROR: something" in record["output"]
    assert float(record["cpu_hrs"]) == pytest.approx(4 * 60 / 3600, abs=1e-3)
    assert desk("files") == ["made/FDS.tar.gz"]


def test_a_plan_for_what_clients_launch(desk: Desk, api: Api) -> None:
    desk("file", path="case/a.fds", content="&HEAD /")
    desk("plan", script="fds*", times=1, pending=5, running=5, ending="crashed")
    desk("plan", pending=0, running=None)
    planned, other = api.launch(), api.launch(script="custom-script")
    desk("jump", seconds=10)
    assert (api.status(planned), api.status(other)) == (COMPLETED, RUNNING)
    assert "KILLED BY SIGNAL: 9" in api.get(f"/simulation/view/{planned}")["output"]
    desk("jump", seconds=1e6)
    assert api.status(other) == RUNNING  # until it is stopped


def test_hold_release_advance_finish(desk: Desk, api: Api) -> None:
    held, led, ended = desk("simulation", count=3, pending=1, running=5)
    desk("hold", id=held)
    assert [desk("advance", id=led), desk("advance", id=led)] == [RUNNING, COMPLETED]
    desk("finish", id=ended, ending="error", output="boom", results={"part": "x"})
    assert api.status(ended) == ERROR
    assert "boom" in api.get(f"/simulation/view/{ended}")["output"]
    assert desk("read", path="made/part") in (b"x", base64.b64encode(b"x").decode())
    desk("jump", seconds=1000)
    assert api.status(held) == PENDING
    desk("release", id=held)
    assert api.status(held) == RUNNING
    desk("jump", seconds=5)
    assert api.status(held) == COMPLETED


def test_a_spot_machine_taken_away_keeps_the_id_and_bills_both(
    desk: Desk, emulator: CloudHPCEmulator, api: Api
) -> None:
    (id_,) = desk("simulation", pending=0, running=100)
    desk("jump", seconds=0)
    desk("jump", seconds=60)
    desk("preempt", id=id_)
    assert api.status(id_) in (PENDING, RUNNING)  # no time in PENDING was asked for
    desk("jump", seconds=100)
    assert api.status(id_) == COMPLETED
    assert emulator.ledger.bills[id_].seconds == pytest.approx(160)
    assert api.listed() == [id_]


def test_faults_come_and_are_taken_back(desk: Desk, api: Api) -> None:
    first = desk("fault", kind="server_error", endpoint="GET simulation/view-cpu", times=5)
    desk("fault", kind="html", endpoint="GET simulation/view-ram")
    assert [fault["id"] for fault in desk("faults")] == [first, first + 1]
    assert api.send("GET", "/simulation/view-cpu").status_code == 500
    desk("clear_faults", id=first)
    assert api.send("GET", "/simulation/view-cpu").status_code == 200
    desk("clear_faults")
    assert desk("faults") == []


def test_settings(desk: Desk, api: Api) -> None:
    assert desk("settings", page_size=2)["page_size"] == 2
    desk("simulation", count=3)
    assert len(api.listed()) == 2
    assert desk("settings") == {**desk("settings"), "page_size": 2}


def test_accounts(desk: Desk, emulator: CloudHPCEmulator, api: Api) -> None:
    other = Api(emulator, desk("add_user", name="other"))
    desk("set_quota", hourly_limit=100, hourly_used=98, daily_limit=1000, daily_used=5, window="rolling", user="other")
    answer = other.send("GET", "/simulation/view-cpu")
    assert {name: answer.headers[f"X-RateLimit-{name}"] for name in ("Hourly-Used", "Hourly-Limit", "Daily-Used")} == {
        "Hourly-Used": "99",
        "Hourly-Limit": "100",
        "Daily-Used": "6",
    }
    assert "X-RateLimit-Hourly-Limit" in api.send("GET", "/simulation/view-cpu").headers
    new = desk("rotate_key", user="other")
    assert other.send("GET", "/simulation/view-cpu").status_code == 403
    assert Api(emulator, new).send("GET", "/simulation/view-cpu").status_code == 200
    desk("revoke_key", user="other")
    assert Api(emulator, new).send("GET", "/simulation/view-cpu").status_code == 403
    assert emulator.ledger.violations == []  # a key that was good once is no fault of the client
    assert api.send("GET", "/simulation/view-cpu").status_code == 200


def test_files(desk: Desk, api: Api) -> None:
    id_ = desk("file", path="case/a", content="text")
    desk("file", path="case/hidden", listed=False)
    assert desk("files") == ["case/a", "case/hidden"]
    assert desk("read", path="case/a") in (b"text", base64.b64encode(b"text").decode())
    assert api.ask("POST", "/storage/view-by-path", {"path": "case/a"})["id"] == id_
    assert api.send("POST", "/storage/view-by-path", {"path": "case/hidden"}).status_code == 403


def test_reset_forgets_all_but_the_key(desk: Desk, emulator: CloudHPCEmulator, api: Api) -> None:
    desk("file", path="case/a")
    desk("simulation")
    desk("fault", kind="html")
    desk("settings", page_size=3)
    desk("add_user", name="other")
    desk("reset")
    assert (desk("files"), desk("faults"), desk("settings")["page_size"]) == ([], [], 20)
    assert (api.listed(), emulator.ledger.launches) == ([], [])
    desk("add_user", name="other")  # there is none of that name any more


def test_reset_goes_back_to_the_limits_of_the_start() -> None:
    """Else a test that resets a busy account's emulator would go on with another account's calls."""
    with CloudHPCEmulator(hourly_limit=7, daily_limit=0) as emulator:
        emulator.control.set_quota(0, 9)
        for expected in (("0", "9"), ("7", "0")):
            headers = requests.get(
                f"{emulator.api_url}/simulation/view-cpu", headers={"X-API-key": emulator.api_key}, timeout=TIMEOUT
            ).headers
            assert (headers["X-RateLimit-Hourly-Limit"], headers["X-RateLimit-Daily-Limit"]) == expected
            emulator.control.reset()


def test_reset_gives_a_revoked_key_back(desk: Desk, emulator: CloudHPCEmulator, api: Api) -> None:
    """Else a test that revokes it would spoil those after it, which have it in their connection."""
    desk("revoke_key")
    assert (emulator.api_key, api.send("GET", "/simulation/view-cpu").status_code) == ("", 403)
    desk("reset")
    assert (emulator.api_key, api.send("GET", "/simulation/view-cpu").status_code) == (api.key, 200)


def test_reset_amid_an_upload_leaves_nothing_of_it(desk: Desk, emulator: CloudHPCEmulator, api: Api) -> None:
    begun, done = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b"x" * 100_000
        begun.set()
        done.wait(TIMEOUT)
        yield b"y"

    url = api.upload_url("case/a")
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(requests.put, url, data=body(), headers={"Content-Type": OCTETS}, timeout=TIMEOUT)
        begun.wait(TIMEOUT)
        while (last := emulator.ledger.calls[-1]).surface != "store" or not last.received:
            time.sleep(0.01)
        desk("reset")
        done.set()
        assert put.result().status_code == 503
    assert desk("files") == []


def test_reset_amid_runs_leaves_nothing_of_them(desk: Desk, emulator: CloudHPCEmulator, api: Api) -> None:
    desk("file", path="case/run.sh", content="sleep 600")
    ids = [api.launch(script="custom-script") for _ in range(2)]
    desk("advance", id=ids[0])
    desk("jump", seconds=1)
    desk("reset")
    assert (api.listed(), desk("files"), emulator.ledger.bills) == ([], [], {})
    desk("file", path="case/run.sh", content="echo anew")
    id_ = api.launch(script="custom-script")
    desk("jump", seconds=1)
    while api.status(id_) == RUNNING:
        time.sleep(0.02)
    assert "\nanew\n" in api.get(f"/simulation/view/{id_}")["output"]


def test_time_ends_with_its_dates() -> None:
    with CloudHPCEmulator() as emulator:
        control, api = emulator.control, Api(emulator)
        control.file("case/run.sh", "sleep 600")
        id_ = api.launch(script="custom-script")
        control.advance(id_)
        control.jump(2e11)  # over millions of saves, one every ten hours
        control.set_speed(1e15)
        assert api.get(f"/simulation/view/{id_}")["status"] == RUNNING
        control.finish(id_)
        assert api.get(f"/simulation/view-short/{id_}")["edate"] == "9999-01-01 01:00:00"
        assert requests.get(emulator.url, timeout=TIMEOUT).status_code == 200


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("explode", {}, "no control 'explode'; there are:"),
        ("_simulation", {"id": 1}, "no control '_simulation'"),
        ("jump", {}, "missing a required argument: 'seconds'"),
        ("jump", {"seconds": -1}, "time does not run backwards"),
        ("jump", {"seconds": float("nan")}, "time ends with the year 9998"),
        ("jump", {"seconds": float("inf")}, "time ends with the year 9998"),
        ("set_speed", {"speed": -1}, "negative"),
        ("set_speed", {"speed": float("nan")}, "clock speed nan is no speed"),
        ("set_speed", {"speed": float("inf")}, "clock speed inf is no speed"),
        ("simulation", {"ending": "well"}, "unknown ending 'well'"),
        ("advance", {"id": 77}, "no simulation 77"),
        ("advance", {"id": "last"}, "no simulation 'last'"),
        ("advance", {"id": None}, "no simulation None"),
        ("advance", {"id": float("inf")}, "no simulation inf"),
        ("finish", {"id": "{simulation}", "output": 5}, "output is text; not 5"),
        ("settings", {"colour": "red"}, "no setting colour; there are:"),
        ("add_user", {"name": "default"}, "exists already"),
        ("add_user", {"name": "default/case"}, "a user's name is made of letters"),
        ("add_user", {"name": ".."}, "a user's name is made of letters"),
        ("add_user", {"name": ""}, "a user's name is made of letters"),
        ("add_user", {"name": 5}, "a user's name is made of letters"),
        ("add_user", {"name": "other", "key": 5}, "a key is made of ASCII letters"),
        ("add_user", {"name": "other", "key": "clé"}, "a key is made of ASCII letters"),
        ("add_user", {"name": "other", "key": "{key}"}, "that key belongs to another user"),
        ("rotate_key", {"key": "a\nb"}, "a key is made of ASCII letters"),
        ("rotate_key", {"user": "second", "key": "{key}"}, "that key belongs to another user"),
        ("revoke_key", {"user": "nobody"}, "no user 'nobody'; there are: default"),
        ("file", {"path": "a b"}, "not allowed"),
        ("file", {"path": "/"}, "path is empty"),
        ("file", {"path": 5}, "path is text; not 5"),
        ("read", {"path": "nowhere"}, "no file 'nowhere'"),
        ("read", {"path": 5}, "path is text; not 5"),
        ("faults", [], "must be a JSON object"),
        ("simulation", {"ram": "huge"}, "ram is one of highcpu, standard"),
        ("simulation", {"cpu": 3}, "cpu is one of 1, 2, 4"),
        ("simulation", {"count": 0}, "count is a whole number from 1 on"),
        ("simulation", {"count": True}, "count is a whole number from 1 on"),
        ("simulation", {"script": "fds"}, "script is one of calculiX-2.20"),
        ("simulation", {"folder": ""}, "folder is empty"),
        ("simulation", {"output": 5}, "output is text; not 5"),
        ("simulation", {"pending": None}, "pending is a number of seconds from 0 on; not None"),
        ("simulation", {"running": float("inf")}, "running is a number of seconds from 0 on; not inf"),
        ("simulation", {"running": True}, "running is a number of seconds from 0 on; not True"),
        ("simulation", {"results": ["a"]}, "results are contents by file name"),
        ("simulation", {"results": {"": "a"}}, "result is empty"),
        ("plan", {"times": 0}, "times is a whole number from 1 on; not 0"),
        ("plan", {"script": "fsd*"}, "no script 'fsd*'; there are: calculiX-2.20"),
        ("plan", {"script": 5}, "script is text; not 5"),
        ("simulation", {"pending": "long"}, "pending is a number of seconds from 0 on; not 'long'"),
        ("simulation", {"running": -1}, "running is a number of seconds from 0 on"),
        ("simulation", {"folder": "../x"}, "'../x' is not a plain path"),
        ("plan", {"results": {"a b": ""}}, "not allowed"),
        ("plan", {"results": {"a": 5}}, "a file's content is text or bytes; not int"),
        ("file", {"path": "a", "content": 5}, "a file's content is text or bytes; not int"),
        ("settings", {"page_size": 0}, "page_size is a whole number from 1 on; not 0"),
        ("settings", {"page_size": "many"}, "page_size is a whole number from 1 on; not 'many'"),
        ("settings", {"url_lifetime": -1}, "url_lifetime is a number from 0 on; not -1"),
        ("settings", {"download_shape": "round"}, "download_shape is one of bare, url"),
        ("settings", {"hold_launches": "yes"}, "hold_launches is true or false; not 'yes'"),
        ("set_quota", {"hourly_limit": -1}, "a limit is a whole number from 0 on; not -1"),
        ("set_quota", {"hourly_limit": True}, "a limit is a whole number from 0 on; not True"),
        ("set_quota", {"window": "sliding"}, "window is fixed or rolling; not 'sliding'"),
        (
            "fault",
            {"kind": "html", "endpoint": "simulaton/add"},
            "no endpoint 'simulaton/add' for html; there are: GET",
        ),
        ("fault", {"kind": "changed", "endpoint": "simulation/add"}, "there are: PUT /signed-url"),
        ("fault", {"kind": "html", "user": "nobody"}, "no user 'nobody'"),
        ("fault", {"kind": "html", "times": 0}, "times is a number from 1 on"),
        ("fault", {"kind": "html", "times": 1.5}, "times is a number from 1 on"),
        ("fault", {"kind": "html", "times": "2"}, "times is a number from 1 on"),
        ("fault", {"kind": "html", "skip": None}, "times is a number from 1 on"),
        ("fault", {"kind": "html", "endpoint": 5}, "endpoint is text; not 5"),
        ("fault", {"kind": "html", "rate": "often"}, "rate is a chance between 0 and 1; not 'often'"),
        ("fault", {"kind": "html", "rate": 1.5}, "rate is a chance between 0 and 1; not 1.5"),
        ("fault", {"kind": "slow", "delay": float("inf")}, "delay is a number from 0 on; not inf"),
        ("clear_faults", {"id": 99}, "no fault 99"),
        ("fault", {"kind": "html", "status": "bad"}, "status is an HTTP status"),
        ("fault", {"kind": "slow", "delay": "long"}, "delay is a number from 0 on; not 'long'"),
    ],
)
def test_what_cannot_be_is_told(emulator: CloudHPCEmulator, name: str, arguments: Any, words: str) -> None:
    emulator.control.add_user("second")
    there = {"{key}": emulator.api_key, "{simulation}": emulator.control.simulation()[0]}
    if isinstance(arguments, dict):
        arguments = {name: there.get(str(value), value) for name, value in arguments.items()}
    answer = post(emulator, name, arguments)
    assert (answer.status_code, words in answer.json()["errors"][0]) == (400, True), answer.text


@pytest.mark.parametrize("token", ["", "wrong"])
def test_the_control_needs_its_token(emulator: CloudHPCEmulator, token: str) -> None:
    assert post(emulator, "simulation", {}, token).status_code == 401
    ledger = requests.get(f"{emulator.url}{CONTROL_PREFIX}/ledger", headers={TOKEN_HEADER: token}, timeout=TIMEOUT)
    assert ledger.status_code == 401
    assert emulator.ledger.bills == {}


def test_the_ledger_over_http_is_the_ledger(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.set_speed(0)
    assert api.put("case/a", b"12345").status_code == 200
    emulator.control.file("case/b", "67")
    api.ask("DELETE", "/user/delete-cache")
    requests.get(api.link("case/b"), timeout=TIMEOUT)
    id_ = api.launch()
    api.ask("PUT", f"/simulation/stop/{id_}", {"signal": "SIGINT"})
    api.send("GET", "/simulation/view-short/x")
    headers = {TOKEN_HEADER: emulator.control_token}
    seen = requests.get(f"{emulator.url}{CONTROL_PREFIX}/ledger", headers=headers, timeout=TIMEOUT).json()
    assert [(launch["id"], launch["user"], launch["folder"]) for launch in seen["launches"]] == [
        (id_, "default", "case")
    ]
    assert [(stop["id"], stop["signal"]) for stop in seen["stops"]] == [(id_, "SIGINT")]
    assert seen["calls"]["POST /simulation/add"] == 1
    assert seen["calls_by_user"] == {"default": emulator.ledger.api_calls}
    assert [violation["kind"] for violation in seen["violations"]] == ["bad-id"]
    assert (seen["bytes_uploaded"], seen["bytes_downloaded"]) == (5, 2)
    assert seen["bills"][str(id_)]["ended"] is True
    assert emulator.api_key not in str(seen)


def test_there_is_a_use_of_every_control() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    there = {name for name, _ in inspect.getmembers(Control, inspect.isfunction) if not name.startswith("_")}
    assert {name for name in there if f'desk("{name}"' not in source} == set()
