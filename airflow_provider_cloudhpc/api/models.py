# SPDX-License-Identifier: Apache-2.0
"""
What the service speaks, as types.

Everything is read forgivingly: numbers may come as strings, "nothing yet" as ``""`` or null, fields may be missing
and unknown ones appear; none of that may kill a wait on a simulation that is running and billing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class SimulationStatus(IntEnum):
    """The states of a simulation that are known; the service may add others, which stay plain ints."""

    COMPLETED = 10
    PENDING = 20
    RUNNING = 30
    STOPPING = 40
    STOPPED = 50
    ERROR = 60


#: States that a simulation never leaves. Not a member of the enum: a set is no status.
TERMINAL_STATUSES = frozenset({SimulationStatus.COMPLETED, SimulationStatus.STOPPED, SimulationStatus.ERROR})

#: States that are known to be left again; a state that the service added is in neither set.
ACTIVE_STATUSES = frozenset(SimulationStatus) - TERMINAL_STATUSES


class StopSignal(StrEnum):
    """
    How a simulation is stopped.

    ``SOFT`` lets the solver end its iteration and saves the results, which can take minutes; ``HARD`` kills it and
    **deletes its results for good**.
    """

    SOFT = "SIGTSTP"
    HARD = "SIGINT"


class StopPolicy(StrEnum):
    """What is done about a simulation that still runs: stop it softly, stop it hard, or leave it running."""

    SOFT = "soft"
    HARD = "hard"
    LEAVE = "leave"

    @property
    def signal(self) -> StopSignal | None:
        """The signal behind the policy; None for ``leave``."""
        return {StopPolicy.SOFT: StopSignal.SOFT, StopPolicy.HARD: StopSignal.HARD}.get(self)


def to_int(value: object) -> int | None:
    """Read a whole number that may come as a string; ``""``, null and nonsense give None."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    text = str(value).strip()
    try:
        return int(text)  # a float would round a long id
    except ValueError:
        number = to_float(text)
    return int(number) if number is not None and number.is_integer() else None


def to_float(value: object) -> float | None:
    """Read a number that may come as a string; ``""``, null, nan and nonsense give None."""
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None


def to_text(value: object) -> str:
    """Read a text; null gives ``""``."""
    return "" if value is None else str(value)


def status_name(status: int | None) -> str:
    """Name a status for people: ``RUNNING``, or ``UNKNOWN(35)`` for a number the service added later."""
    if status is None:
        return "UNKNOWN"
    try:
        return SimulationStatus(status).name
    except ValueError:
        return f"UNKNOWN({status})"


