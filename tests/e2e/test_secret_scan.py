# SPDX-License-Identifier: Apache-2.0
"""The secret scan finds a canary wherever one is planted; only then does its silence mean something."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
from contextlib import closing
from urllib.parse import quote

import pytest

from tests.e2e.airflow_home import AirflowHome
from tests.e2e.secret_scan import scan_airflow, scan_bytes

CANARY = 'canary "7f/3+ä=&' + "x" * 9


@pytest.mark.parametrize(
    "written",
    [
        CANARY.encode(),
        quote(CANARY).encode(),
        quote(CANARY, safe="").encode(),
        json.dumps({"key": CANARY}).encode(),
        repr({"key": CANARY}).encode(),
        base64.b64encode(CANARY.encode()),
        base64.b64encode(b"k:" + CANARY.encode()),
        base64.b64encode(b"user:" + CANARY.encode() + b":more"),
        base64.urlsafe_b64encode(b"abc" + CANARY.encode() + b"??>>"),
        gzip.compress(CANARY.encode()),
    ],
    ids=["raw", "url", "url-all", "json", "repr", "base64", "base64-2", "base64-5", "base64-url", "gzip"],
)
def test_finds_every_form(written):
    assert (
        scan_bytes(b"before " + written + b" after" if written[:2] != b"\x1f\x8b" else written, [CANARY], "here") != []
    )


@pytest.mark.parametrize("length", range(8, 14))
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
def test_finds_base64_at_any_offset(length, before, after):
    secret = "k3y-of-an-account"[:length]
    written = base64.b64encode(b"\xff" * before + secret.encode() + b"\xff" * after)
    assert scan_bytes(written, [secret], "here") != []


@pytest.mark.parametrize(
    "written",
    [
        b"GET /bucket/a?X-Goog-Algorithm=G&X-Goog-Signature=0a1b2c3d HTTP/1.1",
        b"x-goog-signature%3D0a1b2c3d",
        b'"https:\\/\\/h\\/a?X-Goog-Signature\\u003d0a1b2c3d"',
        b"X-Amz-Signature=0a1b2c3d",
    ],
)
def test_finds_a_signed_query(written):
    assert [finding.form for finding in scan_bytes(written, [], "here")] == ["signed query"]


def test_a_redacted_query_is_no_finding():
    assert scan_bytes(b"https://h/a?X-Goog-Signature=*** and X-Goog-Signature= alone", [CANARY], "here") == []


def test_finds_a_canary_in_every_place_of_an_airflow(tmp_path):
    home = AirflowHome(tmp_path / "airflow", tmp_path)
    places = {
        "logs/dag_id=d/run_id=r/task_id=t/attempt=1.log": CANARY.encode(),
        "logs/dag_id=d/run_id=r/task_id=t/attempt=1.log.trigger.3.log": quote(CANARY, safe="").encode(),
        "stdout/triggerer.log": base64.b64encode(CANARY.encode()),
    }
    assert scan_airflow(home, [CANARY]) == []
    for place, written in places.items():
        file = home.home / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(written)
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute("CREATE TABLE xcom (key TEXT, value BLOB)")
        connection.execute("INSERT INTO xcom VALUES ('return_value', ?)", [json.dumps([CANARY]).encode()])
        connection.execute("CREATE TABLE rendered_task_instance_fields (rendered_fields TEXT)")
        connection.execute("INSERT INTO rendered_task_instance_fields VALUES (?)", [json.dumps({"a": CANARY})])
        connection.execute("CREATE TABLE trigger (id INTEGER, classpath TEXT, kwargs TEXT)")
        connection.execute("INSERT INTO trigger VALUES (1, 'a.Trigger', ?)", [json.dumps({"key": CANARY})])
        connection.commit()
    home.look_at_triggers()
    found = {finding.place for finding in scan_airflow(home, [CANARY])}
    assert found >= {
        *places,
        "database xcom.value",
        "database rendered_task_instance_fields.rendered_fields",
        "trigger a.Trigger",
    }
