# SPDX-License-Identifier: Apache-2.0
"""An Airflow connection becomes a client: every way to write one, and what the Test button says."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.exceptions import AirflowNotFoundException

from airflow_provider_cloudhpc.api.client import DEFAULT_URL
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from tests.integration.scripted import Answer, ScriptedServer
from tests.simulated_time import begin_an_hour

KEY = "k3y/of+an=account~7f"


@pytest.fixture(scope="module")
def emulator() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0, api_key=KEY) as emulator:
        begin_an_hour(emulator)
        yield emulator


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CloudHPCHook]:
    """Make a hook of a connection that is kept in the environment, as JSON or as a URI."""

    def make(uri: str = "", **fields: Any) -> CloudHPCHook:
        document = {"conn_type": "cloudhpc", "password": KEY, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_ACCOUNT", uri or json.dumps(document))
        return CloudHPCHook("account")

    return make


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, DEFAULT_URL),
        ({"host": ""}, DEFAULT_URL),
        ({"host": "https://hpc.example.com"}, "https://hpc.example.com/api/v2"),
        ({"host": "https://hpc.example.com/"}, "https://hpc.example.com/api/v2"),
        ({"host": "https://hpc.example.com/api/v2"}, "https://hpc.example.com/api/v2"),
        ({"host": "https://hpc.example.com/behind/a/prefix"}, "https://hpc.example.com/behind/a/prefix/api/v2"),
        ({"host": "hpc.example.com"}, "https://hpc.example.com/api/v2"),
        ({"host": "hpc.example.com", "port": 8443}, "https://hpc.example.com:8443/api/v2"),
        ({"host": "hpc.example.com:8443"}, "https://hpc.example.com:8443/api/v2"),
        ({"host": "hpc.example.com/prefix", "port": 8443}, "https://hpc.example.com:8443/prefix/api/v2"),
        ({"host": "127.0.0.1", "port": 9000}, "http://127.0.0.1:9000/api/v2"),
        ({"host": "localhost:9000"}, "http://localhost:9000/api/v2"),
        ({"host": "hpc.example.com", "schema": "https"}, "https://hpc.example.com/api/v2"),
    ],
)
def test_where_a_connection_leads(hook: Callable[..., CloudHPCHook], fields: dict[str, Any], url: str) -> None:
    assert hook(**fields).get_conn().base_url == url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("cloudhpc://:key@", DEFAULT_URL),
        ("cloudhpc://:key@hpc.example.com", "https://hpc.example.com/api/v2"),
        ("cloudhpc://:key@hpc.example.com:8443/prefix", "https://hpc.example.com:8443/prefix/api/v2"),
        ("cloudhpc://:key@https%3A%2F%2Fhpc.example.com%2Fprefix", "https://hpc.example.com/prefix/api/v2"),
    ],
)
def test_where_a_uri_leads(hook: Callable[..., CloudHPCHook], uri: str, url: str) -> None:
    assert hook(uri).get_conn().base_url == url


def test_extras_reach_the_client(hook: Callable[..., CloudHPCHook], tmp_path: Any) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    extra = {
        "connect_timeout": "3",
        "read_timeout": 7.5,
        "proxies": '{"https": "http://proxy:3128"}',
        "ca_bundle": str(bundle),
        "allow_http": "true",
        "quota_share": "0.25",
    }
    made = hook(host="http://hpc.example.com", extra=json.dumps(extra))
    network = made.get_conn().network
    assert (network.connect_timeout, network.read_timeout) == (3.0, 7.5)
    assert network.proxies == {"https": "http://proxy:3128"}
    assert network.ca_bundle == str(bundle)
    assert network.allow_http is True
    assert made.quota_share == 0.25


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": ""}, "key"),
        ({"host": "http://hpc.example.com"}, "http"),
        ({"host": "hpc.example.com:eighty"}, "hpc.example.com:eighty"),
        ({"host": "https://user:secret@hpc.example.com:8o80"}, "hpc.example.com:8o80"),
        ({"host": "[::1"}, "'[::1'"),
        ({"host": "http://[x"}, "'http://[x'"),
        ({"host": "localhost:99999"}, "between 1 and 65535"),
        ({"extra": '{"connect_timeout": 1e300}'}, "connect_timeout is 1e+300"),
        ({"extra": '{"read_timeout": "soon"}'}, "read_timeout is 'soon'"),
        ({"extra": '{"read_timeout": 0}'}, "read_timeout is 0"),
        ({"extra": '{"quota_share": 1.5}'}, "quota_share is 1.5"),
        ({"extra": '{"allow_http": "perhaps"}'}, "allow_http is 'perhaps'"),
        ({"extra": '{"ca_bundle": "/no/such/file.pem"}'}, "'/no/such/file.pem'"),
        ({"extra": '{"proxies": ["http://user:secret@proxy"]}'}, "proxies"),
        ({"extra": '["a"]'}, "not a JSON object"),
    ],
)
def test_what_cannot_be_used_is_said(hook: Callable[..., CloudHPCHook], fields: dict[str, Any], words: str) -> None:
    made = hook(**fields)
    with pytest.raises(CloudHPCValueError, match=re.escape(words)) as failure:
        _ = made.get_conn(), made.quota_share
    assert KEY not in str(failure.value)
    assert "secret" not in str(failure.value)
    assert made.test_connection() == (False, str(failure.value))


def test_an_unknown_connection_is_named() -> None:
    with pytest.raises(AirflowNotFoundException, match="cloudhpc_conn_id is 'nowhere': there is no such connection"):
        CloudHPCHook("nowhere").get_conn()


def test_the_test_button_says_how_many_calls_are_left(
    hook: Callable[..., CloudHPCHook], emulator: CloudHPCEmulator
) -> None:
    emulator.control.set_quota(100, 0)
    works, said = hook(host=emulator.url).test_connection()
    assert works
    assert said == f"{emulator.api_url} accepts the key; 99 of 100 calls left this hour, no limit today."


def test_the_test_button_says_that_the_key_is_wrong(
    hook: Callable[..., CloudHPCHook], emulator: CloudHPCEmulator
) -> None:
    works, said = hook(host=emulator.url, password="another-key-of-mine").test_connection()
    assert not works
    assert "key" in said.lower()
    assert "another-key-of-mine" not in said


def test_the_test_button_says_that_nobody_answers(hook: Callable[..., CloudHPCHook]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    works, said = hook(host="127.0.0.1", port=port).test_connection()
    assert not works
    assert "127.0.0.1" in said
    assert "GET /simulation/view-cpu" in said


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body=b"<html>login</html>"), "HTML"),
        (Answer(status=302, headers={"Location": "https://elsewhere.example.com/"}), "redirect"),
    ],
)
def test_the_test_button_says_that_this_is_no_cloudhpc(
    hook: Callable[..., CloudHPCHook], answer: Answer, words: str
) -> None:
    with ScriptedServer(*[answer] * 8) as server:
        works, said = hook(host=server.url).test_connection()
    assert not works
    assert words.lower() in said.lower()


def test_the_test_button_says_that_the_calls_are_used_up(
    hook: Callable[..., CloudHPCHook], emulator: CloudHPCEmulator
) -> None:
    emulator.control.set_quota(1, 0)
    made = hook(host=emulator.url)
    made.test_connection()
    works, said = made.test_connection()
    assert not works
    assert "calls" in said
    emulator.control.set_quota(100, 0)