@dataclass(frozen=True)
class Simulation:
    """
    The record of one simulation.

    Dates are the server's own text (``YYYY-MM-DD HH:MM:SS``, its time zone is not named): do not compare them with a
    local clock. ``vnc_url`` and ``ip_address`` are left out on purpose: they are personal and short-lived.

    :param id: the simulation's id
    :param status: a :class:`SimulationStatus`, a plain int for a state added later, None where none came
    :param cpu_hours: vCPU-hours billed, None while unknown
    :param cost: cost in euro, None while unknown (it is known when the run has ended)
    :param output: the platform's log of the run; only ``/simulation/view/{id}`` brings it
    :param output_is_whole: False where it was longer than what was to be kept; ``output`` is its beginning then
    :param output_tail: the end of an output that is not whole; None where the end was not reached
    """

    id: int
    status: int | None
    folder: str = ""
    script: str = ""
    cpu: int | None = None
    ram: str = ""
    mesh: str = ""
    preemptible: bool | None = None
    idate: str = ""
    edate: str = ""
    cpu_hours: float | None = None
    cost: float | None = None
    output: str | None = None
    output_is_whole: bool = True
    output_tail: str | None = None

    @classmethod
    def from_api(cls, record: Mapping[str, Any]) -> Simulation | None:
        """Read a record of the service; None where it has no id."""
        identifier = to_int(record.get("id"))
        if identifier is None or isinstance(record["id"], bool):
            return None
        status = to_int(record.get("status"))
        nopre = to_int(record.get("nopre"))
        output = record.get("output")
        return cls(
            id=identifier,
            status=SimulationStatus(status) if status in list(SimulationStatus) else status,
            folder=to_text(record.get("folder")),
            script=to_text(record.get("script")),
            cpu=to_int(record.get("cpu")),
            ram=to_text(record.get("ram")),
            mesh=to_text(record.get("mesh")),
            preemptible=None if nopre is None else nopre == 0,
            idate=to_text(record.get("idate")),
            edate=to_text(record.get("edate")),
            cpu_hours=to_float(record.get("cpu_hrs")),
            cost=to_float(record.get("cost")),
            output=None if output is None else str(output),
            output_is_whole=record.get("output_is_whole") is not False,
            output_tail=None if record.get("output_is_whole") is not False else record.get("output_tail"),
        )

    @property
    def is_terminal(self) -> bool:
        """Whether the run is over; a state that is not known is not."""
        return self.status in TERMINAL_STATUSES

    @property
    def status_name(self) -> str:
        """The state's name for people."""
        return status_name(self.status)

    def to_dict(self) -> dict[str, Any]:
        """Give the record as plain data, the same in every mode: what goes into XCom. Without the output."""
        return {
            "id": self.id,
            "status": self.status_name,
            "status_code": None if self.status is None else int(self.status),
            "folder": self.folder,
            "script": self.script,
            "cpu": self.cpu,
            "ram": self.ram,
            "mesh": self.mesh,
            "preemptible": self.preemptible,
            "cpu_hours": self.cpu_hours,
            "cost": self.cost,
            "idate": self.idate,
            "edate": self.edate,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Simulation:
        """Read back what :meth:`to_dict` gave."""
        fields = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
        status = to_int(data.get("status_code"))
        fields["status"] = SimulationStatus(status) if status in list(SimulationStatus) else status
        return cls(**fields)


@dataclass(frozen=True)
class StorageItem:
    """
    A file or folder of the account's storage.

    :param id: the item's id
    :param name: its full path in the storage
    :param size: in bytes, None where the service names none
    :param time_created: the server's own text; files are deleted 60 days after it
    """

    id: str
    name: str
    basename: str = ""
    dirname: str = ""
    type: str = ""
    size: int | None = None
    time_created: str = ""

    @classmethod
    def from_api(cls, record: Mapping[str, Any]) -> StorageItem | None:
        """Read an item of the service; None where it has no id."""
        identifier = to_text(record.get("id"))
        if not identifier:
            return None
        name = to_text(record.get("name")).strip("/")
        basename = to_text(record.get("basename")) or name.rpartition("/")[2]
        return cls(
            id=identifier,
            name=name or basename,
            basename=basename,
            dirname=to_text(record.get("dirname")).strip("/") or name.rpartition("/")[0],
            type=to_text(record.get("type")),
            size=to_int(record.get("size")),
            time_created=to_text(record.get("timeCreated")),
        )

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.type == "dir"


@dataclass(frozen=True)
class Quota:
    """
    The account's call counters as an answer's headers told them; a limit of 0 means unlimited, None is unknown.

    All programs that use the account count together.
    """

    hourly_limit: int | None = None
    hourly_used: int | None = None
    daily_limit: int | None = None
    daily_used: int | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Quota | None:
        """Read the ``X-RateLimit-*`` headers of an answer; None where it has none."""
        values = {
            f"{window}_{counter}": to_int(headers.get(f"X-RateLimit-{window.title()}-{counter.title()}"))
            for window in ("hourly", "daily")
            for counter in ("limit", "used")
        }
        return cls(**values) if any(value is not None for value in values.values()) else None

    @staticmethod
    def _left(limit: int | None, used: int | None) -> int | None:
        return None if limit is None or limit <= 0 or used is None else max(0, limit - used)

    @property
    def hourly_left(self) -> int | None:
        """Calls left this hour; None where unlimited or unknown."""
        return self._left(self.hourly_limit, self.hourly_used)

    @property
    def daily_left(self) -> int | None:
        """Calls left today; None where unlimited or unknown."""
        return self._left(self.daily_limit, self.daily_used)

    @property
    def left(self) -> int | None:
        """Calls left before the nearer limit; None where unlimited or unknown."""
        known = [left for left in (self.hourly_left, self.daily_left) if left is not None]
        return min(known, default=None)

    @property
    def is_exhausted(self) -> bool:
        """Whether a limit is reached."""
        return self.left == 0

    def __str__(self) -> str:
        parts = []
        for window, limit, used in (
            ("this hour", self.hourly_limit, self.hourly_used),
            ("today", self.daily_limit, self.daily_used),
        ):
            if limit == 0:
                parts.append(f"no limit {window}")
            elif limit is not None and used is not None:
                parts.append(f"{max(0, limit - used)} of {limit} calls left {window}")
        return ", ".join(parts) or "calls left unknown"


@dataclass(frozen=True)
class LaunchRequest:
    """
    What ``POST /simulation/add`` is asked for.

    :param cpu: vCPUs
    :param ram: name of the RAM tier, e.g. ``highcpu``
    :param script: name of the solver, e.g. ``fds6.9.1``
    :param folder: storage folder of the case
    :param mesh: storage folder of a mesh, None to leave the field out
    :param preemptible: True for a spot machine, False for a regular one, None to leave the choice to the account
    """

    cpu: int
    ram: str
    script: str
    folder: str
    mesh: str | None = None
    preemptible: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the body of the call."""
        body: dict[str, Any] = {"cpu": self.cpu, "ram": self.ram, "script": self.script, "folder": self.folder}
        if self.mesh:
            body["mesh"] = self.mesh
        if self.preemptible is not None:
            body["nopre"] = 0 if self.preemptible else 1
        return body
