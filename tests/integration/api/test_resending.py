# SPDX-License-Identifier: Apache-2.0
"""What is sent again and what is not, counted where it arrives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCConnectionError,
    CloudHPCError,
    CloudHPCNotFoundError,
    CloudHPCQuotaError,
    CloudHPCRefusedError,
)
from airflow_provider_cloudhpc.api.models import StopSignal
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions
from tests.integration.api.test_client import LAUNCH, TECHNICAL, USED_UP, client_of
from tests.integration.scripted import RESET_AT_ONCE, Answer, Cut, Hang, ScriptedProxy, ScriptedServer

RECORD = {"id": 4711, "status": 30}
LINK = "https://store.test/a"
#: Calls whose effect is the same however often they arrive, and an answer that each of them takes.
SAFE = {
    "view short": (lambda client: client.view_simulation_short(4711), RECORD),
    "view": (lambda client: client.view_simulation(4711), RECORD),
    "index short": (lambda client: client.list_simulations(), [RECORD]),
    "view cpu": (lambda client: client.view_cpu(), [1, 2]),
    "stop": (lambda client: client.stop_simulation(4711, StopSignal.HARD), "ok"),
    "sync": (lambda client: client.sync_simulation(4711), "ok"),
    "delete": (lambda client: client.delete_item("7"), "ok"),
    "delete cache": (lambda client: client.delete_cache(), "ok"),
    "upload url": (lambda client: client.upload_url("caseA", "a.zip"), {"url": LINK}),
    "download url": (lambda client: client.download_url("7"), LINK),
    "view by path": (lambda client: client.view_by_path("caseA"), {"id": 7, "name": "caseA"}),
    "index": (lambda client: client.list_folder("7"), []),
}
#: What may heal.
PASSING = {
    "reset": Cut(),
    "reset within the answer": Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "closed": Answer(body=b"", headers={"Content-Length": "9"}, keep=False),
    "no answer in time": Hang(),
    "HTML under 502": Answer(body=b"<html>", status=502),
    "HTML under 200": Answer(body=b"<html>"),
    "500 with words": Answer({"errors": ["Crash"]}, 500),
    "429": Answer({"errors": ["Slow down"]}, 429),
    "429, again at once": Answer({}, 429, {"Retry-After": "0"}),
}
#: What does not.
STAYING = {
    "bad key": (Answer({"errors": ["Unauthorized."]}, 403), CloudHPCAuthError),
    "refused": (Answer({"errors": ["No"]}, 403), CloudHPCRefusedError),
    "gone": (Answer({"errors": [TECHNICAL]}, 403), CloudHPCNotFoundError),
    "redirect": (Answer({}, 302, {"Location": "/en/login"}), CloudHPCAnswerError),
    "HTML under 404": (Answer(body=b"<html>", status=404), CloudHPCAnswerError),
    "used up, under 403": (Answer({"errors": ["No more"]}, 403, USED_UP), CloudHPCQuotaError),
    "429 for longer than is waited": (Answer({}, 429, {"Retry-After": "3600"}), CloudHPCQuotaError),
    "503 for longer than is waited": (Answer(body=b"", status=503, headers={"Retry-After": "60"}), CloudHPCAnswerError),
}


@pytest.mark.parametrize("trouble", PASSING)
@pytest.mark.parametrize("call", SAFE)
def test_safe_calls_are_sent_again(call, trouble):
    do, answer = SAFE[call]
    with ScriptedServer(PASSING[trouble], Answer({"response": answer})) as server, client_of(server.url) as client:
        do(client)
        assert len(server.requests) == 2
        first, second = server.requests
        assert (first.method, first.target, first.body) == (second.method, second.target, second.body)


@pytest.mark.parametrize("trouble", PASSING)
def test_a_launch_is_never_sent_again(trouble):
    with ScriptedServer(PASSING[trouble], Answer({"response": 1})) as server, client_of(server.url) as client:
        with pytest.raises(CloudHPCError):
            client.add_simulation(LAUNCH)
        assert len(server.requests) == 1


#: A download link's redirect is an answer, and where there is none a second way is asked.
ELSEWISE = {("download url", "redirect"), ("download url", "HTML under 404")}


@pytest.mark.parametrize(
    ("call", "trouble"),
    [(call, trouble) for call in [*SAFE, "launch"] for trouble in STAYING if (call, trouble) not in ELSEWISE],
)
def test_what_stays_is_asked_once(call, trouble):
    do = SAFE[call][0] if call in SAFE else lambda client: client.add_simulation(LAUNCH)
    answer, kind = STAYING[trouble]
    with ScriptedServer(answer) as server, client_of(server.url, max_attempts=4) as client:
        with pytest.raises(CloudHPCError) as caught:
            do(client)
        assert (type(caught.value), len(server.requests)) == (kind, 1)


def test_attempts_are_bounded():
    with ScriptedServer(Answer(body=b"", status=503)) as server, client_of(server.url, max_attempts=3) as client:
        with pytest.raises(CloudHPCAnswerError):
            client.view_cpu()
        assert len(server.requests) == 3


def test_retry_after_is_the_pause(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=pauses.append))
    answers = (
        Answer({}, 429, {"Retry-After": "7"}),
        Answer(
            body=b"",
            status=503,
            headers={"Retry-After": "Wed, 21 Oct 2015 07:28:11 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"},
        ),
        Answer(body=b"", status=502),
        Answer({"response": [8]}),
    )
    with ScriptedServer(*answers) as server, client_of(server.url, max_attempts=4, max_pause=30) as client:
        assert client.view_cpu() == [8]
    assert pauses[:2] == [7.0, 11.0]
    assert 0 <= pauses[2] <= 30


# -- the second delete ---------------------------------------------------------------------------------------

GONE = Answer({"errors": [TECHNICAL]}, 403)


@pytest.mark.parametrize("first", [Cut(), Hang(), Answer(body=b"<html>", status=504)])
def test_gone_after_a_lost_answer_is_deleted(first):
    with ScriptedServer(first, GONE) as server, client_of(server.url) as client:
        client.delete_item("7")
        assert len(server.requests) == 2


def test_gone_at_once_or_after_a_refused_call_is_not():
    for script in ((GONE,), (Answer({}, 429, {"Retry-After": "0"}), GONE)):
        with (
            ScriptedServer(*script) as server,
            client_of(server.url) as client,
            pytest.raises(CloudHPCNotFoundError),
        ):
            client.delete_item("7")


def test_only_a_delete_takes_gone_for_done():
    with ScriptedServer(Cut(), GONE) as server, client_of(server.url) as client, pytest.raises(CloudHPCNotFoundError):
        client.stop_simulation(4711, StopSignal.SOFT)


# -- a launch of which no byte left ---------------------------------------------------------------------------


def test_a_launch_is_sent_again_where_tls_broke_before_it(tls, ca_bundle):
    network = NetworkOptions(ca_bundle=str(ca_bundle))
    with (
        ScriptedServer(Answer({"response": 4711}), tls=tls, on_connect=[RESET_AT_ONCE]) as server,
        client_of(server.url, network=network) as client,
    ):
        assert client.add_simulation(LAUNCH) == 4711
        assert (len(server.requests), server.connections) == (1, 2)


def test_a_launch_that_a_proxy_refuses_to_carry_has_not_left():
    with ScriptedProxy(refuse=502) as proxy:
        network = NetworkOptions(proxies={"https": proxy.url})
        with (
            client_of("https://api.cloudhpc.test", network=network, max_attempts=3) as client,
            pytest.raises(CloudHPCConnectionError, match="proxy") as caught,
        ):
            client.add_simulation(LAUNCH)
    assert caught.value.sent is False
    assert len(proxy.seen) == 3


def test_a_launch_lost_behind_a_proxy_may_have_left(tls, ca_bundle):
    with ScriptedServer(Cut(), tls=tls) as server, ScriptedProxy() as proxy:
        network = NetworkOptions(proxies={"https": proxy.url}, ca_bundle=str(ca_bundle))
        with client_of(server.url, network=network) as client, pytest.raises(CloudHPCConnectionError) as caught:
            client.add_simulation(LAUNCH)
        assert caught.value.sent is True
        assert len(server.requests) == 1


def test_a_launch_goes_over_a_new_connection():
    """A kept one may be dead without anybody knowing: then the launch would be lost with its bytes on the way."""
    dying = [Answer({"response": [1]}), Answer({"response": [1]}), Answer({"response": 4711})]
    with ScriptedServer(*dying) as server, client_of(server.url) as client:
        client.view_cpu()
        client.view_cpu()
        assert client.add_simulation(LAUNCH) == 4711
        assert [request.connection for request in server.requests] == [1, 1, 2]


def test_a_kept_connection_that_died_costs_a_read_nothing():
    with ScriptedServer(Answer({"response": [1]}, keep=False)) as server, client_of(server.url) as client:
        for _ in range(3):
            assert client.view_cpu() == [1]
        assert len(server.requests) == 3
