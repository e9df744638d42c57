# SPDX-License-Identifier: Apache-2.0
"""A small world for the launch machine: a service, a store and an Airflow, in which everything may break."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_cloudhpc.api.errors import CloudHPCConnectionError, CloudHPCError, CloudHPCRefusedError
from airflow_provider_cloudhpc.api.launch.attempts import Attempt, Cleared
from airflow_provider_cloudhpc.api.launch.machine import LaunchMachine
from airflow_provider_cloudhpc.api.launch.types import (
    Answer,
    CloudHPCLaunchError,
    Find,
    Judge,
    Launched,
    LaunchState,
    Listing,
    Look,
    OnAmbiguous,
    OnConflict,
    Ownership,
    Pause,
    Post,
    Prepare,
    Save,
    Stop,
)
from airflow_provider_cloudhpc.api.models import LaunchRequest, Simulation, SimulationStatus

RETRIES = 2
#: Seconds until a late effect, and until a lagging listing shows a record: both within the settling time.
LATE, LAG, SETTLE = 40.0, 30.0, 120.0

Choose = Callable[[Sequence[Any]], Any]


class WorkerDied(Exception):
    """The process of a try ended at once."""


@dataclass
class Record:
    """
    A simulation of the service.

    :param owner: the generation of a task that posted it, None for somebody else's
    :param task: which task
    """

    id: int
    folder: str
    owner: int | None
    visible_at: float
    task: int = 0
    status: SimulationStatus = SimulationStatus.RUNNING
    stopped_by_us: bool = False
    stopped_by: int | None = None

    def simulation(self) -> Simulation:
        return Simulation(self.id, self.status, self.folder, "fds6.9.1", 2, "highcpu")


@dataclass
class Service:
    """The account's simulations, those that are about to land, and the time: what several tasks share."""

    now: float = 0.0
    records: list[Record] = field(default_factory=list)
    landing: list[tuple[float, Record]] = field(default_factory=list)

    def add(self, record: Record) -> Record:
        record.id = 100 + len(self.records)
        self.records.append(record)
        return record

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for due, record in [entry for entry in self.landing if entry[0] <= self.now]:
            self.landing.remove((due, record))
            record.visible_at = self.now
            self.add(record)


