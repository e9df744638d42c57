# SPDX-License-Identifier: Apache-2.0
"""Proxies, certificates, ``.netrc`` and who is told the key: the same for the API and for signed URLs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import trustme

from airflow_provider_cloudhpc.api.errors import CloudHPCAnswerError, CloudHPCError, CloudHPCValueError
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer
from airflow_provider_cloudhpc.api.transfer.sources import FileSource
from airflow_provider_cloudhpc.api.transfer.storage import upload_file
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions
from tests.integration.api.test_client import FAST, KEY, LAUNCH, SIGNATURE, client_of, refused_port, texts_of
from tests.integration.scripted import Answer, Cut, ScriptedProxy, ScriptedServer

ANSWER = Answer({"response": [8]})


def ask_api(url: str, network: NetworkOptions, _: Path) -> None:
    with client_of(url, network=network, max_attempts=1) as client:
        assert client.view_cpu() == [8]


def put_signed(url: str, network: NetworkOptions, folder: Path) -> None:
    source = folder / "case.bin"
    source.write_bytes(b"bytes")
    Transfer(network, attempts=1).upload(lambda: f"{url}/bucket/case.bin?{SIGNATURE}", FileSource(source))


def get_signed(url: str, network: NetworkOptions, folder: Path) -> None:
    Transfer(network, attempts=1).download(lambda: f"{url}/bucket/case.bin?{SIGNATURE}", folder / "result.bin")


Way = Callable[[str, NetworkOptions, Path], None]
both = pytest.mark.parametrize("way", [ask_api, put_signed, get_signed])


# -- proxies --------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_the_environment_s_proxy_unread(way: Way, name, tls, ca_bundle, monkeypatch, tmp_path):
    with ScriptedServer(ANSWER, tls=tls) as server, ScriptedProxy(("127.0.0.1", server.port)) as proxy:
        monkeypatch.setenv(name, proxy.url.replace("http://", "http://user:proxy-secret@"))
        way(f"https://api.cloudhpc.test:{server.port}", NetworkOptions(ca_bundle=str(ca_bundle)), tmp_path)
        assert [first.rpartition(" ")[0] for first, _ in proxy.seen] == [f"CONNECT api.cloudhpc.test:{server.port}"]
        assert KEY not in repr(proxy.seen)
        assert "f00dfeed" not in repr(proxy.seen)
        assert "proxy-secret" not in repr(server.requests)


@both
def test_http_goes_through_the_environment_s_proxy(way: Way, monkeypatch, tmp_path):
    with ScriptedServer(ANSWER) as server, ScriptedProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        way(server.url, FAST, tmp_path)
        assert len(proxy.seen) == 1


@both
def test_no_proxy_is_honoured(way: Way, tls, ca_bundle, monkeypatch, tmp_path):
    with ScriptedServer(ANSWER, tls=tls) as server, ScriptedProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        way(server.url, NetworkOptions(ca_bundle=str(ca_bundle)), tmp_path)
        assert (proxy.seen, len(server.requests)) == ([], 1)


@both
@pytest.mark.parametrize("key", ["https", "all"])
def test_the_connection_s_proxy_wins(way: Way, key, tls, ca_bundle, monkeypatch, tmp_path):
    with ScriptedServer(ANSWER, tls=tls) as server, ScriptedProxy() as proxy, refused_port() as dead:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, dead)
        way(server.url, NetworkOptions(ca_bundle=str(ca_bundle), proxies={key: proxy.url}), tmp_path)
        assert len(proxy.seen) == 1


@both
def test_an_empty_proxy_of_the_connection_means_none(way: Way, tls, ca_bundle, monkeypatch, tmp_path):
    with ScriptedServer(ANSWER, tls=tls) as server, refused_port() as dead:
        monkeypatch.setenv("HTTPS_PROXY", dead)
        way(server.url, NetworkOptions(ca_bundle=str(ca_bundle), proxies={"https": ""}), tmp_path)


@both
def test_plain_http_to_loopback_is_carried_to_no_other_machine(way: Way, monkeypatch, tmp_path):
    """Nobody answers at the proxy's address: what gets through went without it."""
    with ScriptedServer(ANSWER) as server:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, "http://proxy.invalid:3128")
        way(server.url, FAST, tmp_path)
        assert len(server.requests) == 1


