# SPDX-License-Identifier: Apache-2.0
"""What every solver of the emulator is: the :class:`Run` protocol, its limits, and the parts all runs share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

GIB = 1024**3

#: Exit codes a run ends with that no process gave: the case was refused before a solver started.
REFUSED = 2


@dataclass(frozen=True)
class Limits:
    """
    What one run may use.

    :param cpu_seconds: processor time of each process
    :param memory_bytes: address space of each process, and resident memory of all of them together
    :param wall_seconds: duration of the run, real seconds
    :param file_bytes: size of each file it writes
    :param processes: number of processes at a time
    """

    cpu_seconds: int = 600
    memory_bytes: int = 4 * GIB
    wall_seconds: int = 1800
    file_bytes: int = 2 * GIB
    processes: int = 256


@dataclass(frozen=True)
class Case:
    """
    What is to be run, as the service was told.

    :param script: name of the script, e.g. ``calculiX-2.21-PARDISO``
    :param cpu: number of vCPU
    :param ram: name of the memory tier, e.g. ``highcpu``
    :param workdir: the unpacked content of the storage folder
    :param mesh_dir: the unpacked content of the mesh folder
    :param limits: what the run may use
    :param clock: tells emulated seconds, for what is simulated (what really computes takes its time)
    :param started: when it started, by that clock
    :param seed: of all that is made up
    :param message: what the platform said when it laid out the case
    """

    script: str
    cpu: int
    ram: str
    workdir: Path
    mesh_dir: Path | None = None
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    started: float = 0.0
    seed: int = 0
    message: str = ""

    def files(self, *patterns: str) -> list[Path]:
        """Visible files right in the folder that match any of the patterns (``*.inp``), sorted by name."""
        found = {p for pattern in patterns for p in self.workdir.glob(pattern) if p.is_file()}
        return sorted(p for p in found if not p.name.startswith("."))

    @property
    def private(self) -> Path:
        """Directory for the emulator's own files: beside the folder, which is the script's to fill and to clean."""
        return self.workdir.with_name(f"{self.workdir.name}-private")

    @property
    def banner(self) -> str:
        """First platform lines of every run."""
        return f"{self.message}@@@ {self.script} on {self.cpu} vCPU {self.ram}\n"


class Run(Protocol):
    """One solver at work. Safe to call from several threads."""

    @property
    def failed(self) -> bool:
        """After the end: True where the service says ERROR (60), False where it says COMPLETED (10), crash or not."""
        ...

    @property
    def ended_at(self) -> float | None:
        """After the end: when that was, by the emulated clock; None where it only knows that it is over."""
        ...

    def poll(self) -> int | None:
        """Exit code, None while it runs."""
        ...

    def output(self) -> str:
        """The platform's log so far (its own lines start with ``@@@``); the middle of a long one is left out."""
        ...

    def soft_stop(self) -> None:
        """Ask the solver to end its iteration and to keep its results (the service's SIGTSTP); returns at once."""
        ...

    def kill(self) -> None:
        """End it with everything it started, and come back when it is gone."""
        ...

    def pack_results(self, target: Path) -> list[Path]:
        """
        Write the result archives of what is there now (so partial ones while it runs).

        :param target: directory to write them into, outside the run's folder; made if absent
        :return: the files written, none where there is no result yet
        """
        ...


class RefusedRun:
    """
    A run that never started a solver: the platform looked at the case and said no.

    :param output: the platform's log, with the reason
    :param failed: what :attr:`Run.failed` says
    """

    ended_at: float | None = None

    def __init__(self, output: str, *, failed: bool = True) -> None:
        self._output = output
        self.failed = failed

    def poll(self) -> int:
        """Always over."""
        return REFUSED

    def output(self) -> str:
        """The reason."""
        return self._output

    def soft_stop(self) -> None:
        """Nothing to stop."""

    def kill(self) -> None:
        """Nothing to kill."""

    def pack_results(self, target: Path) -> list[Path]:
        """No results."""
        return []
