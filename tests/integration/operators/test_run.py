# SPDX-License-Identifier: Apache-2.0
"""Upload, launch and wait in one task: billed once, stopped when killed, launched again only where asked for."""

from __future__ import annotations

import asyncio
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException, TaskDeferred
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout

from airflow_provider_cloudhpc import killing
from airflow_provider_cloudhpc.api.errors import CloudHPCAnswerError
from airflow_provider_cloudhpc.api.names import mint_folder
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.links import LINK_KEY
from airflow_provider_cloudhpc.operators.running import CloudHPCSimulationFailedError
from airflow_provider_cloudhpc.operators.simulation import CloudHPCRunSimulationOperator
from tests.integration.operators.airflow_task import AirflowTask

OUT_OF_MEMORY = "mpirun noticed that process rank 0 was KILLED BY SIGNAL: 9"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "run.sh").write_text("true\n")
    return folder


@pytest.fixture
def task(case: Path) -> Callable[..., AirflowTask]:
    def make(*, remembers: bool = True, retries: int = 2, **arguments: Any) -> AirflowTask:
        given = {"cpu": 2, "ram": "highcpu", "script": "custom-script", "source": str(case), "settle": 1, **arguments}
        return AirflowTask(
            lambda: CloudHPCRunSimulationOperator(task_id="run", **given), retries=retries, remembers=remembers
        )

    return make


def at_once(cloudhpc: CloudHPCEmulator, ending: str = "completed", output: str = "", times: int | None = None) -> None:
    """Let the launches that follow end at once."""
    cloudhpc.control.plan(times=times, pending=0, running=0, ending=ending, output=output)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_folder_goes_up_is_run_and_its_record_comes_back(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    at_once(cloudhpc)
    made = task(remembers=remembers)
    record = made.run()
    assert record["status"] == "COMPLETED"
    assert record["diagnosis"]["severity"] is None
    (launch,) = cloudhpc.ledger.launches
    assert launch.id == record["id"] == made.instance.xcoms["simulation_id"]
    assert made.instance.xcoms[LINK_KEY].endswith(f"/{launch.id}")
    assert cloudhpc.control.files() == [f"{launch.folder}/upload.tar.gz"]
    assert cloudhpc.ledger.violations == []


def test_a_file_goes_up(cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], case: Path) -> None:
    at_once(cloudhpc)
    task(source=str(case / "run.sh")).run()
    assert cloudhpc.control.files() == [f"{cloudhpc.ledger.launches[0].folder}/run.sh"]


def test_what_is_there_already_is_run_without_an_upload(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]
) -> None:
    cloudhpc.control.file("mine/run.sh", b"true")
    at_once(cloudhpc)
    assert task(source=None, folder="mine").run()["folder"] == "mine"
    assert cloudhpc.ledger.count("POST /storage/upload-url") == 0


