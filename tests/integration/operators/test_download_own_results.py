# SPDX-License-Identifier: Apache-2.0
"""By simulation, a result counts only if it is that simulation's: yesterday's, or another's, never passes for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCNotFoundError
from airflow_provider_cloudhpc.api.models import LaunchRequest
from airflow_provider_cloudhpc.api.names import mint_folder
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.launch_record import RECORD_KEY, LaunchRecord
from airflow_provider_cloudhpc.operators.simulation import CloudHPCAddSimulationOperator
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask, KeptState

YESTERDAY, TODAY, OTHERS = b"yesterday's", b"today's....", b"another's.."
MINTED = mint_folder("dag", "manual__1", "upload", -1, 2)


@pytest.fixture(scope="module")
def service() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator


@pytest.fixture
def emulator(service: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> CloudHPCEmulator:
    service.control.reset()
    service.control.plan(running=None)
    connect(monkeypatch, service)
    return service


class Run:
    """A DAG run: its launches push records, its downloads pull them (through JSON, as Airflow's own do)."""

    def __init__(self, emulator: CloudHPCEmulator, *, remembers: bool = True) -> None:
        self.emulator = emulator
        self.client = CloudHPCClient(emulator.api_key, emulator.api_url)
        self.remembers = remembers
        self.store = KeptState()
        self.pushed: dict[str, str] = {}

    def launch(self, folder: str, result: bytes | None, *, task: str = "add", is_new: bool = False) -> int:
        """Launch in a folder; the simulation runs until :meth:`finish`."""
        record = self._record(task, is_new)
        record.note(self.client, folder)
        simulation_id = self.client.add_simulation(LaunchRequest(2, "highcpu", "custom-script", folder))
        record.tell(simulation_id, folder)
        if result is not None:
            self.finish(simulation_id, result)
        return simulation_id

    def reattach(self, folder: str, simulation_id: int, task: str = "add") -> None:
        """A later try of the launching task: its XComs are gone, what it kept is not."""
        del self.pushed[task]
        self._record(task, False).tell(simulation_id, folder)

    def finish(self, simulation_id: int, result: bytes, name: str = "FDS.tar.gz") -> None:
        self.emulator.control.jump(60)
        self.emulator.control.finish(simulation_id, results={name: result})

    def _record(self, task: str, is_new: bool) -> LaunchRecord:
        run = self

        class Instance:
            def xcom_push(self, key: str, value: Any) -> None:
                assert key == RECORD_KEY
                run.pushed[task] = json.dumps(value)

        context = {"ti": Instance(), **({"task_state_store": self.store} if self.remembers else {})}
        return LaunchRecord(context, is_new=is_new)

    def download(self, directory: Path, simulation_id: Any, **more: Any) -> dict[str, bytes]:
        """Fetch a simulation's results; give the files by name."""

        def make() -> list[Any]:
            values = {"cpu": 2, "ram": "highcpu", "script": "custom-script", "folder": "x"}
            adds = [CloudHPCAddSimulationOperator(task_id=task, **values) for task in ("add", "add_2", "never_ran")]
            more.setdefault("check_output", False)
            return [
                CloudHPCDownloadResultOperator(
                    task_id="download", simulation_id=simulation_id, directory=str(directory), **more
                ),
                *adds,
            ]

        task = AirflowTask(make, remembers=self.remembers)

        def pull(task_ids: Iterable[str], key: str) -> list[Any]:
            assert key == RECORD_KEY
            return [json.loads(self.pushed[one]) if one in self.pushed else None for one in task_ids]

        task.instance.xcom_pull = pull  # type: ignore[attr-defined]
        return {Path(path).name: Path(path).read_bytes() for path in task.run()}


@pytest.fixture
def run(emulator: CloudHPCEmulator) -> Iterator[Run]:
    run = Run(emulator)
    yield run
    run.client.close()


def put_yesterdays(emulator: CloudHPCEmulator, *names: str) -> None:
    for name in ("upload.tar.gz", *(names or ("FDS.tar.gz",))):
        emulator.control.file(f"case/{name}", YESTERDAY)
    emulator.control.jump(86400)


def test_a_minted_folder_costs_no_call_more(run: Run, tmp_path: Path) -> None:
    run.emulator.control.file(f"{MINTED}/upload.tar.gz", b"case")
    simulation_id = run.launch(MINTED, TODAY, is_new=True)
    before = run.emulator.ledger.by_endpoint()

    assert run.download(tmp_path, simulation_id) == {"FDS.tar.gz": TODAY}

    calls = {name: n - before.get(name, 0) for name, n in run.emulator.ledger.by_endpoint().items()}
    api = {name: n for name, n in calls.items() if n and "signed" not in name}
    assert before == {"POST /simulation/add": 1}
    assert sum(api.values()) <= 4, api


def test_todays_result_is_fetched_where_yesterdays_was(run: Run, tmp_path: Path) -> None:
    put_yesterdays(run.emulator)

    simulation_id = run.launch("case", TODAY)

    assert run.download(tmp_path, simulation_id) == {"FDS.tar.gz": TODAY}


def test_yesterdays_result_is_no_result(run: Run, tmp_path: Path) -> None:
    """The run failed and left nothing: what it found is still there."""
    put_yesterdays(run.emulator)
    simulation_id = run.launch("case", None)
    run.emulator.control.finish(simulation_id, "error")

    with pytest.raises(CloudHPCNotFoundError) as caught:
        run.download(tmp_path, simulation_id)

    message = str(caught.value)
    assert f"simulation {simulation_id}" in message
    assert "FDS.tar.gz was there, the same, before its launch" in message
    assert "`folder`" in message
    assert "60 days" in message
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_new_is_fetched(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_yesterdays(run.emulator, "FDS.tar.gz", "OPENFOAM-constant.tar.gz", "old.frd")
    simulation_id = run.launch("case", TODAY)

    assert run.download(tmp_path, simulation_id) == {"FDS.tar.gz": TODAY}
    assert "there before the launch: OPENFOAM-constant.tar.gz, old.frd" in caplog.text


def test_patterns_do_not_lift_the_rule(run: Run, tmp_path: Path) -> None:
    put_yesterdays(run.emulator, "FDS.tar.gz", "notes.csv")
    simulation_id = run.launch("case", TODAY)

    with pytest.raises(CloudHPCNotFoundError, match=r"No file that fits \*\.csv of simulation"):
        run.download(tmp_path, simulation_id, patterns="*.csv")
    assert run.download(tmp_path, simulation_id, patterns=["*.csv", "FDS*"]) == {"FDS.tar.gz": TODAY}


def test_a_listing_that_lags_at_the_launch_hides_no_old_result(run: Run, tmp_path: Path) -> None:
    run.emulator.control.file("case/upload.tar.gz", b"case")
    run.emulator.control.file("case/FDS.tar.gz", YESTERDAY, listed=False)
    simulation_id = run.launch("case", None)

    with pytest.raises(CloudHPCNotFoundError, match="before its launch"):
        run.download(tmp_path, simulation_id)


def test_numbers_that_are_strings_are_the_same_numbers(run: Run, tmp_path: Path) -> None:
    put_yesterdays(run.emulator)
    simulation_id = run.launch("case", None)
    run.emulator.control.settings(numbers="strings")

    with pytest.raises(CloudHPCNotFoundError, match="before its launch"):
        run.download(tmp_path, simulation_id)


def test_it_waits_for_a_new_one(run: Run, tmp_path: Path) -> None:
    put_yesterdays(run.emulator)
    simulation_id = run.launch("case", None)
    threading.Timer(0.2, lambda: run.finish(simulation_id, TODAY)).start()

    assert run.download(tmp_path, simulation_id, wait_for_results=1.5) == {"FDS.tar.gz": TODAY}


def test_a_retry_that_reattaches_still_knows(run: Run, tmp_path: Path) -> None:
    put_yesterdays(run.emulator)
    simulation_id = run.launch("case", None)
    run.reattach("case", simulation_id)

    with pytest.raises(CloudHPCNotFoundError, match="before its launch"):
        run.download(tmp_path, simulation_id)


def test_where_nothing_was_kept_it_is_said(
    emulator: CloudHPCEmulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(emulator, remembers=False)
    put_yesterdays(emulator)
    simulation_id = run.launch("case", None)
    run.reattach("case", simulation_id)

    assert run.download(tmp_path, simulation_id) == {"FDS.tar.gz": YESTERDAY}
    assert "results of an earlier run would look the same" in caplog.text


def test_a_simulation_of_nobody_here_is_fetched_with_a_word(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (simulation_id,) = run.emulator.control.simulation(folder="case", results={"FDS.tar.gz": TODAY}, running=1)
    run.emulator.control.jump(60)

    assert run.download(tmp_path, str(simulation_id)) == {"FDS.tar.gz": TODAY}
    assert "is not known" in caplog.text


def test_a_cleared_launch_in_a_minted_folder_does_not_find_its_own_old_result(run: Run, tmp_path: Path) -> None:
    run.emulator.control.file(f"{MINTED}/upload.tar.gz", b"case")
    run.launch(MINTED, YESTERDAY, is_new=True)
    again = run.launch(MINTED, None)

    with pytest.raises(CloudHPCNotFoundError, match="before its launch"):
        run.download(tmp_path, again)


# --- several simulations in one folder --------------------------------------------------------------------------------


def test_one_after_the_other_each_gets_its_own(run: Run, tmp_path: Path) -> None:
    """A mesh, then the solver, in one folder."""
    run.emulator.control.file("case/upload.tar.gz", b"case")
    mesh = run.launch("case", None)
    run.finish(mesh, YESTERDAY, "OPENFOAM-constant.tar.gz")
    solver = run.launch("case", TODAY, task="add_2")

    assert run.download(tmp_path / "mesh", mesh) == {"OPENFOAM-constant.tar.gz": YESTERDAY}
    assert run.download(tmp_path / "solver", solver) == {"FDS.tar.gz": TODAY}


def test_at_the_same_time_nobody_can_tell(run: Run, tmp_path: Path) -> None:
    run.emulator.control.file("case/upload.tar.gz", b"case")
    first = run.launch("case", None)
    second = run.launch("case", None, task="add_2")
    run.finish(first, TODAY)
    run.finish(second, OTHERS)

    with pytest.raises(CloudHPCNotFoundError) as caught:
        run.download(tmp_path, first)

    assert f"is surely of simulation {first}: FDS.tar.gz may be of {second}" in str(caught.value)
    assert "Give each a folder of its own" in str(caught.value)


@pytest.mark.parametrize("begun", [True, False])
def test_a_later_one_of_somebody_else(run: Run, tmp_path: Path, begun: bool) -> None:
    run.emulator.control.file("case/upload.tar.gz", b"case")
    simulation_id = run.launch("case", TODAY)
    (other,) = run.emulator.control.simulation(folder="case", pending=1 if begun else 1e6, running=None)
    run.emulator.control.simulation(folder="elsewhere", running=None, count=3)
    run.emulator.control.jump(60)

    if begun:
        with pytest.raises(CloudHPCNotFoundError, match=f"may be of {other}"):
            run.download(tmp_path, simulation_id)
    else:
        assert run.download(tmp_path, simulation_id) == {"FDS.tar.gz": TODAY}


# --- the launch -------------------------------------------------------------------------------------------------------


def test_a_launch_is_not_begun_where_the_folder_cannot_be_read(run: Run) -> None:
    run.emulator.control.file("case/upload.tar.gz", b"case")
    run.emulator.control.fault("server_error", "POST storage/view-by-path", times=None)

    with pytest.raises(CloudHPCError):
        run.launch("case", None)
    assert run.emulator.ledger.launches == []
    assert run.pushed == {}


def test_a_folder_of_many_pages_is_noted_whole(run: Run, tmp_path: Path) -> None:
    run.emulator.control.settings(page_size=2)
    put_yesterdays(run.emulator, *(f"{n}.tar.gz" for n in range(5)))
    simulation_id = run.launch("case", TODAY)

    assert run.download(tmp_path, simulation_id) == {"FDS.tar.gz": TODAY}