@pytest.mark.parametrize("way", [ask_api, put_signed, get_signed])
@pytest.mark.parametrize(
    "proxy", ["http://user:proxy-secret@127.0.0.1:1", "http://user:proxy-secret@:1", "nonsense://user:proxy-secret@x"]
)
def test_a_proxy_s_password_is_not_told(way: Way, proxy, tmp_path):
    with pytest.raises(CloudHPCError) as caught:
        way("https://api.cloudhpc.test", NetworkOptions(proxies={"https": proxy}, connect_timeout=0.5), tmp_path)
    assert "proxy-secret" not in texts_of(caught.value)
    assert "proxy" in str(caught.value)


# -- certificates ----------------------------------------------------------------------------------------------


@both
def test_an_unknown_authority_is_not_trusted(way: Way, tls, tmp_path):
    with ScriptedServer(ANSWER, tls=tls) as server:
        with pytest.raises(CloudHPCError, match="TLS certificate"):
            way(server.url, FAST, tmp_path)
        assert server.requests == []


@both
def test_the_environment_s_bundle_is_honoured(way: Way, tls, ca_bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_bundle))
    with ScriptedServer(ANSWER, tls=tls) as server:
        way(server.url, FAST, tmp_path)


@both
def test_the_connection_s_bundle_wins(way: Way, tls, ca_bundle, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with ScriptedServer(ANSWER, tls=tls) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
        way(server.url, NetworkOptions(ca_bundle=str(ca_bundle)), tmp_path)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_bundle))
        with pytest.raises(CloudHPCError, match="TLS certificate"):
            way(server.url, NetworkOptions(ca_bundle=str(other)), tmp_path)


@both
def test_a_bundle_that_is_not_there_is_said(way: Way, tls, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    with ScriptedServer(ANSWER, tls=tls) as server, pytest.raises(CloudHPCError, match="no such CA bundle"):
        way(server.url, FAST, tmp_path)


# -- who is told what -------------------------------------------------------------------------------------------


@both
def test_netrc_is_read_for_nobody(way: Way, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1\nlogin somebody\npassword netrc-secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedServer(ANSWER) as server:
        requests.get(server.url, timeout=5)
        assert "authorization" in server.requests[0].headers  # it would be read, if it were
        way(server.url, FAST, tmp_path)
        assert len(server.requests) == 2
        assert "authorization" not in server.requests[1].headers


def test_the_key_goes_to_the_api_only(tmp_path):
    source = tmp_path / "case.bin"
    source.write_bytes(b"bytes")
    with ScriptedServer(Answer(body=b"")) as store:
        link = f"{store.url}/bucket/case.bin?{SIGNATURE}"
        script = (Answer({"response": {"url": link}}), ANSWER, Answer({"response": {"id": 7, "name": "c", "size": 5}}))
        with ScriptedServer(*script) as api, client_of(api.url) as client:
            upload_file(client, FileSource(source), "caseA", "case.bin")
            assert [request.headers["x-api-key"] for request in api.requests] == [KEY] * 3
        (put,) = store.requests
        assert (put.method, put.body, put.headers["content-type"]) == ("PUT", b"bytes", "application/octet-stream")
        assert KEY not in repr(put)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status, tmp_path):
    with ScriptedServer() as elsewhere:
        away = Answer({}, status, {"Location": f"{elsewhere.url}/api/v2/simulation/view-cpu"})
        with ScriptedServer(away) as server, client_of(server.url) as client:
            for call in (client.view_cpu, client.delete_cache, lambda: client.add_simulation(LAUNCH)):
                with pytest.raises(CloudHPCAnswerError, match="redirect"):
                    call()
            # A download's redirect is its answer: given, not followed.
            assert client.download_url("7") == f"{elsewhere.url}/api/v2/simulation/view-cpu"
            with pytest.raises(CloudHPCError):
                put_signed(server.url, FAST, tmp_path)
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://cloud.example.com/api/v2", "must be https"),
        ("http://10.0.0.1/api/v2", "must be https"),
        ("http://127.0.0.1.example.com", "must be https"),
        ("http://localhost@evil.example.com", "user name or a password"),
        ("https://user:in-url-secret@cloud.example.com", "user name or a password"),
        ("https://cloud.example.com/api/v2?key=in-url-secret", "query"),
        ("ftp://cloud.example.com", "not a web address"),
        ("cloud.example.com", "not a web address"),
        ("https://", "not a web address"),
        ("https://cloud.example.com:none", "not a web address"),
        ("https://cloud.example.com:99999", "not a web address"),
        ("https://[::1", "not a web address"),
        ("https://cloud example.com", "not a web address"),
        ("https://.example.com", "not a web address"),
        ("", "not a web address"),
    ],
)
def test_addresses_that_are_refused(address, words):
    with pytest.raises(CloudHPCValueError, match=words) as caught:
        client_of(address.removesuffix("/api/v2"), network=FAST)
    assert "in-url-secret" not in "".join(map(str, caught.value.args))
    assert caught.value.__context__ is None