def test_deferred_it_ends_the_same(cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]) -> None:
    at_once(cloudhpc, output="the residual is 1e-6")
    made = task(deferrable=True)
    with pytest.raises(TaskDeferred) as deferral:
        made.run()
    assert made.instance.xcoms["simulation_id"] == cloudhpc.ledger.launches[0].id

    async def event() -> dict[str, Any]:
        async for event in deferral.value.trigger.run():
            return dict(event.payload)
        raise AssertionError("no event")

    context = made.context()
    record = context["task"].execute_complete(context, asyncio.run(event()))
    assert record["status"] == "COMPLETED"
    assert record["diagnosis"]["checked"] == "full"
    kwargs = deferral.value.trigger.serialize()[1]
    assert kwargs["stop_on_kill"] == "soft"
    assert cloudhpc.api_key not in str(kwargs)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_retry_goes_on_and_sends_nothing_again(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    made = task(deferrable=True, remembers=remembers)
    for attempt in (made.run, made.retry, made.retry):
        with pytest.raises(TaskDeferred):
            attempt()
    assert len(cloudhpc.ledger.launches) == 1
    assert cloudhpc.ledger.count("POST /storage/upload-url") == 1
    assert cloudhpc.ledger.stops == []


@pytest.mark.parametrize("remembers", [True, False])
def test_a_retry_takes_one_that_has_ended_without_another_trigger(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    made = task(deferrable=True, remembers=remembers)
    with pytest.raises(TaskDeferred):
        made.run()
    cloudhpc.control.finish(cloudhpc.ledger.launches[0].id)
    assert made.retry()["status"] == "COMPLETED"


@pytest.mark.parametrize("remembers", [True, False])
def test_a_clear_stops_the_old_one_and_runs_again(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    cloudhpc.control.settings(soft_stop_seconds=0)
    cloudhpc.control.plan(pending=0, running=None)
    made = task(deferrable=True, remembers=remembers)
    with pytest.raises(TaskDeferred):
        made.run()
    with pytest.raises(TaskDeferred):
        made.clear()
    first, second = cloudhpc.ledger.launches
    assert [stop.id for stop in cloudhpc.ledger.stops] == [first.id]
    assert first.folder != second.folder


def test_a_retry_that_meets_one_that_was_stopped_says_how_to_launch_again(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]
) -> None:
    """As after a Clear of a running task before Airflow 3.3, which looks like a retry."""
    cloudhpc.control.plan(pending=0, running=None)
    made = task(deferrable=True, remembers=False)
    with pytest.raises(TaskDeferred):
        made.run()
    cloudhpc.control.finish(cloudhpc.ledger.launches[0].id, "stopped")
    with pytest.raises(AirflowFailException, match=r"was STOPPED .* clear it \(again\) to launch again"):
        made.retry()
    assert len(cloudhpc.ledger.launches) == 1


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("ending", ["error", "crashed"])
def test_a_failed_simulation_is_not_launched_again(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], ending: str, remembers: bool
) -> None:
    at_once(cloudhpc, ending, "Segmentation fault (core dumped)")
    made = task(remembers=remembers)
    for attempt in (made.run, made.retry):
        with pytest.raises(AirflowFailException):
            attempt()
    assert len(cloudhpc.ledger.launches) == 1


@pytest.mark.parametrize("remembers", [True, False])
def test_a_failed_simulation_is_launched_again_where_that_is_asked_for(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    at_once(cloudhpc, "error", times=1)
    at_once(cloudhpc)
    made = task(relaunch_on_failure=True, remembers=remembers)
    with pytest.raises(CloudHPCSimulationFailedError, match="If a retry is left, it launches again"):
        made.run()
    assert made.retry()["status"] == "COMPLETED"
    assert len(cloudhpc.ledger.launches) == 2


@pytest.mark.parametrize("remembers", [True, False])
def test_out_of_memory_climbs_the_ladder(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    at_once(cloudhpc, output=OUT_OF_MEMORY)
    made = task(ram_ladder=["highcpu", "standard", "highmem"], retries=5, remembers=remembers)
    for attempt, following in ((made.run, "standard"), (made.retry, "highmem")):
        with pytest.raises(CloudHPCSimulationFailedError, match=f"on '{following}'"):
            attempt()
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="KILLED_BY_SIGNAL_9"):
            made.retry()
    assert [launch.ram for launch in cloudhpc.ledger.launches] == ["highcpu", "standard", "highmem"]
    assert cloudhpc.ledger.count("POST /storage/upload-url") == 1


@pytest.mark.parametrize("remembers", [True, False])
def test_a_rung_whose_launch_is_not_seen_yet_is_not_launched_again(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    """The try that climbed lost sight of its launch; at first the next one sees nothing but the rung below it."""
    at_once(cloudhpc, "error", OUT_OF_MEMORY, times=1)
    at_once(cloudhpc)
    given = {"remembers": remembers, "ram_ladder": ["highcpu", "standard", "highmem"]}
    made, patient = task(settle=0, **given), task(settle=12, **given)
    patient.store, patient.instance = made.store, made.instance
    with pytest.raises(CloudHPCSimulationFailedError):
        made.run()
    listing = "GET simulation/index-short/*"
    cloudhpc.control.fault("late_effect", "POST simulation/add", after=5)
    cloudhpc.control.fault("unavailable", listing, times=None, retry_after=0, skip=0 if remembers else 1)
    with pytest.raises(CloudHPCAnswerError):
        made.retry()
    cloudhpc.control.clear_faults()
    assert patient.retry()["ram"] == "standard"
    assert cloudhpc.ledger.count("POST /simulation/add") == len(cloudhpc.ledger.launches) == 2


def test_a_rung_that_is_not_offered_is_found_before_anything_is_billed(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]
) -> None:
    with pytest.raises(AirflowFailException, match="ram_ladder is 'hihgmem': this account is not offered it"):
        task(ram_ladder=["highcpu", "standard", "hihgmem"]).run()
    assert cloudhpc.ledger.launches == []
    assert cloudhpc.control.files() == []


@pytest.mark.parametrize("remembers", [True, False])
def test_a_failure_that_is_no_lack_of_memory_climbs_nothing(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], remembers: bool
) -> None:
    at_once(cloudhpc, output="Cannot find system/controlDict")
    made = task(ram_ladder=["highcpu", "standard"], remembers=remembers)
    with pytest.raises(AirflowFailException):
        made.run()
    assert len(cloudhpc.ledger.launches) == 1


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("ending", ["completed", "out of memory"])
def test_what_a_lost_answer_left_is_taken_by_adopt_and_a_clear_as_the_message_says(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], ending: str, remembers: bool
) -> None:
    """A Clear mints another folder; what is adopted is where it is."""
    cloudhpc.control.fault("reset_before", "POST simulation/add")
    made = task(remembers=remembers, settle=0)
    with pytest.raises(AirflowFailException, match="set adopt=<its id> and clear this task"):
        made.run()
    own = mint_folder("dag", "manual__1", "run", -1, 2)
    (number,) = cloudhpc.control.simulation(folder=own, ram="highcpu", pending=0, running=None)  # its effect, late
    cloudhpc.control.finish(number, "completed", OUT_OF_MEMORY if ending == "out of memory" else "done")
    (late,) = cloudhpc.ledger.launches
    adopting = task(adopt=late.id, remembers=remembers, ram_ladder=["highcpu", "standard"])
    adopting.store, adopting.instance = made.store, made.instance
    if ending == "completed":
        assert adopting.clear()["id"] == late.id
    else:
        for attempt in (adopting.clear, adopting.retry):
            with pytest.raises(AirflowFailException, match=r"taken by adopt=.*remove that and clear this task"):
                attempt()
    assert len(cloudhpc.ledger.launches) == 1
    assert made.instance.xcoms["folder"] == late.folder
    assert made.instance.xcoms["cloudhpc_launch_record"]["folder"] == late.folder


