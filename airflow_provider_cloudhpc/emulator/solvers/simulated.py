# SPDX-License-Identifier: Apache-2.0
"""A run that only pretends: it prints a story over time and leaves files, without a thread or a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.solvers.results import pack

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.solvers.base import Case

#: Emulated seconds between a soft stop and the end of the iteration.
SOFT_SECONDS = 0.5
#: Results that the platform uploads beside the archive.
_BESIDE = (".rmed", ".frd")


@dataclass(frozen=True)
class Story:
    """
    What a simulated solver does.

    :param seconds: emulated duration; ``inf``: until stopped
    :param head: lines printed at once
    :param lines: lines printed evenly over the duration
    :param end: lines printed at the end
    :param stopped: lines printed after a soft stop instead
    :param files: name -> content of what is there after a fraction of the lines, ended or not
    :param archive: name of the result archive that a file belongs into
    :param code: exit code
    """

    seconds: float
    head: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    end: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    files: Callable[[float, bool], dict[str, str]] = lambda fraction, ended: {}
    archive: Callable[[str], str] = lambda name: "RESULTS.tar.gz"
    code: int = 0


class SimulatedRun:
    """
    A story being told.

    :param case: what is run
    :param story: what happens
    """

    failed = False

    def __init__(self, case: Case, story: Story) -> None:
        self._case, self._story = case, story
        self._end = story.seconds  # in emulated seconds since the start
        self._stopped = self._killed = False
        self._lock = threading.Lock()

    def _elapsed(self) -> float:
        """Emulated seconds that it has run, up to its end."""
        return min(self._case.clock() - self._case.started, self._end)

    @property
    def ended_at(self) -> float | None:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        return self._case.started + self._end

    def poll(self) -> int | None:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        with self._lock:
            if self._elapsed() < self._end:
                return None
            return -9 if self._killed else 0 if self._stopped else self._story.code

    def _fraction(self) -> float:
        return self._elapsed() / self._story.seconds

    def output(self) -> str:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        story, code = self._story, self.poll()
        lines = [*self._case.banner.splitlines(), *story.head, *story.lines[: int(self._fraction() * len(story.lines))]]
        if code is not None:
            if self._killed:
                lines += ["@@@ STOPPED: hard stop"]
            elif self._stopped:
                lines += [*story.stopped, "@@@ STOPPED: soft stop, results saved"]
            else:
                lines += [*story.end, f"@@@ ERROR: the solver ended with exit code {code}" if code else "@@@ END"]
        return "\n".join(lines) + "\n"

    def soft_stop(self) -> None:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        with self._lock:
            if self._elapsed() < self._end and not self._stopped:
                self._stopped = True
                self._end = min(self._end, self._elapsed() + SOFT_SECONDS)

    def kill(self) -> None:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        with self._lock:
            if self._elapsed() < self._end:
                self._killed, self._end = True, self._elapsed()

    def pack_results(self, target: Path) -> list[Path]:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        ended = self.poll() is not None and not self._killed
        archives: dict[str, dict[str, bytes]] = {}
        packed: list[Path] = []
        for name, content in self._story.files(self._fraction(), ended).items():
            archives.setdefault(self._story.archive(name), {})[name] = content.encode()
            if name.endswith(_BESIDE):
                target.mkdir(parents=True, exist_ok=True)
                packed.append(target / name)
                packed[-1].write_text(content)
        for archive, members in archives.items():
            packed += pack(self._case.workdir, [], target / archive, extra=members)
        return packed
