# SPDX-License-Identifier: Apache-2.0
"""A run that is a real process, under its :mod:`~airflow_provider_cloudhpc.emulator.solvers.supervisor`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.solvers import supervisor
from airflow_provider_cloudhpc.emulator.solvers.base import GIB, Case
from airflow_provider_cloudhpc.emulator.solvers.machine import memory_bytes
from airflow_provider_cloudhpc.emulator.solvers.results import changed, pack, snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OUT_OF_MEMORY = re.compile(r"^MemoryError|annot allocate memory|Unable to allocate|std::bad_alloc|out of memory", re.M)


def clean_environment(case: Case) -> dict[str, str]:
    """The environment of what is run: made anew, so that no secret of the emulator's own is in it."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"]),
        "HOME": str(case.workdir),
        "USER": "cloudhpc",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(case.cpu),
    }


class ProcessRun:
    """
    A solver in a process of its own.

    :param case: what to run
    :param command: program and arguments, started in the case's folder
    :param archive: name of the result archive
    :param env: additions to :func:`clean_environment`
    :param soft_patience: seconds between a soft stop and the SIGTERM that it becomes
    :param soft_grace: seconds between that SIGTERM and SIGKILL
    """

    def __init__(
        self,
        case: Case,
        command: Sequence[str],
        *,
        archive: str,
        env: Mapping[str, str] | None = None,
        soft_patience: float = 0,
        soft_grace: float = 10,
    ) -> None:
        self.case = case
        self.failed = False
        self.ended_at: float | None = None
        self._archive = archive
        self._soft = f"soft {soft_patience} {soft_grace}\n".encode()
        self._program = Path(command[0]).name
        self._lines = case.banner + f"@@@ START {' '.join([self._program, *command[1:]])}\n"
        self._verdict: str | None = None
        self._code: int | None = None
        self._lock = threading.RLock()
        self._log_dir = case.private / "log"
        self._log_dir.mkdir(parents=True, exist_ok=True)
        for old in self._log_dir.iterdir():
            old.unlink()
        self._before = snapshot(case.workdir)
        limits = dataclasses.replace(case.limits, memory_bytes=min(case.limits.memory_bytes, memory_bytes(case)))
        spec = {
            "command": list(command),
            "cwd": str(case.workdir),
            "env": {**clean_environment(case), **(env or {})},
            "log_dir": str(self._log_dir),
            "limits": dataclasses.asdict(limits),
        }
        self._memory = limits.memory_bytes
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._supervisor.pid

    def poll(self) -> int | None:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        with self._lock:
            if self._code is None and self._supervisor.poll() is not None:
                self._finish()
            return self._code

    def _finish(self) -> None:
        assert self._supervisor.stdout is not None
        assert self._supervisor.stdin is not None
        said = self._supervisor.stdout.read()
        self._supervisor.stdout.close()
        self._supervisor.stdin.close()
        # A supervisor that was itself killed says nothing; the kernel then killed the command (parent-death signal).
        result = json.loads(said) if said else {}
        code, reason = result.get("code", -signal.SIGKILL), result.get("reason", "lost")
        self.failed = reason in {"wall", "processes", "lost"}
        self._verdict = self.verdict(code, reason, self._log())
        self._code = code

    def verdict(self, code: int, reason: str, log: str) -> str:
        """
        The platform's last lines.

        :param code: exit code, negative for a signal
        :param reason: why it ended, see the supervisor
        :param log: what was printed
        """
        limits, memory = self.case.limits, f"{self._memory / GIB:g} GB"
        said = {
            "killed": "STOPPED: hard stop",
            "soft": "STOPPED: soft stop, results saved",
            "wall": f"ERROR: ended after {limits.wall_seconds} s, this emulator's limit for one run",
            "processes": f"ERROR: more than {limits.processes} processes, this emulator's limit for one run",
            "memory": f"ERROR: out of memory: {memory} are not enough\n@@@ ERROR: KILLED BY SIGNAL: 9",
            "lost": "ERROR: the machine was lost",
        }.get(reason)
        if said is None and code < 0:
            said = f"ERROR: {self._program} KILLED BY SIGNAL: {-code}"
        elif said is None and code:
            cause = f"out of memory ({memory}): " if _OUT_OF_MEMORY.search(log) else ""
            said = f"ERROR: {cause}{self._program} ended with exit code {code}"
        return f"@@@ {said or 'END'}\n"

    def _log(self) -> str:
        parts = []
        for name in ("head", "dropped", "tail.1", "tail.2"):
            with contextlib.suppress(FileNotFoundError):
                text = (self._log_dir / name).read_bytes().decode(errors="replace")
                parts.append(f"\n@@@ [{text} bytes left out]\n" if name == "dropped" else text)
        log = "".join(parts)
        return log if not log or log.endswith("\n") else log + "\n"

    def output(self) -> str:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        return self._lines + self._log() + (self._verdict or "")

    def soft_stop(self) -> None:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            if self._code is None and self._supervisor.stdin is not None:
                self._supervisor.stdin.write(self._soft)

    def kill(self) -> None:
        """See :class:`~airflow_provider_cloudhpc.emulator.solvers.base.Run`."""
        with self._lock:
            if self.poll() is not None:
                return
            assert self._supervisor.stdin is not None
            self._supervisor.stdin.close()  # the lifeline
            try:
                self._supervisor.wait(timeout=10)
            except subprocess.TimeoutExpired:  # it hangs: what it runs dies with it, by the parent-death signal
                self._supervisor.kill()
                self._supervisor.wait(timeout=10)
            self.poll()

    def pack_results(self, target: Path) -> list[Path]:
        """One archive of what is new or changed, and the log."""
        return pack(self.case.workdir, self.changed_files(), target / self._archive, extra=self.log_file())

    def log_file(self) -> dict[str, bytes]:
        """What was printed, as a member of an archive."""
        return {f"{self.case.script}.log": self._log().encode()}

    def changed_files(self) -> list[str]:
        """Files that are new or different since the start, relative to the folder."""
        return changed(self._before, snapshot(self.case.workdir))
