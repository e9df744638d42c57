# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of a launch: its settings, what is kept of it, what it asks for and what comes back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.launch.attempts import Attempt
from airflow_provider_cloudhpc.api.models import LaunchRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cloudhpc.api.models import Simulation


#: Default for how long a launch that is not seen is looked for, seconds; longer than the read timeout of a post.
DEFAULT_SETTLE = 120.0


class OnConflict(StrEnum):
    """What is done about a simulation that is already active in a folder that the user named."""

    FAIL = "fail"
    ADOPT_ACTIVE = "adopt_active"
    LAUNCH = "launch"


class OnAmbiguous(StrEnum):
    """What is done where a post was made and no simulation of it is seen after settling."""

    FAIL = "fail"
    RELAUNCH = "relaunch"


class Ownership(StrEnum):
    """Whose folder it is: a user's; this run's, used by this task alone; or this very task's in this generation."""

    NAMED = "named"
    RUN = "run"
    TASK = "task"


class Phase(StrEnum):
    """How far a launch got, as it is kept."""

    IDLE = "idle"
    POSTING = "posting"
    LAUNCHED = "launched"


class How(StrEnum):
    """How a launch came by its simulation."""

    LAUNCHED = "launched"
    REATTACHED = "reattached"
    ADOPTED = "adopted"


class CloudHPCLaunchError(CloudHPCError):
    """
    A launch stopped because going on might bill twice, or touch what is not ours; a person has to look.

    :param candidates: the simulations that it may be about
    """

    def __init__(self, message: str, candidates: Sequence[Simulation] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


@dataclass(frozen=True)
class LaunchState:
    """
    What is kept of a launch between tries.

    :param attempt: the try that wrote it
    :param request: what was asked for
    :param ownership: whose its folder was; a DAG may be edited between two tries, and ask for another one
    :param judged: whether the request came of judging an earlier simulation, and not from the task
    :param baseline: newest simulation id that was there before the post
    :param simulation_id: the simulation, once it is known
    """

    phase: Phase
    attempt: Attempt
    request: LaunchRequest
    ownership: Ownership
    judged: bool = False
    baseline: int = 0
    simulation_id: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "phase": self.phase.value,
            "attempt": self.attempt.to_dict(),
            "request": asdict(self.request),
            "ownership": self.ownership.value,
            "judged": self.judged,
            "baseline": self.baseline,
            "simulation_id": self.simulation_id,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LaunchState:
        """
        Read back what :meth:`to_dict` gave.

        :raises ValueError: for anything else: what is not understood must not lead to a second bill
        """
        try:
            phase, simulation_id = Phase(data["phase"]), data["simulation_id"]
            if (simulation_id is not None) != (phase is Phase.LAUNCHED):
                raise ValueError("the phase does not fit the id")
            return cls(
                phase=phase,
                attempt=Attempt.from_dict(data["attempt"]),
                request=LaunchRequest(**data["request"]),
                ownership=Ownership(data["ownership"]),
                judged=bool(data["judged"]),
                baseline=int(data["baseline"]),
                simulation_id=None if simulation_id is None else int(simulation_id),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"Not the state of a launch: {data!r} ({error})") from error


# -- what the machine asks for; a comment says what it takes back -------------------------------------------------


@dataclass(frozen=True)
class Save:
    """Keep a state. -> None. A ``vital`` one must be kept before the next step, or the launch ends here."""

    state: LaunchState
    vital: bool = False


@dataclass(frozen=True)
class Find:
    """
    List the account's simulations, the newest first. -> :class:`Listing`.

    :param folders: only those of these folders are wanted
    :param after: only those with a greater id are wanted
    :param pages: how many pages to read at the most
    """

    folders: tuple[str, ...]
    after: int = 0
    pages: int = 1


@dataclass(frozen=True)
class Look:
    """Look at one simulation. -> Simulation, or None: it is gone for sure."""

    simulation_id: int


@dataclass(frozen=True)
class Stop:
    """Stop a simulation of ours and wait until it is over. -> None."""

    simulation_id: int


@dataclass(frozen=True)
class Prepare:
    """Do what comes before a post, such as an upload. -> None."""


@dataclass(frozen=True)
class Post:
    """Post the launch, once. -> :class:`Answer`."""

    request: LaunchRequest


@dataclass(frozen=True)
class Judge:
    """Decide about a simulation that ended before this try. -> LaunchRequest to launch again with, None to keep it."""

    simulation: Simulation


@dataclass(frozen=True)
class Pause:
    """Wait. -> None."""

    seconds: float


@dataclass(frozen=True)
class Tell:
    """Tell, in the log, what a person may have to know. -> None."""

    text: str


Action = Save | Find | Look | Stop | Prepare | Post | Judge | Pause | Tell


@dataclass(frozen=True)
class Listing:
    """
    What a :class:`Find` saw.

    :param found: what was wanted, the newest first
    :param newest: the greatest id in the listing, wanted or not; 0 where it is empty
    :param error: set where it could not be read now
    """

    found: tuple[Simulation, ...] = ()
    newest: int = 0
    error: CloudHPCError | None = None

    @property
    def active(self) -> tuple[Simulation, ...]:
        """Those that are not over."""
        return tuple(simulation for simulation in self.found if not simulation.is_terminal)


@dataclass(frozen=True)
class Answer:
    """
    What came of a post: an id; or nothing started (``started=False``); or not known (``started=None``).

    :param error: what is raised where nothing was started, or told where it is not known
    """

    simulation_id: int | None = None
    started: bool | None = True
    error: CloudHPCError | None = None


@dataclass(frozen=True)
class Launched:
    """
    The end of a launch.

    :param others: further simulations that are ours too and should not be; they may bill
    :param folder: where it is, if that is another one than was asked for: taken from before a Clear; else ""
    """

    simulation_id: int
    how: How
    others: tuple[int, ...] = ()
    folder: str = ""
