# SPDX-License-Identifier: Apache-2.0
"""The ways in which the service differs from day to day, each of which the settings can ask for; and what time does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.settings import FILE_LIFETIME, RESULT_INTERVAL, Settings
from tests.integration.emulator.conftest import OCTETS, TIMEOUT, Api

DAY = 86400.0


@pytest.fixture(autouse=True)
def _clock(emulator: CloudHPCEmulator) -> None:
    emulator.control.set_speed(0)


def test_there_is_a_test_for_every_setting() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [field.name for field in fields(Settings) if f"{field.name}=" not in source] == []


def until_listed(emulator: CloudHPCEmulator, api: Api, path: str) -> float:
    """How long, in whole virtual seconds, the listings miss a file."""
    for second in range(1000):
        if api.send("POST", "/storage/view-by-path", {"path": path}).status_code == 200:
            return second
        emulator.control.jump(1)
    raise AssertionError("never listed")


# -- quota


def test_an_hour_that_begins_anew(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.jump(3600 - emulator.control.now() % 3600 + 1800)  # half past
    emulator.control.set_quota(3, window="fixed")
    assert [api.send("GET", "/simulation/view-cpu").status_code for _ in range(4)] == [200, 200, 200, 429]
    emulator.control.jump(1799)
    assert api.send("GET", "/simulation/view-cpu").status_code == 429
    emulator.control.jump(1)
    answer = api.send("GET", "/simulation/view-cpu")
    assert (answer.status_code, answer.headers["X-RateLimit-Hourly-Used"]) == (200, "1")


def test_an_hour_that_rolls(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.set_quota(3, window="rolling")
    for _ in range(3):
        assert api.send("GET", "/simulation/view-cpu").status_code == 200
        emulator.control.jump(600)
    assert api.send("GET", "/simulation/view-cpu").status_code == 429
    emulator.control.jump(1800)  # an hour after the first call, and one of the three has left
    answer = api.send("GET", "/simulation/view-cpu")
    assert (answer.status_code, answer.headers["X-RateLimit-Hourly-Used"]) == (200, "3")
    assert api.send("GET", "/simulation/view-cpu").status_code == 429


def test_a_day_s_limit_outlasts_the_hour(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.jump(DAY - emulator.control.now() % DAY)
    emulator.control.set_quota(100, 2)
    assert [api.send("GET", "/simulation/view-cpu").status_code for _ in range(3)] == [200, 200, 429]
    emulator.control.jump(DAY - 1)
    refused = api.send("GET", "/simulation/view-cpu")
    assert (refused.status_code, refused.headers["X-RateLimit-Daily-Used"]) == (429, "2")
    assert refused.headers["X-RateLimit-Hourly-Used"] == "0"
    emulator.control.jump(1)
    assert api.send("GET", "/simulation/view-cpu").status_code == 200


@pytest.mark.parametrize("kind", ["429", "429-seconds", "429-date", "403"])
def test_the_ways_of_refusing_a_call(emulator: CloudHPCEmulator, api: Api, kind: str) -> None:
    emulator.control.settings(quota_refusal=kind)
    emulator.control.set_quota(1, hourly_used=1)
    answer = api.send("POST", "/simulation/add", {})
    assert (answer.status_code, list(answer.json())) == (int(kind[:3]), ["errors"])
    assert answer.headers["X-RateLimit-Hourly-Used"] == answer.headers["X-RateLimit-Hourly-Limit"] == "1"
    wait = answer.headers.get("Retry-After")
    if kind == "429-seconds":
        assert 0 < int(str(wait)) <= 3600
    elif kind == "429-date":
        assert parsedate_to_datetime(str(wait)).tzinfo is not None
    else:
        assert wait is None
    assert emulator.ledger.violations == []


def test_each_user_has_a_quota_of_their_own(emulator: CloudHPCEmulator, api: Api) -> None:
    other = Api(emulator, emulator.control.add_user("other"))
    emulator.control.set_quota(1, hourly_used=1)
    assert api.send("GET", "/simulation/view-cpu").status_code == 429
    assert other.send("GET", "/simulation/view-cpu").status_code == 200


def test_without_limit_means_zero(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.set_quota(0, 0)
    answers = [api.send("GET", "/simulation/view-cpu") for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200}
    last = answers[-1].headers
    assert (last["X-RateLimit-Hourly-Limit"], last["X-RateLimit-Daily-Limit"]) == ("0", "0")
    assert last["X-RateLimit-Hourly-Used"] == "30"


# -- listings


def test_pages(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(page_size=2)
    ids = emulator.control.simulation(count=5)
    pages = [api.listed(f"/simulation/index-short/id/asc/{page}") for page in range(1, 5)]
    assert pages == [ids[:2], ids[2:4], ids[4:], []]
    emulator.control.settings(repeat_last_page=True)
    assert api.listed("/simulation/index-short/id/asc/4") == ids[4:]
    assert api.listed("/simulation/index-short/id/asc/400") == ids[4:]


def test_the_first_page_of_nothing_is_empty_in_either_way(emulator: CloudHPCEmulator, api: Api) -> None:
    for repeat in (False, True):
        emulator.control.settings(repeat_last_page=repeat)
        assert api.get("/simulation/index-short/id/asc/1") == api.get("/storage/index/name/asc/1") == []


def test_a_listing_that_misses_a_new_simulation(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(simulation_lag=30)
    emulator.control.file("case/a")
    id_ = api.launch()
    emulator.control.jump(29)
    assert (api.listed(), api.get(f"/simulation/view-short/{id_}")["id"]) == ([], id_)  # asked by its id it is known
    emulator.control.jump(1)
    assert api.listed() == [id_]


def test_new_files_are_missed_until_the_cache_is_deleted(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(cache_seconds=300)
    api.put("case/a", b"a")
    assert until_listed(emulator, api, "case/a") == 300
    api.put("case/b", b"b")
    api.ask("DELETE", "/user/delete-cache")
    assert until_listed(emulator, api, "case/b") == 0
    emulator.control.settings(storage_lag=7)
    api.put("case/c", b"c")
    api.ask("DELETE", "/user/delete-cache")
    assert until_listed(emulator, api, "case/c") == 7


def test_a_stale_listing_gives_the_old_size(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/a", "old")
    api.put("case/a", b"newer")
    assert api.ask("POST", "/storage/view-by-path", {"path": "case/a"})["size"] == 3
    api.ask("DELETE", "/user/delete-cache")
    assert api.ask("POST", "/storage/view-by-path", {"path": "case/a"})["size"] == 5


def test_numbers_as_strings(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(numbers="strings")
    emulator.control.file("case/a", "12345")
    id_ = api.ask("POST", "/simulation/add", {"cpu": "2", "ram": "standard", "script": "fds6.9.1", "folder": "case"})
    assert isinstance(id_, str)
    record = api.get(f"/simulation/view-short/{id_}")
    assert (record["id"], record["cpu"], record["cost"], record["edate"]) == (id_, "2", None, "")
    assert api.ask("POST", "/storage/view-by-path", {"path": "case/a"})["size"] == "5"
    assert api.ask("POST", "/storage/view-by-path", {"path": "case"})["size"] is None
    assert api.get("/simulation/view-cpu")[:2] == ["1", "2"]


# -- links


@pytest.mark.parametrize("shape", ["bare", "url", "mediaLink", "redirect", "nothing"])
def test_the_shapes_of_a_download_answer(emulator: CloudHPCEmulator, api: Api, shape: str) -> None:
    emulator.control.settings(download_shape=shape)
    id_ = emulator.control.file("case/a", "content")
    answer = api.send("GET", f"/storage/download/{id_}")
    said: Any = answer.headers.get("Location") if shape == "redirect" else answer.json()["response"]
    assert answer.status_code == (302 if shape == "redirect" else 200)
    if shape == "nothing":
        assert said is None
    else:
        link = said[shape] if isinstance(said, dict) else said
        assert requests.get(link, timeout=TIMEOUT).content == b"content"


def test_a_link_that_is_empty_at_first(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(view_url_delay=5)
    id_ = emulator.control.file("case/a", "content")
    emulator.control.jump(100)
    assert api.get(f"/storage/view-url/{id_}") == {"mediaLink": ""}
    emulator.control.jump(4)
    assert api.get(f"/storage/view-url/{id_}") == {"mediaLink": ""}
    emulator.control.jump(1)
    link = api.get(f"/storage/view-url/{id_}")["mediaLink"]
    assert requests.get(link, timeout=TIMEOUT).content == b"content"


def test_how_long_a_link_is_good_for(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(url_lifetime=60)
    emulator.control.file("case/a", "content")
    link = api.link("case/a")
    emulator.control.jump(59)
    assert requests.get(link, timeout=TIMEOUT).status_code == 200
    emulator.control.jump(1)
    assert requests.get(link, timeout=TIMEOUT).status_code == 400


@pytest.mark.parametrize("allowed", [True, False])
def test_a_link_asked_with_head(emulator: CloudHPCEmulator, api: Api, allowed: bool) -> None:
    emulator.control.settings(signed_head=allowed)
    emulator.control.file("case/a", "content")
    answer = requests.head(api.link("case/a"), timeout=TIMEOUT)
    assert answer.status_code == (200 if allowed else 403)
    if allowed:
        assert (answer.headers["Content-Length"], answer.headers["Accept-Ranges"]) == ("7", "bytes")
        assert emulator.ledger.bytes_downloaded == 0
    assert [violation.kind for violation in emulator.ledger.violations] == ([] if allowed else ["bad-signature"])


def test_an_upload_in_chunks(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(chunked_put=True)
    assert api.put("case/a", iter([b"one", b"two"])).status_code == 200  # type: ignore[arg-type]
    assert emulator.control.read("case/a") == b"onetwo"


# -- what the store says of an object


@pytest.mark.parametrize(
    ("asked", "status", "span", "content"),
    [
        ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=-3", 206, "bytes 7-9/10", b"789"),
        ("bytes=5-100", 206, "bytes 5-9/10", b"56789"),
        ("bytes=-100", 206, "bytes 0-9/10", b"0123456789"),
        ("bytes=10-", 416, "bytes */10", None),
        ("bytes=-0", 416, "bytes */10", None),
        ("bytes=4-2", 200, None, b"0123456789"),
        ("bytes=0-1,3-4", 200, None, b"0123456789"),
        ("lines=0-1", 200, None, b"0123456789"),
    ],
)
def test_a_range(
    emulator: CloudHPCEmulator, api: Api, asked: str, status: int, span: str | None, content: bytes | None
) -> None:
    emulator.control.file("case/a", "0123456789")
    answer = requests.get(api.link("case/a"), headers={"Range": asked}, timeout=TIMEOUT)
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, span)
    if content is not None:
        assert (answer.content, answer.headers["Content-Length"]) == (content, str(len(content)))


def test_an_object_that_is_read_while_it_is_written_anew_is_whole(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/a", b"-" * 100_000)
    write, read, over = api.upload_url("case/a"), api.link("case/a"), threading.Event()

    def go_on_writing(byte: bytes) -> None:
        with requests.Session() as session:
            while not over.is_set():
                answer = session.put(write, data=byte * 100_000, headers={"Content-Type": OCTETS}, timeout=TIMEOUT)
                assert answer.status_code == 200

    def look(session: requests.Session) -> set[int]:
        content = session.get(read, timeout=TIMEOUT).content
        assert len(content) == 100_000
        return set(content)

    with ThreadPoolExecutor(4) as pool, requests.Session() as session:
        writers = [pool.submit(go_on_writing, byte) for byte in (b"a", b"b", b"c")]
        try:
            assert {len(look(session)) for _ in range(100)} == {1}
        finally:
            over.set()
        assert [writer.result() for writer in writers] == [None, None, None]


def test_a_case_that_is_deleted_while_its_machine_is_set_up_runs_whole(tmp_path: Path) -> None:
    with CloudHPCEmulator(data_dir=tmp_path, pending_seconds=0) as emulator:
        control, api = emulator.control, Api(emulator)
        control.set_quota(0, 0)
        control.file("case/run.sh", "ls part* | wc -l")
        for number in range(800):
            control.file(f"case/part{number}")
        folder = api.ask("POST", "/storage/view-by-path", {"path": "case"})["id"]
        id_ = api.launch(script="custom-script")
        while api.status(id_) == 20:
            pass
        api.ask("DELETE", f"/storage/delete/{folder}")
        while api.status(id_) == 30:
            time.sleep(0.02)
        assert "\n800\n" in api.get(f"/simulation/view/{id_}")["output"]
        assert len(list(tmp_path.glob("*/blobs/*"))) == len(control.files()) == 1  # the result; nothing else is kept


def test_a_link_names_its_file(emulator: CloudHPCEmulator, api: Api) -> None:
    """For ``wget --content-disposition`` and ``curl -OJ``; a browser saves it, and shows no page of a stranger."""
    for name, named in (("a.tar.gz", 'filename="a.tar.gz"'), ("é\\.frd", "filename*=UTF-8''%C3%A9%5C.frd")):
        emulator.control.file(f"case/{name}", b"x")
        answer = requests.get(api.link(f"case/{name}"), timeout=TIMEOUT)
        assert (answer.text, answer.headers["Content-Disposition"]) == ("x", f"attachment; {named}")


def test_if_range(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/a", "0123456789")
    link = api.link("case/a")
    first = requests.get(link, timeout=TIMEOUT).headers
    same = (first["ETag"], 206), (first["Last-Modified"], 206)
    for said, status in (*same, ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)):
        headers = {"Range": "bytes=5-", "If-Range": said}
        assert requests.get(link, headers=headers, timeout=TIMEOUT).status_code == status


# -- time


def test_files_go_after_60_days(emulator: CloudHPCEmulator, api: Api) -> None:
    api.put("case/uploaded", b"u")
    api.ask("DELETE", "/user/delete-cache")
    (id_,) = emulator.control.simulation(folder="case", pending=0, running=DAY, results={"FDS.tar.gz": "r"})
    emulator.control.jump(DAY)
    assert emulator.control.files() == ["case/FDS.tar.gz", "case/uploaded"]
    link = api.link("case/uploaded")
    emulator.control.settings(url_lifetime=FILE_LIFETIME)
    emulator.control.jump(FILE_LIFETIME - DAY)
    assert emulator.control.files() == ["case/FDS.tar.gz"]
    assert api.send("POST", "/storage/view-by-path", {"path": "case/uploaded"}).status_code == 403
    assert requests.get(link, timeout=TIMEOUT).status_code in (400, 404)
    emulator.control.jump(DAY)
    assert (emulator.control.files(), api.get("/storage/index/name/asc/1")) == ([], [])
    assert api.status(id_) == 10  # its record stays


def test_a_file_written_anew_has_60_more_days(emulator: CloudHPCEmulator, api: Api) -> None:
    api.put("case/a", b"1")
    emulator.control.jump(50 * DAY)
    api.put("case/a", b"2")
    emulator.control.jump(59 * DAY)
    assert emulator.control.files() == ["case/a"]
    emulator.control.jump(DAY)
    assert emulator.control.files() == []


def test_a_launch_waits_for_its_machine(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(pending_seconds=50)
    emulator.control.file("case/run.sh", "exit 0")
    id_ = api.launch(script="custom-script")
    emulator.control.jump(49)
    assert api.status(id_) == 20
    emulator.control.jump(1)
    assert api.status(id_) in (30, 10)


def test_held_launches(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(hold_launches=True)
    emulator.control.file("case/run.sh", "exit 0")
    id_ = api.launch(script="custom-script")
    emulator.control.jump(DAY)
    assert api.status(id_) == 20
    emulator.control.release(id_)
    assert api.status(id_) in (30, 10)


def test_a_launch_in_a_folder_that_is_not_there(emulator: CloudHPCEmulator, api: Api) -> None:
    body = {"cpu": 2, "ram": "standard", "script": "custom-script", "folder": "nowhere"}
    assert api.send("POST", "/simulation/add", body).status_code == 403
    emulator.control.settings(unknown_folder="accepted")
    id_ = api.launch(**body)
    emulator.control.jump(1)
    emulator.control.jump(0)
    record = api.get(f"/simulation/view/{id_}")
    assert (record["status"], record["output"]) == (60, "@@@ ERROR: FOLDER nowhere not detected\n")


FIRE = "&HEAD CHID='fire' /\n&MESH /\n&TIME T_END=10 /\n"


def test_a_jump_takes_a_simulated_solver_along_and_bills_what_it_took(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/fire.fds", FIRE)
    id_ = api.launch()
    emulator.control.jump(2)
    assert api.status(id_) == 30
    assert "Simulation Time" in api.get(f"/simulation/view/{id_}")["output"]
    emulator.control.jump(30 * DAY)
    assert api.status(id_) == 10
    assert emulator.ledger.bills[id_].seconds < 10  # no solver of this kind takes longer
    other = api.launch()
    emulator.control.jump(DAY)  # over all of it at once
    assert (api.status(other), emulator.ledger.bills[other].seconds < 10) == (10, True)


@pytest.mark.parametrize(("signal", "kept"), [("SIGTSTP", True), ("SIGINT", False)])
def test_a_soft_stop_saves_and_a_hard_one_deletes(
    emulator: CloudHPCEmulator, api: Api, signal: str, kept: bool
) -> None:
    emulator.control.settings(soft_stop_seconds=120)
    (id_,) = emulator.control.simulation(folder="case", pending=0, running=None, results={"FDS.tar.gz": "r"})
    emulator.control.jump(1)
    api.ask("PUT", f"/simulation/stop/{id_}", {"signal": signal})
    emulator.control.jump(119)
    assert api.status(id_) == (40 if signal == "SIGTSTP" else 50)
    emulator.control.jump(1)
    assert api.status(id_) == 50
    assert emulator.control.files() == (["case/FDS.tar.gz"] if kept else [])


def test_a_hard_stop_of_a_soft_one(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.settings(soft_stop_seconds=1000)
    (id_,) = emulator.control.simulation(pending=0, running=None)
    emulator.control.jump(1)
    for signal in ("SIGTSTP", "SIGINT"):
        api.ask("PUT", f"/simulation/stop/{id_}", {"signal": signal})
    emulator.control.jump(0)
    assert api.status(id_) == 50


@pytest.mark.parametrize("how", ["sync", "ten hours"])
def test_a_running_simulation_saves_what_it_has(emulator: CloudHPCEmulator, api: Api, how: str) -> None:
    emulator.control.file("case/run.sh", "echo begun | tee result.txt\nsleep 1000\n")
    id_ = api.launch(script="custom-script")
    emulator.control.jump(1)
    while "begun" not in api.get(f"/simulation/view/{id_}")["output"]:
        time.sleep(0.02)
    before = emulator.control.files()
    if how == "sync":
        api.ask("PUT", f"/simulation/sync/{id_}")
        emulator.control.jump(0)
    else:
        emulator.control.jump(RESULT_INTERVAL)
    saved = set(emulator.control.files()) - set(before)
    assert saved
    assert api.status(id_) == 30
    api.ask("PUT", f"/simulation/stop/{id_}", {"signal": "SIGINT"})
    while api.status(id_) != 50:
        time.sleep(0.02)
    assert emulator.control.files() == before


#: A script with much to pack, that ends when it is told to.
LARGE = """
for number in $(seq 300); do head -c 20000 /dev/urandom > file$number; done
trap 'exit 0' TERM
echo ready
while :; do sleep 0.02; done
"""


def started(emulator: CloudHPCEmulator, api: Api, script: str) -> int:
    """A simulation whose script has said that it is ready."""
    emulator.control.file("case/run.sh", script)
    id_ = api.launch(script="custom-script")
    emulator.control.jump(1)
    until(lambda: "ready" in api.get(f"/simulation/view/{id_}")["output"])
    return id_


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.parametrize(("signal", "kept"), [("SIGTSTP", True), ("SIGINT", False)])
def test_an_end_amid_the_saving_of_results(emulator: CloudHPCEmulator, api: Api, signal: str, kept: bool) -> None:
    id_ = started(emulator, api, LARGE)
    for _ in range(3):
        api.ask("PUT", f"/simulation/sync/{id_}")
    api.ask("PUT", f"/simulation/stop/{id_}", {"signal": signal})
    until(lambda: api.status(id_) == 50)
    emulator.control.jump(0)  # what was begun is over
    assert emulator.control.files() == ["case/CUSTOM-SCRIPT.tar.gz", "case/run.sh"][0 if kept else 1 :]
    output = api.get(f"/simulation/view/{id_}")["output"]
    assert ("soft stop" if kept else "hard stop") in output
    assert "could not be saved" not in output


def test_weeks_of_saves_are_one(emulator: CloudHPCEmulator, api: Api) -> None:
    id_ = started(emulator, api, LARGE)
    begun = time.monotonic()
    emulator.control.jump(30 * DAY)
    assert time.monotonic() - begun < 10
    assert (api.status(id_), "could not be saved" in api.get(f"/simulation/view/{id_}")["output"]) == (30, False)
    assert emulator.control.files() == ["case/CUSTOM-SCRIPT.tar.gz", "case/run.sh"]


def test_results_that_cannot_be_saved_are_an_error(
    emulator: CloudHPCEmulator, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    id_ = started(emulator, api, "echo ready; sleep 0.3")
    monkeypatch.setattr(emulator._world.blobs, "from_file", full)
    until(lambda: api.status(id_) not in (20, 30))
    record = api.get(f"/simulation/view/{id_}")
    assert record["status"] == 60
    assert "@@@ ERROR: results could not be saved: OSError: [Errno 28] No space left on device" in record["output"]


def test_a_spot_machine_taken_away_again_and_again_runs_once(
    emulator: CloudHPCEmulator, api: Api, tmp_path: Path
) -> None:
    emulator.control.settings(pending_seconds=0)
    emulator.control.file("case/run.sh", f"echo $$ >> {tmp_path}/pids; echo ready; sleep 600")
    id_ = api.launch(script="custom-script")
    api.status(id_)
    for _ in range(4):
        emulator._in_loop(emulator._world.pump)
        if api.status(id_) == 30:
            emulator.control.preempt(id_)

    def only_the_last_is_alive() -> bool:
        pids = (tmp_path / "pids").read_text().split()
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()] == pids[-1:]

    until(lambda: "ready" in api.get(f"/simulation/view/{id_}")["output"])
    until(lambda: api.status(id_) == 30 and only_the_last_is_alive())
    assert (api.status(id_), api.listed(), len(emulator.ledger.launches)) == (30, [id_], 1)


def test_an_order_that_was_asked_for_before_knows_what_has_changed(emulator: CloudHPCEmulator, api: Api) -> None:
    def names(sort: str, direction: str = "asc") -> list[str]:
        return [item["name"] for item in api.get(f"/storage/index/{sort}/{direction}/1")]

    for path, size in (("b", 2), ("a", 2), ("c/deep/er", 9)):
        emulator.control.file(path, "x" * size)
    assert (names("name"), names("size"), names("size", "desc")) == (["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"])
    emulator.control.file("a", "x")
    emulator.control.file("aa/deep/er", "")
    emulator.control.file("c/deep/another", "")
    assert names("name") == ["a", "aa", "b", "c"]
    assert (names("size"), names("size", "desc")) == (["c", "aa", "a", "b"], ["b", "a", "aa", "c"])
    assert names("type") == ["c", "aa", "b", "a"]
    (c,) = [item["id"] for item in api.get("/storage/index/name/asc/1") if item["name"] == "c"]
    assert api.get(f"/storage/index/name/asc/parent_id/{c}/1")[0]["name"] == "c/deep"
    api.ask("DELETE", f"/storage/delete/{c}")
    assert names("name") == ["a", "aa", "b"]
