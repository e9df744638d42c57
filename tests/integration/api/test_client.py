# SPDX-License-Identifier: Apache-2.0
"""Every way a call can go wrong: told apart, with what is known, and without a secret anywhere."""

from __future__ import annotations

import contextlib
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCConnectionError,
    CloudHPCError,
    CloudHPCNotFoundError,
    CloudHPCQuotaError,
    CloudHPCRefusedError,
    CloudHPCValueError,
)
from airflow_provider_cloudhpc.api.models import LaunchRequest, StopSignal
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions
from tests.integration.scripted import RESET_AT_ONCE, Answer, Cut, Hang, ScriptedServer

KEY = "sk-7c1/+=&42"
SIGNATURE = "X-Goog-Signature=f00dfeed"
SIGNED = f"https://store.test/caseA/upload.tar.gz?{SIGNATURE}"
LAUNCH = LaunchRequest(8, "highcpu", "fds6.9.1", "caseA")
FAST = NetworkOptions(connect_timeout=0.5, read_timeout=0.5)
USED_UP = {"X-RateLimit-Hourly-Limit": "100", "X-RateLimit-Hourly-Used": "100"}
NOT_YET = {"X-RateLimit-Hourly-Limit": "100", "X-RateLimit-Hourly-Used": "99"}
TECHNICAL = "A technical problem has occurred, try again later."

#: name -> (call, its method, its endpoint template)
CALLS: dict[str, tuple[Callable[[CloudHPCClient], Any], str, str]] = {
    "read": (lambda client: client.view_simulation_short(4711), "GET", "/simulation/view-short/{id}"),
    "launch": (lambda client: client.add_simulation(LAUNCH), "POST", "/simulation/add"),
    "stop": (lambda client: client.stop_simulation(4711, StopSignal.SOFT), "PUT", "/simulation/stop/{id}"),
    "delete": (lambda client: client.delete_item("4711"), "DELETE", "/storage/delete/{id}"),
    "upload url": (lambda client: client.upload_url("caseA", "a.zip"), "POST", "/storage/upload-url"),
    "download url": (lambda client: client.download_url("4711"), "GET", "/storage/download/{id}"),
}


def client_of(url: str, **more: Any) -> CloudHPCClient:
    return CloudHPCClient(KEY, f"{url}/api/v2", **{"network": FAST, "max_attempts": 2, "max_pause": 0.01, **more})


def texts_of(error: BaseException) -> str:
    """Give all that can be read from an exception."""
    chain = [error]
    for link in chain:
        chain += [more for more in (link.__cause__, link.__context__) if more is not None]
    parts = ["".join(traceback.format_exception(error))]
    for link in chain:
        parts += [str(link), repr(link), repr(link.args), repr(vars(link))]
    return "\n".join(parts)


def check_error(error: CloudHPCError, method: str, endpoint: str, status: int | None) -> None:
    assert (error.method, error.endpoint, error.status) == (method, endpoint, status)
    assert f"{method} {endpoint}" in str(error)
    # requests' own exceptions hold the request with its headers: none may hang on ours.
    assert error.__cause__ is None
    assert error.__context__ is None
    said = texts_of(error) + repr(pickle.dumps(error))
    assert [secret for secret in (KEY, quote(KEY, safe=""), "f00dfeed") if secret in said] == []
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