def test_what_follows_one_that_was_adopted_is_launched_where_its_case_is(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]
) -> None:
    cloudhpc.control.plan(pending=0, running=None, output=OUT_OF_MEMORY)
    made = task(deferrable=True)
    with pytest.raises(TaskDeferred):
        made.run()
    (first,) = cloudhpc.ledger.launches
    made.instance.max_tries = made.instance.try_number + made.retries  # a Clear
    adopting, going_on = (
        task(adopt=first.id, deferrable=True),
        task(ram_ladder=["highcpu", "standard"], deferrable=True),
    )
    for other, attempt in ((adopting, adopting.retry), (going_on, going_on.retry)):
        other.store, other.instance = made.store, made.instance
        with pytest.raises(TaskDeferred):
            attempt()
        if other is adopting:
            cloudhpc.control.finish(first.id)
    assert [(launch.ram, launch.folder) for launch in cloudhpc.ledger.launches] == [
        ("highcpu", first.folder),
        ("standard", first.folder),
    ]


@pytest.mark.parametrize("timeout", [timedelta(seconds=0.5), "0.5"])
def test_a_deadline_comes_as_it_likes(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], timeout: Any
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    with pytest.raises(AirflowSensorTimeout, match="The deadline passed"):
        task(timeout=timeout).run()


@pytest.mark.parametrize(("policy", "signals"), [("soft", ["SIGTSTP"]), ("hard", ["SIGINT"]), ("leave", [])])
def test_at_the_deadline_the_policy_acts(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], policy: str, signals: list[str]
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    with pytest.raises(AirflowSensorTimeout, match="The deadline passed"):
        task(timeout=0.5, on_timeout=policy).run()
    assert [stop.signal for stop in cloudhpc.ledger.stops] == signals