def test_plain_http_elsewhere_when_asked_for():
    client_of("http://cloud.example.com", network=NetworkOptions(allow_http=True)).close()
    for host in ("localhost", "127.0.0.1", "127.1.2.3", "[::1]", "LOCALHOST:8080"):
        client_of(f"http://{host}").close()


def test_the_key_goes_to_a_host_however_it_is_spelled():
    with ScriptedServer(ANSWER) as server, client_of(server.url.replace("127.0.0.1", "LocalHost")) as client:
        client.view_cpu()
        assert server.requests[0].headers["x-api-key"] == KEY


# -- what the log holds ------------------------------------------------------------------------------------------


def test_no_signed_query_in_the_debug_log(caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    scripts = (Answer(body=b"x"), Cut(), Answer(body=b"no", status=403), Answer(body=b"no", status=503))

    def fetch(number: int, url: str) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        for way in (get_signed, put_signed):
            try:
                way(url, FAST, folder)
            except CloudHPCError as error:
                logging.getLogger("test").exception("It failed: %s", error)

    with ScriptedServer(ANSWER, *scripts * 3, ANSWER) as server:
        requests.get(f"{server.url}/?canary=in-clear", timeout=5)
        threads = [threading.Thread(target=fetch, args=(number, server.url)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        requests.get(f"{server.url}/?canary=afterwards", timeout=5)
        assert len(server.requests) == 14
    assert "canary=in-clear" in caplog.text
    assert "canary=afterwards" in caplog.text  # others' queries are theirs
    assert "/bucket/case.bin?***" in caplog.text
    assert "f00dfeed" not in caplog.text


def test_no_key_in_the_debug_log(caplog):
    caplog.set_level(logging.DEBUG)
    for script in ((ANSWER,), (Cut(), ANSWER), (Answer({"errors": [KEY]}, 500), ANSWER)):
        with ScriptedServer(*script) as server, client_of(server.url) as client:
            client.view_cpu()
    assert "view-cpu" in caplog.text
    assert "Attempt 1 of 2" in caplog.text
    assert KEY not in caplog.text


def test_no_signed_query_in_the_log_of_a_broken_header(caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    bad = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nBad header line\r\nX: y\r\n\r\nabc"
    with ScriptedServer(Cut(bad)) as server, contextlib.suppress(CloudHPCError):
        get_signed(server.url, FAST, tmp_path)
    assert "Failed to parse headers" in caplog.text
    assert "f00dfeed" not in caplog.text


@pytest.mark.parametrize("way", [ask_api, put_signed, get_signed])
def test_a_redirect_to_nonsense_is_an_error_of_ours(way: Way, tmp_path):
    answer = Answer(status=302, headers={"Location": "http://[bad"})
    with ScriptedServer(answer) as server, pytest.raises(CloudHPCError):
        way(server.url, FAST, tmp_path)


def test_a_launch_redirected_to_nonsense_may_have_started():
    answer = Answer(status=302, headers={"Location": "http://[bad"})
    with (
        ScriptedServer(answer) as server,
        client_of(server.url, network=FAST, max_attempts=1) as client,
        pytest.raises(CloudHPCError) as failure,
    ):
        client.add_simulation(LAUNCH)
    assert getattr(failure.value, "sent", True) is True
    assert len(server.requests) == 1
