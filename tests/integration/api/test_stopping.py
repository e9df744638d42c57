# SPDX-License-Identifier: Apache-2.0
"""What is active is found, also by listings that are not in the order that was asked for."""

from __future__ import annotations

from airflow_provider_cloudhpc.api.stopping import find_active
from tests.integration.api.test_client import client_of
from tests.integration.scripted import Answer, ScriptedServer


def page(*records: tuple[int, int, str]) -> Answer:
    names = ("id", "status", "edate")
    return Answer({"response": [{**dict(zip(names, record, strict=True)), "folder": "case/"} for record in records]})


ENDED = (3, 10, "2026-11-25 10:00:00"), (4, 10, "2026-11-25 11:00:00")


def test_a_page_in_order_without_an_active_one_is_the_last() -> None:
    with ScriptedServer(page((1, 30, ""), (2, 30, "")), page(*ENDED)) as server:
        found = find_active(client_of(server.url), "case".__eq__)
    assert [simulation.id for simulation in found] == [1, 2]


def test_a_page_out_of_order_is_not_the_last() -> None:
    with ScriptedServer(page(*reversed(ENDED)), page((2, 30, "")), page(*ENDED)) as server:
        found = find_active(client_of(server.url), "case".__eq__)
    assert [simulation.id for simulation in found] == [2]
