# SPDX-License-Identifier: Apache-2.0
"""COMPLETED does not mean solved: the output decides, in every mode and with what the user said about it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
from airflow_provider_cloudhpc.task import CloudHPCLostSightError
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask
from tests.integration.scripted import Answer, ScriptedServer

CRASHED = "mpirun noticed that process rank 0 was KILLED BY SIGNAL: 9"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        connect(monkeypatch, emulator)
        yield emulator


@pytest.fixture
def ended(service: CloudHPCEmulator) -> Callable[..., int]:
    """A simulation that has ended."""

    def end(ending: str = "completed", output: str = "") -> int:
        (simulation_id,) = service.control.simulation(folder="case", script="custom-script", cpu=2, ram="highcpu")
        service.control.finish(simulation_id, ending, output)
        return simulation_id

    return end


def wait(simulation_id: int, **arguments: Any) -> Any:
    """Run a sensor to its end as Airflow does."""
    task = AirflowTask(lambda: CloudHPCSimulationSensor(task_id="wait", simulation_id=simulation_id, **arguments))
    context = task.context()
    try:
        return context["task"].execute(context)
    except TaskDeferred as deferral:
        trigger = deferral.trigger

    async def first_event() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(event.payload)
        raise AssertionError("no event")

    return context["task"].execute_complete(context, asyncio.run(first_event()))


@pytest.mark.parametrize("deferrable", [False, True])
def test_completed_with_an_error_in_its_output_fails(ended: Callable[..., int], deferrable: bool) -> None:
    simulation_id = ended(output=CRASHED)
    with pytest.raises(AirflowFailException) as failure:
        wait(simulation_id, deferrable=deferrable)
    message = str(failure.value)
    assert f"Simulation {simulation_id} is COMPLETED for the service, but its solver FAILED" in message
    assert CRASHED in message
    assert "'standard'" in message
    assert f"/en/simulation/view/{simulation_id}" in message


def test_a_clean_end_is_told_in_a_report(ended: Callable[..., int], caplog: pytest.LogCaptureFixture) -> None:
    simulation_id = ended(output="the residual is 1e-6")
    caplog.set_level(logging.INFO)
    record = wait(simulation_id)
    assert record["status"] == "COMPLETED"
    assert record["diagnosis"]["severity"] is None
    assert json.loads(json.dumps(record)) == record
    report = [line.message for line in caplog.records if line.name == "airflow_provider_cloudhpc.task"]
    assert report[0] == f"Simulation {simulation_id} (custom-script on 2 x highcpu) in folder case"
    rows = {line[4:15].strip(): line[15:] for line in report[1:]}
    assert list(rows) == ["Status", "Wall time", "Queue time", "Billed", "Diagnosis", "Page"]
    assert "vCPU-hours" in rows["Billed"]
    assert "EUR" in rows["Billed"]


def test_warn_succeeds_and_the_record_tells(ended: Callable[..., int], caplog: pytest.LogCaptureFixture) -> None:
    record = wait(ended(output=CRASHED), check_output="warn")
    assert record["diagnosis"]["out_of_memory"] is True
    assert record["diagnosis"]["next_ram"] == "standard"
    assert any(CRASHED in line.message and line.levelno == logging.WARNING for line in caplog.records)
    assert "its output holds an error: taken as it is" in caplog.text


def test_off_reads_nothing(ended: Callable[..., int], service: CloudHPCEmulator) -> None:
    record = wait(ended(output=CRASHED), check_output=False)
    assert record["status"] == "COMPLETED"
    assert record["diagnosis"] is None
    assert service.ledger.count("GET /simulation/view/{id}") == 0


def test_the_output_is_read_once(ended: Callable[..., int], service: CloudHPCEmulator) -> None:
    wait(ended())
    assert service.ledger.count("GET /simulation/view/{id}") == 1


def test_soft_fail_skips_a_failed_solver(ended: Callable[..., int]) -> None:
    with pytest.raises(AirflowSkipException, match="solver FAILED"):
        wait(ended(output=CRASHED), soft_fail=True)


def test_that_one_which_was_stopped_did_not_finish_is_no_finding(ended: Callable[..., int]) -> None:
    output = "mpirun noticed that process rank 0 exited on signal 15 (Terminated)"
    record = wait(ended("stopped", output), accept_stopped=True)
    assert record["diagnosis"]["findings"] == []
    with pytest.raises(AirflowFailException) as failure:
        wait(ended("stopped", output))
    assert "signal 15" not in str(failure.value)


@pytest.mark.parametrize("ending", ["error", "stopped"])
def test_other_endings_carry_the_last_lines(
    ended: Callable[..., int], caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    with pytest.raises(AirflowFailException, match=r"KILLED_BY_SIGNAL_9: .*KILLED BY SIGNAL: 9"):
        wait(ended(ending, f"step 17\n{CRASHED}"))
    assert "  | step 17" in caplog.messages


@pytest.mark.parametrize(
    ("ending", "told"),
    [("error", "no line of its output is known to explain it"), ("stopped", "no error in its output")],
)
def test_an_output_that_explains_nothing_is_told_as_such(
    ended: Callable[..., int], caplog: pytest.LogCaptureFixture, ending: str, told: str
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(AirflowFailException):
        wait(ended(ending, "step 17"))
    assert f"Diagnosis  {told}" in caplog.text


@pytest.mark.parametrize("limit", [50_000, "5e4"])
def test_beyond_the_limit_is_never_clean(ended: Callable[..., int], limit: int | str) -> None:
    record = wait(ended(output="a line of forty characters, all of them.\n" * 5000), max_output_bytes=limit)
    assert record["diagnosis"]["checked"] == "partial"
    assert "not fully checked" in record["diagnosis"]["summary"]
    assert record["status"] == "COMPLETED"
    assert record["cost"] is not None


def test_the_end_of_an_output_that_is_too_long_is_read(ended: Callable[..., int]) -> None:
    steps = "a line of forty characters, all of them.\n" * 5000
    with pytest.raises(AirflowFailException, match="KILLED_BY_SIGNAL_9"):
        wait(ended(output=f"{steps}{CRASHED}\n@@@ END\n"), max_output_bytes=50_000)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_an_output_that_cannot_be_read_is_no_success(
    ended: Callable[..., int], service: CloudHPCEmulator, soft_fail: bool
) -> None:
    simulation_id = ended()
    service.control.fault("html", "GET /simulation/view/{id}", times=None)
    with pytest.raises(CloudHPCLostSightError, match="whether its solver succeeded is NOT known"):
        wait(simulation_id, soft_fail=soft_fail)
    assert wait(simulation_id, check_output="warn")["diagnosis"] is None


def test_a_run_that_has_ended_is_not_told_to_run_on_at_the_deadline(
    ended: Callable[..., int], service: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_cloudhpc.api.wire.sending.FIRST_PAUSE", 0.01)
    simulation_id = ended()
    service.control.fault("html", "GET /simulation/view/{id}", times=None)
    with pytest.raises(CloudHPCLostSightError, match=r"has completed .* It bills no longer"):
        wait(simulation_id, silent_fail=True, timeout=0.5, poke_interval=0.1, on_timeout="hard")
    assert service.ledger.stops == []


RECORD = {"id": 7, "folder": "case", "script": "fds6.9.1", "cpu": 8, "ram": "highcpu"}
GOES_ON, SUCCESS = "Starting FDS\n Time Step 1\n", "Starting FDS\nSTOP: FDS completed successfully\n"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ScriptedServer]]:
    """A service that gives a record with one status and output after another; the last one again."""
    monkeypatch.setattr("airflow_provider_cloudhpc.api.diagnosis.examination._OLD_PAUSE", 0.01)
    monkeypatch.setattr("airflow_provider_cloudhpc.api.wire.sending.FIRST_PAUSE", 0.01)
    with ScriptedServer() as server:

        def give(*looks: tuple[int, str]) -> ScriptedServer:
            server.script = tuple(Answer({"response": {**RECORD, "status": s, "output": text}}) for s, text in looks)
            connection = {"conn_type": "cloudhpc", "host": server.url, "password": "a-key"}
            monkeypatch.setenv("AIRFLOW_CONN_CLOUDHPC_DEFAULT", json.dumps(connection))
            return server

        yield give


@pytest.mark.parametrize(("status", "words"), [(60, "ended with an ERROR"), (50, "was STOPPED")])
def test_the_record_that_is_read_last_has_the_last_word(
    looks: Callable[..., ScriptedServer], status: int, words: str
) -> None:
    looks((10, ""), (status, SUCCESS))
    with pytest.raises(AirflowFailException, match=words):
        wait(7, deferrable=False)


def test_an_output_of_when_it_still_ran_is_not_judged(looks: Callable[..., ScriptedServer]) -> None:
    server = looks((10, ""), (30, GOES_ON), (30, GOES_ON), (10, SUCCESS))
    record = wait(7, deferrable=False)
    assert (record["status"], record["diagnosis"]["finished"]) == ("COMPLETED", True)
    assert len(server.requests) == 4


@pytest.mark.parametrize("old", [GOES_ON, "", f"{GOES_ON}KILLED BY SIGNAL: 9"])
def test_an_output_that_stays_older_than_the_end_is_neither_success_nor_failure(
    looks: Callable[..., ScriptedServer], old: str
) -> None:
    server = looks((10, ""), (30, old))
    with pytest.raises(CloudHPCLostSightError, match=r"NOT known: .* of when it was RUNNING"):
        wait(7, deferrable=False)
    assert len(server.requests) == 5


def test_an_unknown_choice_is_refused_before_any_call(ended: Callable[..., int], service: CloudHPCEmulator) -> None:
    simulation_id, before = ended(), service.ledger.count("*")
    with pytest.raises(AirflowFailException, match=r"check_output is 'maybe': one of True, 'warn', False"):
        wait(simulation_id, check_output="maybe")
    assert service.ledger.count("*") == before
