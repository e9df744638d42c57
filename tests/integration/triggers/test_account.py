# SPDX-License-Identifier: Apache-2.0
"""What the waits of one account share: the poller, its pauses, the news of a new key."""

from __future__ import annotations

import json

from airflow_provider_cloudhpc.api.lifecycle import EndingKind
from tests.integration.connection import CONN_ID, connect


def test_connections_of_one_key_share_a_poller_that_ends_with_its_last_wait(service, run, monkeypatch):
    other_key = service.control.add_user("other")
    connect(monkeypatch, service, "same_key")
    connect(monkeypatch, service, "other_key", key=other_key)
    first, second = service.control.simulation(count=2, pending=1, running=200)
    (foreign,) = service.control.simulation(user="other", pending=1, running=None)

    async def story(waits):
        await waits.begin(first)
        await waits.begin(second, conn_id="same_key")
        assert waits.pollers.running == 1
        await waits.begin(foreign, conn_id="other_key")
        assert waits.pollers.running == 2
        digests = {(await waits.pollers.connect(name)).digest for name in (CONN_ID, "same_key", "other_key")}
        assert len(digests) == 2
        assert not any(service.api_key in digest or other_key in digest for digest in digests)
        await waits.advance(300)
        assert waits.ending(first).kind is waits.ending(second).kind is EndingKind.COMPLETED
        assert waits.pollers.running == 1
        service.control.finish(foreign)
        await waits.advance(100)
        assert waits.pollers.running == 0

    run(story)


def test_an_account_is_the_same_however_its_host_is_spelled(service, run, monkeypatch):
    hosts = ["", "cloud.cfdfeaservice.it", "HTTPS://Cloud.CFDFEAservice.it/", "cloud.cfdfeaservice.it:443/api/v2/"]

    async def story(waits):
        digests = set()
        for number, host in enumerate(hosts):
            document = {"conn_type": "cloudhpc", "host": host, "password": service.api_key}
            monkeypatch.setenv(f"AIRFLOW_CONN_SPELLED_{number}", json.dumps(document))
            digests.add((await waits.pollers.connect(f"spelled_{number}")).digest)
        assert len(digests) == 1
        assert (await waits.pollers.connect(CONN_ID)).digest not in digests

    run(story)


def test_a_connection_is_looked_up_again_after_some_minutes_only(service, run, monkeypatch):
    async def story(waits):
        before = (await waits.pollers.connect(CONN_ID)).digest
        connect(monkeypatch, service, key="another-key")
        await waits.advance(200)
        assert (await waits.pollers.connect(CONN_ID)).digest == before
        await waits.advance(200)
        assert (await waits.pollers.connect(CONN_ID)).digest != before

    run(story)


def test_a_refusal_pauses_all_waits_as_long_as_is_said_and_each_log_tells_it_once(service, run):
    simulations = service.control.simulation(count=5, pending=1, running=2000)

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(100)
        service.control.fault("rate_limit", times=2, retry_after=900)
        await waits.advance(70)
        refused = waits.calls()
        await waits.advance(800)
        assert waits.calls() == refused
        await waits.advance(3000)

    waits = run(story)
    assert {waits.ending(number).kind for number in simulations} == {EndingKind.COMPLETED}
    for number in simulations:
        told = [line for line in waits.lines[number] if "All waits of this account pause until" in line]
        assert len(told) == 1


def test_a_refused_key_is_confirmed_by_a_second_call_a_minute_later(service, run):
    simulations = service.control.simulation(count=3, pending=1, running=None)
    found = {}

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(100)
        service.control.revoke_key()
        found["revoked"], found["calls"] = waits.clock.time(), waits.calls()
        await waits.advance(400)

    waits = run(story)
    for number in simulations:
        ending = waits.ending(number)
        assert ending.kind is EndingKind.LOST
        assert "Lost sight of simulation" in ending.message
        assert "last seen: RUNNING at" in ending.message
        assert waits.ended_at[number] - found["revoked"] >= 60
        assert any("Looking again in 60 s" in line for line in waits.lines[number])
    assert waits.calls() - found["calls"] == 2


def test_a_key_rotated_meanwhile_is_found_in_the_connection(service, run, monkeypatch):
    simulations = service.control.simulation(count=3, pending=1, running=1000)

    async def story(waits):
        for number in simulations:
            await waits.begin(number)
        await waits.advance(100)
        connect(monkeypatch, service, key=service.control.rotate_key())
        await waits.advance(1200)
        assert waits.pollers.running == 0

    waits = run(story)
    assert {waits.ending(number).kind for number in simulations} == {EndingKind.COMPLETED}
