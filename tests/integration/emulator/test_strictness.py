# SPDX-License-Identifier: Apache-2.0
"""Each wrong thing that a client could do is refused, changes nothing, and is in the ledger."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.endpoints import API_PREFIX
from airflow_provider_cloudhpc.emulator.violations import VIOLATIONS
from tests.integration.emulator.conftest import OCTETS, TIMEOUT, Api

LAUNCH = {"cpu": 2, "ram": "standard", "script": "fds6.9.1", "folder": "case"}
UPLOAD = {"dirname": "case", "filename": "new.bin", "contentType": OCTETS}
ADD, URL = ("POST", "/simulation/add"), ("POST", "/storage/upload-url")

#: Kind, method, path, body: JSON, or bytes to be sent as they are.
API_CASES: list[tuple[str, str, str, Any]] = [
    ("unknown-endpoint", "GET", "/simulation/list", None),
    ("unknown-endpoint", "DELETE", "/simulation/add", None),
    ("bad-body", *ADD, b"cpu=2&ram=standard"),
    ("bad-body", *ADD, [LAUNCH]),
    ("bad-body", *ADD, b""),
    ("bad-body", *ADD, b"[" * 100_000),
    ("bad-body", *URL, b'"' + b"x" * 2_000_000 + b'"'),
    ("missing-field", *ADD, {**LAUNCH, "ram": None}),
    ("missing-field", *ADD, {key: LAUNCH[key] for key in ("cpu", "ram", "script")}),
    ("missing-field", *URL, {"filename": "a"}),
    ("missing-field", "POST", "/storage/view-by-path", {}),
    ("missing-field", "PUT", "/simulation/stop/{simulation}", {}),
    ("unknown-field", *ADD, {**LAUNCH, "preemptible": 0}),
    ("unknown-field", *URL, {**UPLOAD, "folder": "case"}),
    ("unknown-field", *ADD, b'{"\\ud800": 1, "cpu": 2, "ram": "standard", "script": "fds6.9.1", "folder": "case"}'),
    ("bad-value", *ADD, {**LAUNCH, "cpu": 2.0}),
    ("bad-value", *ADD, {**LAUNCH, "cpu": True}),
    ("bad-value", *ADD, {**LAUNCH, "cpu": "many"}),
    ("bad-value", *ADD, {**LAUNCH, "nopre": 2}),
    ("bad-value", *ADD, {**LAUNCH, "folder": 7}),
    ("bad-value", *URL, {**UPLOAD, "dirname": ["case"]}),
    ("unknown-cpu", *ADD, {**LAUNCH, "cpu": 3}),
    ("unknown-cpu", *ADD, {**LAUNCH, "cpu": 0}),
    ("unknown-ram", *ADD, {**LAUNCH, "ram": "Standard"}),
    ("unknown-script", *ADD, {**LAUNCH, "script": "fds"}),
    ("empty-folder", *ADD, {**LAUNCH, "folder": ""}),
    ("empty-folder", *ADD, {**LAUNCH, "folder": "/"}),
    ("unknown-folder", *ADD, {**LAUNCH, "folder": "other"}),
    ("unknown-folder", *ADD, {**LAUNCH, "folder": "case/a.fds"}),
    ("unknown-folder", *ADD, {**LAUNCH, "mesh": "other"}),
    ("bad-name", *ADD, {**LAUNCH, "folder": "case a"}),
    ("bad-name", *ADD, {**LAUNCH, "folder": "../case"}),
    ("bad-name", *URL, {**UPLOAD, "filename": ""}),
    ("bad-name", *URL, {**UPLOAD, "filename": "a/b"}),
    ("bad-name", *URL, {**UPLOAD, "filename": ".."}),
    *(("bad-name", *URL, {**UPLOAD, "filename": f"a{character}b"}) for character in ",()'$~\"#*? \t\n"),
    ("bad-content-type", *URL, {**UPLOAD, "contentType": "binary"}),
    ("bad-signal", "PUT", "/simulation/stop/{simulation}", {"signal": "SIGKILL"}),
    ("bad-signal", "PUT", "/simulation/stop/{simulation}", {"signal": "sigint"}),
    ("bad-id", "GET", "/simulation/view-short/last", None),
    ("bad-id", "PUT", "/simulation/stop/-1", {"signal": "SIGINT"}),
    ("bad-id", "DELETE", "/storage/delete/case", None),
    ("bad-page", "GET", "/simulation/index-short/id/desc/0", None),
    ("bad-page", "GET", "/storage/index/name/asc/0", None),
    ("bad-value", "GET", "/storage/index/name/asc/first", None),
    ("bad-sort-field", "GET", "/simulation/index-short/output/desc/1", None),
    ("bad-sort-field", "GET", "/storage/index/path/asc/1", None),
    ("bad-direction", "GET", "/simulation/index-short/id/DESC/1", None),
    ("download-of-folder", "GET", "/storage/download/{folder}", None),
    ("download-of-folder", "GET", "/storage/view-url/{folder}", None),
]
STORE_KINDS = {
    "key-sent-to-store", "credentials-sent-to-store", "unsigned", "bad-signature", "wrong-content-type", "expired-url",
    "no-length", "chunked-put", "path-conflict", "bad-method",
}  # fmt: skip
KEY_KINDS = {"missing-key", "unknown-key"}


def test_there_is_a_case_for_every_kind() -> None:
    assert {case[0] for case in API_CASES} | STORE_KINDS | KEY_KINDS == set(VIOLATIONS)


@pytest.fixture
def names(emulator: CloudHPCEmulator, api: Api) -> dict[str, int]:
    """A folder with a file, and a simulation that runs."""
    emulator.control.file("case/a.fds", "&HEAD /")
    (simulation,) = emulator.control.simulation(folder="case", running=None)
    folder = int(api.ask("POST", "/storage/view-by-path", {"path": "case"})["id"])
    return {"simulation": simulation, "folder": folder}


def kinds(emulator: CloudHPCEmulator) -> list[str]:
    return [violation.kind for violation in emulator.ledger.violations]


@pytest.mark.parametrize(("kind", "method", "path", "body"), API_CASES)
def test_the_api_refuses(
    emulator: CloudHPCEmulator, api: Api, names: dict[str, int], kind: str, method: str, path: str, body: Any
) -> None:
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    answer = api.send(method, path.format(**names), **sent)
    assert (answer.status_code, list(answer.json())) == (403, ["errors"])
    assert kinds(emulator) == [kind]
    ledger = emulator.ledger
    assert (len(ledger.launches), ledger.stops, emulator.control.files()) == (1, [], ["case/a.fds"])
    assert (ledger.violations[0].user, api.key in str(ledger.violations)) == ("default", False)


def test_what_a_stranger_sends_makes_no_line_of_the_log(
    api: Api, names: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    words = "a\nERROR all is lost\x1b[2J"
    for method, path, body in (
        (*ADD, {**LAUNCH, words: 1}), (*ADD, {**LAUNCH, "folder": words}), (*ADD, {**LAUNCH, "script": words}),
        (*URL, {**UPLOAD, "filename": words}), (*URL, {**UPLOAD, "contentType": words}),
        ("PUT", "/simulation/stop/{simulation}", {"signal": words}),
        ("GET", f"/simulation/index-short/{quote(words)}/asc/1", None), ("GET", f"/{quote(words)}", None),
    ):  # fmt: skip
        assert api.send(method, path.format(**names), json=body).status_code == 403
    lines = [record.getMessage() for record in caplog.records if "violation" in record.getMessage()]
    assert len(lines) == 8
    assert all(line.isprintable() for line in lines), lines


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("missing-key", {}),
        ("missing-key", {"X-API-key": ""}),
        ("missing-key", {"Authorization": "Bearer {key}"}),
        ("unknown-key", {"X-API-key": "0" * 40}),
        ("unknown-key", {"X-API-key": "{key}x"}),
    ],
)
def test_a_wrong_key_is_told_as_the_service_does(
    emulator: CloudHPCEmulator, kind: str, headers: dict[str, str]
) -> None:
    filled = {name: value.format(key=emulator.api_key) for name, value in headers.items()}
    answer = requests.get(f"{emulator.api_url}/simulation/view-cpu", headers=filled, timeout=TIMEOUT)
    assert (answer.status_code, answer.json()) == (403, {"errors": ["Unauthorized."]})
    assert kinds(emulator) == [kind]
    assert emulator.api_key not in str(emulator.ledger.violations)


@pytest.mark.parametrize(
    "path",
    ["/simulation/view/{simulation}", "/simulation/view-short/{simulation}", "/storage/download/{file}",
     "/storage/view-url/{file}", "/storage/index/name/asc/parent_id/{folder}/1"],
)  # fmt: skip
def test_what_is_another_user_s_is_unknown(
    emulator: CloudHPCEmulator, api: Api, names: dict[str, int], path: str
) -> None:
    file = api.ask("POST", "/storage/view-by-path", {"path": "case/a.fds"})["id"]
    other = Api(emulator, emulator.control.add_user("other"))
    answer = other.send("GET", path.format(file=file, **names))
    assert answer.json() == {"errors": ["A technical problem has occurred, try again later."]}
    assert api.send("GET", path.format(file=file, **names)).status_code == 200
    for listing in ("/simulation/index-short/id/asc/1", "/storage/index/name/asc/1"):
        assert other.get(listing) == []
    assert other.send("PUT", f"/simulation/stop/{names['simulation']}", {"signal": "SIGINT"}).status_code == 403
    assert other.send("DELETE", f"/storage/delete/{file}").status_code == 403
    assert (emulator.ledger.stops, emulator.control.files()) == ([], ["case/a.fds"])


class Store:
    """The store asked with a link, once rightly and once wrongly."""

    def __init__(self, emulator: CloudHPCEmulator, api: Api) -> None:
        self.emulator, self.api = emulator, api
        emulator.control.file("case/a.fds", "&HEAD /")

    def refused(self, kind: str, answer: requests.Response, status: int) -> None:
        assert (answer.status_code, kinds(self.emulator)) == (status, [kind]), answer.text
        assert answer.text.startswith("<?xml")
        assert self.emulator.control.files() == ["case/a.fds"]
        assert "Signature=" not in str(self.emulator.ledger.violations)

    def put(self, url: str | None = None, data: Any = b"x", **headers: str) -> requests.Response:
        sent = {"Content-Type": OCTETS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return requests.put(url or self.api.upload_url("case/b"), data=data, headers=sent, timeout=TIMEOUT)

    def get(self, url: str | None = None, **headers: str) -> requests.Response:
        return requests.get(url or self.api.link("case/a.fds"), headers=headers, timeout=TIMEOUT)


@pytest.fixture
def store(emulator: CloudHPCEmulator, api: Api) -> Store:
    return Store(emulator, api)


def test_the_store_must_not_see_a_key(store: Store) -> None:
    store.refused("key-sent-to-store", store.put(**{"X-API-key": store.api.key}), 400)


@pytest.mark.parametrize("header", ["Authorization", "Cookie"])
def test_the_store_must_not_see_other_credentials(store: Store, header: str) -> None:
    store.refused("credentials-sent-to-store", store.get(**{header: "a=b"}), 400)


def test_the_store_wants_a_signature(store: Store) -> None:
    store.refused("unsigned", store.get(store.api.link("case/a.fds").partition("?")[0]), 403)


@pytest.mark.parametrize(
    "change",
    [
        ("a.fds?", "b.fds?"),
        ("Expires=3600", "Expires=86400"),
        ("Signature=", "Signature=0"),
        ("Signature=", "Signature=%C3%A9"),
        ("default/", "other/"),
        ("cloudhpc-storage", "bucket"),
    ],
)
def test_a_link_that_was_changed(store: Store, change: tuple[str, str]) -> None:
    link = store.api.link("case/a.fds")
    assert change[0] in link
    store.refused("bad-signature", store.get(link.replace(*change, 1)), 403)


def test_a_link_to_write_is_none_to_look(store: Store) -> None:
    answer = requests.head(store.api.upload_url("case/b"), headers={"Content-Type": OCTETS}, timeout=TIMEOUT)
    assert (answer.status_code, kinds(store.emulator)) == (403, ["bad-signature"])


def test_a_link_to_read_is_none_to_write(store: Store) -> None:
    store.refused("bad-signature", store.put(store.api.link("case/a.fds")), 403)


@pytest.mark.parametrize("content_type", ["application/gzip", "", "application/octet-stream; charset=utf-8"])
def test_an_upload_of_another_type(store: Store, content_type: str) -> None:
    store.refused("wrong-content-type", store.put(Content_Type=content_type), 403)


@pytest.mark.parametrize("method", ["get", "put"])
def test_a_link_that_has_expired(store: Store, method: str) -> None:
    url = store.api.link("case/a.fds") if method == "get" else store.api.upload_url("case/b")
    store.emulator.control.jump(3601)
    store.refused("expired-url", getattr(store, method)(url), 400)


def test_an_upload_in_chunks_where_the_store_takes_none(store: Store) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"

    store.emulator.control.settings(chunked_put=False)
    store.refused("chunked-put", store.put(data=chunks()), 411)


def test_an_upload_that_does_not_say_how_long_it_is(store: Store) -> None:
    parts = urlsplit(store.api.upload_url("case/b"))
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
    connection.putrequest("PUT", f"{parts.path}?{parts.query}")
    connection.putheader("Content-Type", OCTETS)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, kinds(store.emulator)) == (411, ["no-length"])
    connection.close()


@pytest.mark.parametrize("path", ["case", "case/a.fds/deeper"])
def test_a_file_where_there_is_a_folder_or_below_a_file(store: Store, path: str) -> None:
    store.refused("path-conflict", store.put(store.api.upload_url(path)), 409)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_the_store_knows_get_and_put(store: Store, method: str) -> None:
    answer = requests.request(method, store.api.link("case/a.fds"), timeout=TIMEOUT)
    store.refused("bad-method", answer, 405)


def test_what_is_right_is_no_violation(store: Store) -> None:
    assert store.put().status_code == 200
    store.api.ask("DELETE", "/user/delete-cache")
    assert store.get().content == b"&HEAD /"
    assert store.api.launch(cpu="2", nopre="0", mesh="", folder="/case/")
    # Unknown ids and ended simulations are the service's 'no', and no wrong of the client.
    assert store.api.send("GET", "/simulation/view-short/999999").status_code == 403
    (ended,) = store.emulator.control.simulation()
    store.emulator.control.finish(ended)
    assert store.api.send("PUT", f"/simulation/stop/{ended}", {"signal": "SIGINT"}).status_code == 403
    assert store.api.send("PUT", f"/simulation/sync/{ended}").status_code == 403
    assert kinds(store.emulator) == []
    assert requests.get(store.emulator.url + API_PREFIX, timeout=TIMEOUT).status_code == 404