def test_at_its_limit_it_fails_for_good_and_the_policy_acts(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    with pytest.raises(AirflowFailException, match=r"cost what it may cost \(max_vcpu_hours=0.0005\)"):
        task(max_vcpu_hours=0.0005, on_timeout="soft").run()
    assert [stop.signal for stop in cloudhpc.ledger.stops] == ["SIGTSTP"]


def test_what_its_execution_timeout_kills_is_stopped_and_says_so(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    made = task(deferrable=True)
    context = made.context()
    with pytest.raises(TaskDeferred):
        context["task"].execute(context)
    try:
        raise AirflowTaskTimeout("after 1 s")
    except AirflowTaskTimeout:
        context["task"].on_kill()
    (stop,) = cloudhpc.ledger.stops
    assert stop.signal == "SIGTSTP"
    cloudhpc.control.jump(60)
    retried = task()
    retried.store, retried.instance = made.store, made.instance
    with pytest.raises(AirflowFailException, match="This task itself stopped it, when it was killed"):
        retried.retry()
    assert len(cloudhpc.ledger.launches) == 1


@contextmanager
def timeout_after(seconds: float, task: Any) -> Iterator[None]:
    """Airflow's own way to end a task at its ``execution_timeout``: an exception out of a signal, then ``on_kill``."""

    def ring(*_: Any) -> None:
        raise AirflowTaskTimeout("after a while")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except AirflowTaskTimeout:
        task.on_kill()
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_timeout_after_a_post_without_an_answer_stops_what_comes_of_it(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask]
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    cloudhpc.control.settings(simulation_lag=3)
    cloudhpc.control.fault("reset_after", "POST simulation/add")
    context = task(settle=10).context()
    with pytest.raises(AirflowTaskTimeout), timeout_after(1.5, context["task"]):
        context["task"].execute(context)
    (launch,) = cloudhpc.ledger.launches
    assert [stop.id for stop in cloudhpc.ledger.stops] == [launch.id]


@pytest.mark.parametrize("own", [True, False])
def test_a_timeout_whose_launch_is_not_seen_says_that_it_may_bill(
    cloudhpc: CloudHPCEmulator,
    task: Callable[..., AirflowTask],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    """Not seen in its own folder; in a folder that a user named whatever is seen may be anybody's."""
    monkeypatch.setattr(killing, "LATE_LAUNCH", 1.0)
    where = {} if own else {"source": None, "folder": "mine"}
    if not own:
        cloudhpc.control.file("mine/run.sh", b"true")
    cloudhpc.control.plan(pending=0, running=None)
    cloudhpc.control.fault("slow", "POST simulation/add", delay=3)
    context = task(**where).context()
    with pytest.raises(AirflowTaskTimeout), timeout_after(1.5, context["task"]):
        context["task"].execute(context)
    assert cloudhpc.ledger.stops == []
    assert "STILL BILLING" in caplog.text


def test_a_timeout_amid_a_launch_beside_others_stops_none_of_theirs(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killing, "LATE_LAUNCH", 1.0)
    cloudhpc.control.file("shared/run.sh", b"true")
    cloudhpc.control.simulation(folder="shared", pending=0, running=None)
    cloudhpc.control.fault("slow", "POST simulation/add", delay=3)
    context = task(source=None, folder="shared", on_conflict="launch").context()
    with pytest.raises(AirflowTaskTimeout), timeout_after(1.5, context["task"]):
        context["task"].execute(context)
    assert cloudhpc.ledger.count("POST /simulation/add") == 1
    assert cloudhpc.ledger.stops == []


def test_where_airflow_does_not_say_what_happened_nothing_is_stopped(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], caplog: pytest.LogCaptureFixture
) -> None:
    cloudhpc.control.plan(pending=0, running=None)
    context = task(deferrable=True).context()
    with pytest.raises(TaskDeferred):
        context["task"].execute(context)
    context["task"].on_kill()
    assert cloudhpc.ledger.stops == []
    assert "STILL BILLING" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": None}, "Neither source nor folder"),
        ({"source": "/no/such/case"}, "'/no/such/case'"),
        ({"script": "ubuntu-2404-static"}, "Set both `timeout` and `on_timeout`"),
        ({"script": "ubuntu-2404-static", "timeout": 60}, "Set both"),
        ({"ram_ladder": ["standard", "highmem"]}, "ram is 'highcpu'"),
        ({"ram_ladder": ["highcpu", "standard", "highcpu"]}, "each tier can be in it once"),
        ({"ram_ladder": {"highcpu": "standard"}}, "ram_ladder is {'highcpu': 'standard'}"),
        ({"relaunch_on_failure": "false"}, "relaunch_on_failure is 'false': True or False is needed"),
        ({"relaunch_on_failure": 1}, "relaunch_on_failure is 1"),
        ({"stop_on_kill": "never"}, "stop_on_kill is 'never'"),
        ({"cpu": "two"}, "cpu is 'two'"),
    ],
)
def test_bad_input_fails_before_any_call(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(AirflowFailException) as failure:
        task(**arguments).run()
    assert words in str(failure.value)
    assert cloudhpc.ledger.count("*") == 0


def test_what_is_sent_is_the_folder_s_content(
    cloudhpc: CloudHPCEmulator, task: Callable[..., AirflowTask], case: Path, tmp_path: Path
) -> None:
    at_once(cloudhpc)
    (case / "old.log").write_text("left over")
    task(exclude="*.log").run()
    archive = tmp_path / "sent.tar.gz"
    archive.write_bytes(cloudhpc.control.read(cloudhpc.control.files()[0]))
    with tarfile.open(archive) as sent:
        assert [name.removeprefix("./") for name in sent.getnames() if name not in (".", "./")] == ["run.sh"]