#: what is answered -> error, words that must stand in its text, attributes
ANSWERS: dict[str, tuple[Answer | Cut | Hang, type[CloudHPCError], tuple[str, ...], dict[str, Any]]] = {
    "bad key under 403": (
        Answer({"errors": ["Unauthorized."]}, 403),
        CloudHPCAuthError,
        ("API key", "password"),
        {"errors": ("Unauthorized.",), "transient": False},
    ),
    "bad key under 200": (Answer({"errors": ["Unauthorized."]}), CloudHPCAuthError, ("API key",), {}),
    "bad key under 401, HTML": (Answer(status=401, body=b"<html>"), CloudHPCAuthError, ("API key",), {}),
    "bad key on the last call of the hour": (
        Answer({"errors": ["Unauthorized."]}, 403, USED_UP),
        CloudHPCAuthError,
        ("API key",),
        {},
    ),
    "key echoed by the service": (
        Answer({"errors": [f"Unauthorized: {KEY}", f"see https://store.test/x?key={quote(KEY, safe='')}"]}, 403),
        CloudHPCAuthError,
        (),
        {"errors": ("Unauthorized: ***", "see https://store.test/x?***")},
    ),
    "quota, seconds": (
        Answer({"errors": ["Slow down"]}, 429, {"Retry-After": "3600", **USED_UP}),
        CloudHPCQuotaError,
        ("used up", "0 of 100 calls left this hour", "wait 3600 s", "Slow down"),
        {"retry_after": 3600.0, "transient": True},
    ),
    "quota, date": (
        Answer(
            {"errors": ["Slow down"]},
            429,
            {"Retry-After": "Wed, 21 Oct 2015 08:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"},
        ),
        CloudHPCQuotaError,
        ("wait 3600 s",),
        {"retry_after": 3600.0},
    ),
    "quota, a date without a zone": (
        Answer({}, 429, {"Retry-After": "Wed, 21 Oct 2015 08:28:00 -0000", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        CloudHPCQuotaError,
        (),
        {"retry_after": 3600.0},
    ),
    "quota, a past date": (
        Answer({}, 429, {"Retry-After": "Wed, 21 Oct 2015 08:28:00 GMT"}),
        CloudHPCQuotaError,
        (),
        {"retry_after": 0.0},
    ),
    "quota, no hint": (Answer({}, 429), CloudHPCQuotaError, ("used up",), {"retry_after": None}),
    "quota, a hint that is none": (
        Answer(body=b"slow", status=429, headers={"Retry-After": "1e999"}),
        CloudHPCQuotaError,
        (),
        {"retry_after": None},
    ),
    "quota under 403": (
        Answer({"errors": ["No more calls"]}, 403, USED_UP),
        CloudHPCQuotaError,
        ("0 of 100 calls left", "No more calls"),
        {"errors": ("No more calls",)},
    ),
    "refused with words": (
        Answer({"errors": ["Folder X is empty", "Credit is short"]}, 403, NOT_YET),
        CloudHPCRefusedError,
        ("Folder X is empty", "Credit is short"),
        {"errors": ("Folder X is empty", "Credit is short"), "transient": False},
    ),
    "refused under 200": (
        Answer({"errors": ["Not today"], "response": 5}),
        CloudHPCRefusedError,
        ("Not today",),
        {"errors": ("Not today",)},
    ),
    "refused, about a folder called unauthorized": (
        Answer({"errors": ["Not found folder unauthorized-case"]}, 403),
        CloudHPCRefusedError,
        ("unauthorized-case",),
        {},
    ),
    "refused without words": (Answer({}, 403), CloudHPCRefusedError, ("without giving a reason",), {}),
    "gone": (
        Answer({"errors": [TECHNICAL]}, 403),
        CloudHPCNotFoundError,
        (TECHNICAL, "do not exist or are gone", "problem itself"),
        {"errors": (TECHNICAL,)},
    ),
    "gone under 404": (Answer({"errors": ["No such file"]}, 404), CloudHPCNotFoundError, ("No such file", "gone"), {}),
    "HTML under 200": (Answer(body=b"<html>login</html>"), CloudHPCAnswerError, ("text/html", "proxy"), {}),
    "HTML under 404": (
        Answer(body=b"<html>", status=404),
        CloudHPCAnswerError,
        ("text/html", "host"),
        {"transient": False},
    ),
    "HTML under 502": (
        Answer(body=b"<html>bad gateway</html>", status=502),
        CloudHPCAnswerError,
        ("server error",),
        {"transient": True},
    ),
    "words under 500": (
        Answer({"errors": [f"Crash at {SIGNED}"]}, 500),
        CloudHPCAnswerError,
        ("Crash at https://store.test/caseA/upload.tar.gz?***",),
        {},
    ),
    "503 with a hint": (
        Answer(body=b"", status=503, headers={"Retry-After": "120"}),
        CloudHPCAnswerError,
        (),
        {"retry_after": 120.0},
    ),
    "cut JSON": (Answer(body=b'{"response": [1, 2'), CloudHPCAnswerError, (), {}),
}
#: Those of the answers above that come with a status other than the call's fate would show.
CALLS_OF_ANSWERS = [(call, answer) for answer in ANSWERS for call in CALLS]


@pytest.mark.parametrize(("call", "answer"), CALLS_OF_ANSWERS)
def test_what_an_answer_means(call, answer):
    do, method, endpoint = CALLS[call]
    step, kind, words, attributes = ANSWERS[answer]
    with ScriptedServer(step) as server, client_of(server.url, max_attempts=1) as client:
        with pytest.raises(CloudHPCError) as caught:
            do(client)
        # A download link has a second way to be asked for.
        if call == "download url" and caught.value.endpoint != endpoint:
            endpoint = "/storage/view-url/{id}"
    error = caught.value
    assert type(error) is kind
    check_error(error, method, endpoint, step.status)
    assert [word for word in words if word not in str(error)] == []
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert all(request.headers["x-api-key"] == KEY for request in server.requests)


@contextlib.contextmanager
def refused_port() -> Iterator[str]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, but nobody listens
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextlib.contextmanager
def unknown_name() -> Iterator[str]:
    yield "https://no-such-host.invalid"


@contextlib.contextmanager
def full_queue() -> Iterator[str]:
    """A listener that answers no connection any more: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def scripted(*script: Any, **more: Any) -> Iterator[str]:
    with ScriptedServer(*script, **more) as server:
        yield server.url


HALF = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"response": 47'
#: where there is nobody -> address, words, whether the request may have arrived
LOSSES: dict[str, tuple[Callable[[], contextlib.AbstractContextManager[str]], str, bool]] = {
    "refused port": (refused_port, "connection refused", False),
    "unknown name": (unknown_name, "name cannot be resolved", False),
    "connect timeout": (full_queue, "no connection in time", False),
    "read timeout": (lambda: scripted(Hang()), "no answer in time", True),
    "reset before any byte": (lambda: scripted(Cut()), "reset", True),
    "reset within the answer": (lambda: scripted(Cut(HALF)), "", True),
    "closed within the answer": (
        lambda: scripted(Answer(body=b'{"respo', headers={"Content-Length": "99"}, keep=False)),
        "closed before the answer was complete",
        True,
    ),
    "no HTTP at all": (
        lambda: scripted(Cut(b"SSH-2.0-OpenSSH_9.2\r\n\r\n" * 400)),
        "",
        True,
    ),
    "an encoding it has not": (
        lambda: scripted(Answer(body=b"not gzip at all", headers={"Content-Encoding": "gzip"})),
        "cannot be decoded",
        True,
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("loss", LOSSES)
def test_what_cannot_be_reached(call, loss):
    do, method, endpoint = CALLS[call]
    place, words, sent = LOSSES[loss]
    with place() as url, client_of(url, max_attempts=1) as client, pytest.raises(CloudHPCConnectionError) as caught:
        do(client)
    error = caught.value
    check_error(error, method, endpoint, None)
    assert words in str(error)
    assert (error.sent, error.transient) == (sent, True)
    assert ("whether the request arrived is not known" in str(error)) is sent


def test_tls_that_breaks_before_the_request_has_sent_nothing(tls, ca_bundle):
    network = NetworkOptions(ca_bundle=str(ca_bundle))
    with (
        ScriptedServer(tls=tls, on_connect=[RESET_AT_ONCE]) as server,
        client_of(server.url, max_attempts=1, network=network) as client,
        pytest.raises(CloudHPCConnectionError) as caught,
    ):
        client.add_simulation(LAUNCH)
    assert caught.value.sent is False


def test_https_to_a_port_that_speaks_plain_http_has_sent_nothing():
    with (
        ScriptedServer() as server,
        client_of(server.url.replace("http://", "https://"), max_attempts=1) as client,
        pytest.raises(CloudHPCConnectionError) as caught,
    ):
        client.add_simulation(LAUNCH)
    assert caught.value.sent is False


@pytest.mark.parametrize(
    "said", [True, None, "", "abc", [], {}, {"id": None}, {"id": True}, 0, -3, 4711.5, "nan", [4711, 4712]]
)
def test_a_launch_answered_without_an_id_may_have_started(said):
    with ScriptedServer(Answer({"response": said})) as server, client_of(server.url) as client:
        with pytest.raises(CloudHPCAnswerError, match="may or may not have been started") as caught:
            client.add_simulation(LAUNCH)
        check_error(caught.value, "POST", "/simulation/add", 200)
        assert len(server.requests) == 1


@pytest.mark.parametrize("said", [4711, "4711", " 4711 ", 4711.0, {"id": "4711"}])
def test_a_launch_answered_with_an_id(said):
    with ScriptedServer(Answer({"response": said})) as server, client_of(server.url) as client:
        assert client.add_simulation(LAUNCH) == 4711
        assert server.requests[0].json == {"cpu": 8, "ram": "highcpu", "script": "fds6.9.1", "folder": "caseA"}


@pytest.mark.parametrize("said", [{"a": 1}, "text", 5])
def test_a_listing_that_is_none(said):
    with ScriptedServer(Answer({"response": said})) as server, client_of(server.url) as client:
        for ask in (client.view_cpu, client.list_simulations, client.list_root):
            with pytest.raises(CloudHPCAnswerError, match="not a list"):
                ask()


@pytest.mark.parametrize("record", [None, {}, [], {"id": 4712}, {"id": True}, {"id": ""}, "4711"])
def test_a_record_of_something_else(record):
    with (
        ScriptedServer(Answer({"response": record})) as server,
        client_of(server.url) as client,
        pytest.raises(CloudHPCAnswerError, match="not the record of simulation 4711"),
    ):
        client.view_simulation_short(4711)


def test_a_signed_link_over_plain_http_is_refused_without_its_query():
    link = f"http://store.test/a?{SIGNATURE}"
    with ScriptedServer(Answer({"response": {"url": link}})) as server, client_of(server.url) as client:
        for ask in (lambda: client.upload_url("caseA", "a.zip"), lambda: client.download_url("1")):
            with pytest.raises(CloudHPCValueError, match="must be https") as caught:
                ask()
            assert "f00dfeed" not in texts_of(caught.value)


@pytest.mark.parametrize("identifier", ["", " ", ".", ".."])
def test_an_empty_id_is_never_sent(identifier):
    """``DELETE /storage/delete/`` might mean anything."""
    with ScriptedServer() as server, client_of(server.url) as client:
        for call in (client.delete_item, client.list_folder, client.download_url):
            with pytest.raises(CloudHPCValueError, match="id is "):
                call(identifier)
        assert server.requests == []


def test_an_id_stays_within_its_path():
    with ScriptedServer() as server, client_of(server.url) as client:
        client.delete_item("../../user/delete-cache?x=1#y")
        assert server.requests[0].target == "/api/v2/storage/delete/..%2F..%2Fuser%2Fdelete-cache%3Fx%3D1%23y"


@pytest.mark.parametrize("key", ["", " ", "abc\n", "abc\r\nX-Other: 1", "abc ", "k\u00e9y", "a\0b", "\ufeffabc"])
def test_an_impossible_key_is_refused_and_not_repeated(key):
    with pytest.raises(CloudHPCValueError, match="API key") as caught:
        CloudHPCClient(key)
    assert not key.strip() or key.strip() not in texts_of(caught.value).replace("CloudHPCClient(key)", "")


def test_the_client_shows_no_key():
    with client_of("http://127.0.0.1:1") as client:
        shown = [repr(client), str(client), repr(vars(client)), repr(vars(client._session)), repr(FAST)]
    assert [text for text in shown if KEY in text] == []


class Endless(ScriptedServer):
    """Answers with a record whose output never ends."""

    sent = 0

    def serve(self, connection: socket.socket, number: int) -> None:
        connection.recv(1 << 16)
        connection.sendall(
            b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"response": {"id": 7, "status": 30, "output": "'
        )
        while not self.closing.is_set():
            connection.sendall(b"a line of it" * 10_000)
            self.sent += 120_000


def test_an_output_is_read_as_far_as_is_wanted_and_no_further() -> None:
    with Endless() as server:
        record = client_of(server.url).view_simulation(7, max_bytes=5_000_000, to_the_end=False)
        assert (record.id, record.status, record.output_is_whole) == (7, 30, False)
        assert len(record.output or "") == 2_500_000  # the beginning; its end was not looked for
        # What lies in the sockets' buffers was sent, too.
        assert server.sent < 30_000_000
