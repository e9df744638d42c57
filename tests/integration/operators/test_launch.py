# SPDX-License-Identifier: Apache-2.0
"""A launch over real sockets: the emulator's ledger says how often it was billed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCRefusedError
from airflow_provider_cloudhpc.api.names import mint_folder
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.simulation import CloudHPCAddSimulationOperator
from airflow_provider_cloudhpc.operators.storage import CloudHPCUploadFileOperator
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask

ADD = "POST /simulation/add"
#: Seconds to look for a lost launch: longer than what the faults here delay and hide.
SETTLE = 6.0
MINTED = mint_folder("dag", "manual__1", "upload", -1, 2)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        connect(monkeypatch, emulator)
        emulator.control.plan(running=None)
        for folder in (MINTED, "case", "elsewhere"):
            emulator.control.file(f"{folder}/upload.tar.gz", b"a case")
        yield emulator


def adding(folder: str = MINTED, **more: Any) -> CloudHPCAddSimulationOperator:
    values = {"cpu": 2, "ram": "highcpu", "script": "custom-script", "folder": folder, "settle": SETTLE, **more}
    return CloudHPCAddSimulationOperator(task_id="add", **values)


def with_upload(folder: str = MINTED, *others: str, **more: Any) -> list[Any]:
    """The launch, the upload that minted its folder, and other tasks that launch in it."""
    add = adding(folder, **more)
    upload = CloudHPCUploadFileOperator(task_id="upload", source="/nowhere")
    upload >> add
    more_adds = [
        CloudHPCAddSimulationOperator(task_id=name, cpu=2, ram="highcpu", script="custom-script", folder=folder)
        for name in others
    ]
    for other in more_adds:
        upload >> other
    return [add, upload, *more_adds]


def statuses(emulator: CloudHPCEmulator) -> list[int]:
    """Statuses of all launched simulations, in order of their launch."""
    from airflow_provider_cloudhpc.api.client import CloudHPCClient

    with CloudHPCClient(emulator.api_key, emulator.api_url) as client:
        return [int(client.view_simulation_short(one.id).status or 0) for one in emulator.ledger.launches]


@pytest.mark.parametrize("remembers", [True, False])
def test_a_launch_in_a_minted_folder_is_one_call(emulator: CloudHPCEmulator, remembers: bool) -> None:
    task = AirflowTask(with_upload, remembers=remembers)
    simulation_id = task.run()
    assert [launch.id for launch in emulator.ledger.launches] == [simulation_id]
    assert emulator.ledger.by_endpoint() == {ADD: 1}
    assert task.instance.xcoms["simulation_id"] == simulation_id
    assert task.instance.xcoms["folder"] == MINTED


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("fault", [{"kind": "reset_after"}, {"kind": "late_effect", "after": 2.0}, {"kind": "html"}])
def test_a_lost_answer_in_a_minted_folder_is_found(
    emulator: CloudHPCEmulator, remembers: bool, fault: dict[str, Any]
) -> None:
    if fault["kind"] == "html":  # an HTML page under 200 in place of the answer: nothing happened
        emulator.control.fault("html", ADD)
        with pytest.raises(AirflowFailException, match="adopt=<its id>"):
            AirflowTask(with_upload, remembers=remembers).run()
        assert emulator.ledger.launches == []
        assert emulator.ledger.count(ADD) == 1
        return
    emulator.control.fault(endpoint=ADD, **fault)
    task = AirflowTask(with_upload, remembers=remembers)
    assert [task.run()] == [launch.id for launch in emulator.ledger.launches]
    assert emulator.ledger.count(ADD) == 1


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("began", [True, False])
def test_an_answer_that_speaks_of_a_technical_problem_leaves_it_to_the_listing(
    emulator: CloudHPCEmulator, began: bool, remembers: bool
) -> None:
    """It is no word about whether the simulation began."""
    if began:
        (there,) = emulator.control.simulation(folder=MINTED, running=None)
    emulator.control.fault("forbidden", ADD)
    task = AirflowTask(lambda: with_upload(settle=1), remembers=remembers)
    if began:
        assert task.run() == there
    else:
        with pytest.raises(AirflowFailException, match=r"does not say whether it began.*technical problem"):
            task.run()
        assert task.clear() == emulator.ledger.launches[0].id
    assert len(emulator.ledger.launches) == 1


@pytest.mark.parametrize("remembers", [True, False])
def test_a_technical_problem_on_the_last_call_of_the_hour_is_no_word_about_the_launch_either(
    emulator: CloudHPCEmulator, remembers: bool
) -> None:
    """The call that uses the account up is counted before its answer is written."""
    (there,) = emulator.control.simulation(folder=MINTED, running=None)
    emulator.control.set_quota(100, hourly_used=100)
    emulator.control.fault("forbidden", ADD)
    task = AirflowTask(lambda: with_upload(settle=0), remembers=remembers)
    with pytest.raises(CloudHPCError, match="used up"):
        task.run()
    emulator.control.set_quota(0)
    assert task.retry() == there
    assert len(emulator.ledger.launches) == 1


def test_a_lost_answer_while_the_listing_lags(emulator: CloudHPCEmulator) -> None:
    emulator.control.settings(simulation_lag=3.0)
    emulator.control.fault("reset_after", ADD)
    task = AirflowTask(with_upload)
    assert [task.run()] == [launch.id for launch in emulator.ledger.launches]


def test_a_lost_answer_in_a_named_folder_names_the_candidates(emulator: CloudHPCEmulator) -> None:
    emulator.control.fault("reset_after", ADD)
    task = AirflowTask(lambda: adding("case"))
    with pytest.raises(AirflowFailException) as caught:
        task.run()
    (launch,) = emulator.ledger.launches
    assert f"{launch.id} (" in str(caught.value)
    assert "adopt=<id>" in str(caught.value)
    # What the message says works.
    taking = AirflowTask(lambda: adding("case", adopt=str(launch.id)))
    taking.store, taking.instance = task.store, task.instance
    assert taking.clear() == launch.id
    assert len(emulator.ledger.launches) == 1


def test_relaunch_where_it_is_asked_for(emulator: CloudHPCEmulator) -> None:
    emulator.control.fault("reset_before", ADD)
    task = AirflowTask(lambda: with_upload(on_ambiguous="relaunch", settle=1.0))
    assert [task.run()] == [launch.id for launch in emulator.ledger.launches]
    assert emulator.ledger.count(ADD) == 2


@pytest.mark.parametrize("remembers", [True, False])
def test_a_retry_reattaches_and_a_clear_launches_again(emulator: CloudHPCEmulator, remembers: bool) -> None:
    task = AirflowTask(with_upload, remembers=remembers)
    first = task.run()
    assert task.retry() == first
    assert len(emulator.ledger.launches) == 1
    second = task.clear()
    assert [launch.id for launch in emulator.ledger.launches] == [first, second]
    assert statuses(emulator)[0] == 50, "the one from before the Clear is stopped"
    assert task.retry() == second
    assert len(emulator.ledger.launches) == 2


@pytest.mark.parametrize("newer", [3, 60])
def test_a_clear_stops_the_old_one_though_the_service_says_that_it_is_not_there(
    emulator: CloudHPCEmulator, newer: int
) -> None:
    task = AirflowTask(with_upload)
    first = task.run()
    emulator.control.simulation(folder="elsewhere", count=newer, running=None)
    emulator.control.fault("forbidden", "GET simulation/view-short/*")
    task.clear()
    assert [stop.id for stop in emulator.ledger.stops] == [first]


def edited(task: AirflowTask, make: Any) -> AirflowTask:
    """The same task, whose DAG was edited."""
    other = AirflowTask(make)
    other.store, other.instance = task.store, task.instance
    return other


def test_another_folder_after_a_conflict_stops_nobody_in_the_first_one(
    emulator: CloudHPCEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    """As the message of the conflict says: use a folder that an upload mints, then clear."""
    emulator.control.fault("reset_after", ADD)
    task = AirflowTask(lambda: adding("case"))
    with pytest.raises(AirflowFailException, match="an upload mints one"):
        task.run()
    (unknown,) = (launch.id for launch in emulator.ledger.launches)
    edited(task, with_upload).clear()
    assert emulator.ledger.stops == []
    assert f"{unknown} in folder 'case'" in caplog.text
    assert "STILL BILLING" in caplog.text


def test_a_retry_in_another_folder_takes_nothing_of_the_named_one(emulator: CloudHPCEmulator) -> None:
    emulator.control.fault("reset_after", ADD)
    emulator.control.fault("unavailable", "GET simulation/index-short/*", times=8, retry_after=0, skip=1)
    task = AirflowTask(lambda: adding("case", settle=0))
    with pytest.raises(CloudHPCError):
        task.run()
    emulator.control.clear_faults()
    with pytest.raises(AirflowFailException, match="Folder 'case' got, while the launch's answer was lost"):
        edited(task, with_upload).retry()
    assert len(emulator.ledger.launches) == 1


def test_a_named_folder_after_a_minted_one_stops_what_the_lost_launch_left(emulator: CloudHPCEmulator) -> None:
    emulator.control.fault("reset_after", ADD)
    emulator.control.fault("unavailable", "GET simulation/index-short/*", times=None, retry_after=0)
    task = AirflowTask(lambda: with_upload(settle=0))
    with pytest.raises(CloudHPCError):
        task.run()
    emulator.control.clear_faults()
    (lost,) = (launch.id for launch in emulator.ledger.launches)
    edited(task, lambda: adding("case")).clear()
    assert [stop.id for stop in emulator.ledger.stops] == [lost]


@pytest.mark.parametrize("remembers", [True, False])
def test_a_launch_by_a_retry_says_what_it_does_not_know(
    emulator: CloudHPCEmulator, remembers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.control.fault("quota", ADD)
    task = AirflowTask(lambda: with_upload(settle=0), remembers=remembers)
    with pytest.raises(CloudHPCError):
        task.run()
    task.retry()
    assert ("would BILL too" in caplog.text) is not remembers


def test_a_refused_launch_is_posted_by_the_retry(emulator: CloudHPCEmulator) -> None:
    emulator.control.fault("quota", ADD)
    task = AirflowTask(with_upload)
    with pytest.raises(CloudHPCError):
        task.run()
    assert task.retry() == emulator.ledger.launches[0].id
    assert len(emulator.ledger.launches) == 1


def test_a_refusal_with_a_reason_is_known_at_once_and_the_retry_posts_again(emulator: CloudHPCEmulator) -> None:
    task = AirflowTask(lambda: with_upload(mesh="nowhere"))
    with pytest.raises(CloudHPCRefusedError, match="'nowhere' does not exist"):
        task.run()
    assert not any("index" in endpoint for endpoint in emulator.ledger.by_endpoint())
    emulator.control.file("nowhere/mesh.tar.gz", b"a mesh")
    assert task.retry() == emulator.ledger.launches[0].id
    assert emulator.ledger.count(ADD) == 2


def test_the_state_cannot_be_kept_before_the_post(emulator: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_cloudhpc.operators.launching.SAVE_PAUSES", ())
    task = AirflowTask(with_upload)
    assert task.store is not None
    task.store.broken_after = 0
    with pytest.raises(ConnectionError):
        task.run()
    assert emulator.ledger.count(ADD) == 0


def test_the_state_cannot_be_kept_after_the_post(emulator: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_cloudhpc.operators.launching.SAVE_PAUSES", ())
    task = AirflowTask(with_upload)
    assert task.store is not None
    task.store.broken_after = 1
    first = task.run()
    task.store.broken_after = None
    assert task.retry() == first
    assert len(emulator.ledger.launches) == 1


@pytest.mark.parametrize("on_conflict", ["fail", "adopt_active", "launch"])
def test_a_named_folder_that_is_in_use(emulator: CloudHPCEmulator, on_conflict: str) -> None:
    (other,) = emulator.control.simulation(folder="case", running=None)
    launched = len(emulator.ledger.launches)
    task = AirflowTask(lambda: adding("case", on_conflict=on_conflict))
    if on_conflict == "fail":
        with pytest.raises(AirflowFailException, match=f"{other} .*BILL"):
            task.run()
    elif on_conflict == "adopt_active":
        assert task.run() == other
    else:
        assert task.run() != other
    assert len(emulator.ledger.launches) - launched == (on_conflict == "launch")


def test_what_ended_in_a_named_folder_before_is_not_taken_for_a_lost_launch(emulator: CloudHPCEmulator) -> None:
    (earlier,) = emulator.control.simulation(folder="case", pending=0, running=0)
    emulator.control.jump(60)
    emulator.control.fault("html", ADD)
    with pytest.raises(AirflowFailException, match="the listing shows none") as failure:
        AirflowTask(lambda: adding("case", settle=0)).run()
    assert str(earlier) not in str(failure.value)


def test_one_that_a_look_does_not_find_is_looked_for_in_the_listing(emulator: CloudHPCEmulator) -> None:
    (there,) = emulator.control.simulation(folder="case", running=None)
    emulator.control.fault("forbidden", "GET /simulation/view-short/{id}")
    assert AirflowTask(lambda: adding("case", adopt=there)).run() == there


@pytest.mark.parametrize("others", [(), ("another",)])
def test_a_minted_folder_that_two_tasks_launch_in_is_nobodys_alone(
    emulator: CloudHPCEmulator, others: tuple[str, ...]
) -> None:
    emulator.control.fault("reset_after", ADD)
    task = AirflowTask(lambda: with_upload(MINTED, *others))
    if others:
        with pytest.raises(AirflowFailException, match="adopt=<id>"):
            task.run()
    else:
        task.run()
    assert len(emulator.ledger.launches) == 1


def test_mapped_tasks_that_share_a_folder_take_nothing_from_each_other(emulator: CloudHPCEmulator) -> None:
    emulator.control.fault("reset_after", ADD)
    with pytest.raises(AirflowFailException, match="adopt=<id>"):
        AirflowTask(with_upload, map_index=3).run()


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("on_conflict", "ask", "one of 'fail', 'adopt_active', 'launch' is needed"),
        ("on_ambiguous", "maybe", "one of 'fail', 'relaunch' is needed"),
        ("adopt", "the last one", "a whole number above 0"),
    ],
)
def test_bad_input_fails_before_any_call(emulator: CloudHPCEmulator, argument: str, value: str, said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        AirflowTask(lambda: adding(**{argument: value})).run()
    assert emulator.ledger.api_calls == 0


@pytest.mark.parametrize("remembers", [True, False])
def test_adopting_what_is_not_there_or_elsewhere(emulator: CloudHPCEmulator, remembers: bool) -> None:
    (elsewhere,) = emulator.control.simulation(folder="elsewhere", running=None)
    launched = len(emulator.ledger.launches)
    for adopt, said in ((elsewhere, "is in folder 'elsewhere'"), (999999, "there is no such simulation")):
        with pytest.raises(AirflowFailException, match=said):
            AirflowTask(lambda adopt=adopt: adding("case", adopt=adopt), remembers=remembers).run()
    assert len(emulator.ledger.launches) == launched


def test_a_state_that_is_not_understood_launches_nothing(emulator: CloudHPCEmulator) -> None:
    task = AirflowTask(with_upload)
    assert task.store is not None
    task.store.set("cloudhpc_launch", {"phase": "of the moon"})
    with pytest.raises(AirflowFailException, match="nothing was launched"):
        task.run()
    assert emulator.ledger.api_calls == 0