@dataclass
class World:
    """
    A task: everything of it that outlives a try.

    :param choose: picks what happens, from the possibilities it is given; the first is always "nothing special"
    :param faults: how many things may still go wrong
    :param task: its number; tasks that share a service have different ones
    """

    choose: Choose
    ownership: Ownership
    remembers: bool
    on_conflict: OnConflict = OnConflict.FAIL
    on_ambiguous: OnAmbiguous = OnAmbiguous.FAIL
    faults: int = 1
    service: Service = field(default_factory=Service)
    task: int = 0
    stored: Any = None
    attempt: Attempt = field(default_factory=lambda: Attempt(1, RETRIES, RETRIES))
    generation: int = 0
    cleared: Cleared | None = None
    posts: int = 0
    crashes: int = 0
    calls: list[str] = field(default_factory=list)
    _running: Any = None
    _sent: Any = None

    @property
    def records(self) -> list[Record]:
        return self.service.records

    @property
    def now(self) -> float:
        return self.service.now

    # -- Airflow --------------------------------------------------------------------------------------------------

    def folder(self, max_tries: int | None = None) -> str:
        if self.ownership is Ownership.TASK:
            return f"own-{self.task}-{self.attempt.max_tries if max_tries is None else max_tries}"
        return "case" if self.ownership is Ownership.NAMED else f"minted-{self.task}"

    def machine(self) -> LaunchMachine:
        return LaunchMachine(
            LaunchRequest(2, "highcpu", "fds6.9.1", self.folder()),
            self.attempt,
            self.ownership,
            self.remembers,
            tuple(self.folder(number) for number in range(self.attempt.retries, self.attempt.max_tries)),
            cleared=self.cleared,
            on_conflict=self.on_conflict,
            on_ambiguous=self.on_ambiguous,
            settle=SETTLE,
        )

    def run_try(self) -> Launched | Exception:
        """Run one try to its end."""
        self.begin()
        while (outcome := self.step()) is None:
            pass
        return outcome

    @property
    def is_running(self) -> bool:
        return self._running is not None

    def begin(self) -> None:
        """Begin a try."""
        self._running = self.machine().steps(None if self.stored is None else LaunchState.from_dict(self.stored))
        self._sent = None

    def step(self) -> Launched | Exception | None:
        """Take one step of the try; what it came to, None while it goes on."""
        outcome: Launched | Exception
        try:
            self._sent = self.do(self._running.send(self._sent))
        except StopIteration as end:
            outcome = end.value
        except (CloudHPCError, WorkerDied) as error:
            outcome = error
        else:
            return None
        self.die()
        return outcome

    def die(self) -> None:
        """End the process of the try, wherever it is."""
        if self._running is not None:
            self._running.close()
        self._running = None

    def retry(self) -> None:
        self.attempt = replace(self.attempt, try_number=self.attempt.try_number + 1)

    def clear(self) -> None:
        ended = self.attempt.try_number
        self.generation += 1
        self.attempt = Attempt(ended + 1, ended + self.attempt.retries, self.attempt.retries)

    def clear_while_it_waits(self, simulation_id: int) -> None:
        """Clear the running task where Airflow's counters do not show that; it stops its simulation and notes it."""
        record = next(record for record in self.records if record.id == simulation_id)
        if record.status is SimulationStatus.RUNNING:
            self.effect(Stop(simulation_id), None)
        self.cleared = Cleared(simulation_id, self.attempt.try_number)
        self.generation += 1
        self.retry()

    def edit_retries(self, retries: int) -> None:
        self.attempt = replace(self.attempt, retries=retries)

    # -- the steps ------------------------------------------------------------------------------------------------

    def fault(self, *possible: Any) -> Any:
        """Pick a fault, or None; every fault that is picked is one less to come."""
        if not self.faults:
            return None
        picked = self.choose((None, *possible))
        if picked is not None:
            self.faults -= 1
        return picked

    def do(self, action: Any) -> Any:
        self.calls.append(type(action).__name__)
        fault = self.fault("dies before", "dies after", *_FAULTS.get(type(action), ()))
        if fault == "dies before":
            self.crashes += 1
            raise WorkerDied
        outcome = self.effect(action, fault)
        if fault == "dies after":
            self.crashes += 1
            raise WorkerDied
        return outcome

    def effect(self, action: Any, fault: str | None) -> Any:
        match action:
            case Save(state, vital):
                if fault == "not kept":
                    if vital:
                        raise CloudHPCError("Airflow's API is down")
                elif self.remembers:
                    self.stored = state.to_dict()
            case Find(folders, after, pages):
                if fault == "no answer":
                    return Listing(error=CloudHPCConnectionError("no answer"))
                seen = sorted((r for r in self.records if r.visible_at <= self.now), key=lambda r: -r.id)
                found = tuple(r.simulation() for r in seen if r.folder in folders and r.id > after)
                assert pages >= 1
                return Listing(found, seen[0].id if seen else 0)
            case Look(simulation_id):
                return next((r.simulation() for r in self.records if r.id == simulation_id), None)
            case Stop(simulation_id):
                record = next(r for r in self.records if r.id == simulation_id)
                record.status, record.stopped_by_us, record.stopped_by = SimulationStatus.STOPPED, True, self.task
            case Pause(seconds):
                self.pass_time(seconds)
            case Post(request):
                return self.post(request, fault)
            case Judge() | Prepare():
                return None
        return None

    def post(self, request: LaunchRequest, fault: str | None) -> Answer:
        self.posts += 1
        if fault == "others land too":
            # The same request by somebody else, at the same moment; our answer is lost and so is our effect.
            self.add(request.folder if self.ownership is Ownership.NAMED else "elsewhere", None)
            return Answer(started=None, error=CloudHPCConnectionError("reset"))
        if fault == "refused":
            return Answer(started=False, error=CloudHPCRefusedError("no"))
        if fault == "not sent":
            return Answer(started=False, error=CloudHPCConnectionError("refused", sent=False))
        if fault == "lost, no effect":
            return Answer(started=None, error=CloudHPCConnectionError("reset"))
        if fault in ("lost, late effect", "dies, late effect"):
            late = Record(0, request.folder, self.generation, 0.0, self.task)
            self.service.landing.append((self.now + LATE, late))
            if fault.startswith("dies"):
                self.crashes += 1
                raise WorkerDied
            return Answer(started=None, error=CloudHPCConnectionError("reset"))
        lags = fault in ("lost, listing lags", "dies, listing lags")
        record = self.add(request.folder, self.generation, self.now + LAG if lags else self.now)
        if fault == "dies, listing lags":
            self.crashes += 1
            raise WorkerDied
        if fault in ("lost, effect", "lost, listing lags"):
            return Answer(started=None, error=CloudHPCConnectionError("reset"))
        return Answer(record.id)

    # -- the service ----------------------------------------------------------------------------------------------

    def add(self, folder: str, owner: int | None, visible_at: float = 0.0) -> Record:
        return self.service.add(Record(0, folder, owner, visible_at, self.task))

    def pass_time(self, seconds: float) -> None:
        self.service.pass_time(seconds)

    def ours(self, generation: int | None = None) -> list[Record]:
        own = (record for record in self.records if record.owner is not None and record.task == self.task)
        return [record for record in own if generation is None or record.owner == generation]

    def others(self) -> list[Record]:
        return [record for record in self.records if record.owner is None or record.task != self.task]

    def active(self) -> list[Record]:
        return [r for r in self.ours() if r.status is SimulationStatus.RUNNING]


_FAULTS: dict[type, tuple[str, ...]] = {
    Save: ("not kept",),
    Find: ("no answer",),
    Post: (
        "refused",
        "not sent",
        "lost, no effect",
        "lost, effect",
        "lost, late effect",
        "lost, listing lags",
        "dies, late effect",
        "dies, listing lags",
        "others land too",
    ),
}


def is_retryable(outcome: Launched | Exception) -> bool:
    """Whether Airflow would run the task again by itself after this."""
    return isinstance(outcome, WorkerDied) or (
        isinstance(outcome, CloudHPCError) and not isinstance(outcome, CloudHPCLaunchError)
    )


def every_story(tell: Callable[[Choose], None]) -> Iterator[tuple[int, ...]]:
    """Tell a story with every sequence of choices that it can take, and give the sequences."""
    prefix: list[int] = []
    while True:
        taken: list[int] = []
        widths: list[int] = []
        tell(_follow(prefix, taken, widths))
        yield tuple(taken)
        while taken and taken[-1] + 1 == widths[len(taken) - 1]:
            taken.pop()
        if not taken:
            return
        prefix = [*taken[:-1], taken[-1] + 1]


def _follow(prefix: Sequence[int], taken: list[int], widths: list[int]) -> Choose:
    def choose(possible: Sequence[Any]) -> Any:
        index = prefix[len(taken)] if len(taken) < len(prefix) else 0
        taken.append(index)
        widths.append(len(possible))
        return possible[index]

    return choose
