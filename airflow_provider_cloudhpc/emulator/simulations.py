# SPDX-License-Identifier: Apache-2.0
"""A simulation's record, its bill, and what it is to do where a test has written its part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_cloudhpc.emulator.clock import Entry, service_date
from airflow_provider_cloudhpc.emulator.ledger import Bill
from airflow_provider_cloudhpc.emulator.settings import EUR_PER_CPU_HOUR, PREEMPTIBLE_FACTOR

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.machines import Machine


class Status(IntEnum):
    """The service's status numbers."""

    COMPLETED = 10
    PENDING = 20
    RUNNING = 30
    STOPPING = 40
    STOPPED = 50
    ERROR = 60

    @property
    def active(self) -> bool:
        """Whether it has yet to end."""
        return self in (Status.PENDING, Status.RUNNING, Status.STOPPING)


Ending = Literal["completed", "error", "stopped", "crashed"]
#: A solver that crashed leaves the service's status COMPLETED: only the output tells.
ENDINGS: dict[str, Status] = {
    "completed": Status.COMPLETED,
    "crashed": Status.COMPLETED,
    "error": Status.ERROR,
    "stopped": Status.STOPPED,
}
CRASH_OUTPUT = "@@@ ERROR: KILLED BY SIGNAL: 9 - out of memory\n"


@dataclass
class Plan:
    """
    The part of a simulation that runs nothing.

    :param pending: virtual seconds in PENDING
    :param running: virtual seconds in RUNNING, None: until it is stopped or told to end
    :param ending: how it ends
    :param output: what its log holds at the end
    :param results: result files by name, put into its folder at the end
    """

    pending: float = 1.0
    running: float | None = 10.0
    ending: Ending = "completed"
    output: str = ""
    results: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ending not in ENDINGS:
            raise ValueError(f"unknown ending {self.ending!r}; there are: {', '.join(ENDINGS)}")
        if not isinstance(self.output, str):
            raise ValueError(f"output is text; not {self.output!r}")
        for name, seconds in (("pending", self.pending), ("running", self.running)):
            if name == "running" and seconds is None:
                continue
            if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
                raise ValueError(f"{name} is a number of seconds from 0 on; not {seconds!r}")


@dataclass(eq=False)
class Simulation:
    """One simulation. Times are virtual seconds since the epoch."""

    id: int
    user: str
    user_id: int
    cpu: int
    ram: str
    script: str
    folder: str
    mesh: str
    nopre: int
    created: float
    clean: int = 0
    status: Status = Status.PENDING
    plan: Plan | None = None
    machine: Machine | None = None
    started: float | None = None
    ended: float | None = None
    billed_seconds: float = 0.0
    held: bool = False
    stop_signal: str | None = None
    restarts: int = 0
    listed_at: float = 0.0
    log: str = ""
    next_step: Entry | None = None
    result_paths: set[str] = field(default_factory=set)

    def seconds(self, now: float) -> float:
        """Machine time so far, that of a machine taken away included."""
        running = 0.0 if self.started is None else (now if self.ended is None else self.ended) - self.started
        return self.billed_seconds + running

    def bill(self, now: float) -> Bill:
        """What it costs so far."""
        seconds = self.seconds(now)
        hours = self.cpu * seconds / 3600
        rate = EUR_PER_CPU_HOUR[self.ram] * (1.0 if self.nopre else PREEMPTIBLE_FACTOR)
        return Bill(seconds, hours, hours * rate, self.ended is not None)

    def output(self) -> str:
        """The platform's log up to now."""
        run = self.machine.run if self.machine else None
        return self.log + (run.output() if run else "")

    def record(self) -> dict[str, Any]:
        """The record as it goes over the wire (with plain numbers), without output."""
        return {name: field(self) for name, field in FIELDS.items()}

    @property
    def _has_machine(self) -> bool:
        return self.status in (Status.RUNNING, Status.STOPPING)

    @property
    def _final_bill(self) -> Bill | None:
        return None if self.ended is None else self.bill(self.ended)


#: The record's fields; a listing can be sorted by any.
FIELDS: dict[str, Callable[[Simulation], Any]] = {
    **{
        name: attrgetter(name) for name in ("id", "user_id", "cpu", "ram", "nopre", "folder", "mesh", "script", "clean")
    },
    "idate": lambda s: service_date(s.created),
    "edate": lambda s: service_date(s.ended),
    "cpu_hrs": lambda s: round(bill.cpu_hours, 4) if (bill := s._final_bill) else "",
    "cost": lambda s: round(bill.cost, 4) if (bill := s._final_bill) else "",
    "status": lambda s: int(s.status),
    "images": lambda s: "",
    # Personal and short-lived: no client may log it.
    "vnc_url": lambda s: f"https://vnc.example/{s.id}?token=vnc-secret-{s.id}" if s._has_machine else "",
    "ip_address": lambda s: f"10.0.{s.id // 250 % 250}.{s.id % 250 + 1}" if s._has_machine else "",
}
