# SPDX-License-Identifier: Apache-2.0
"""
Runs one command so that nothing of it outlives the emulator: a program of its own, ``python supervisor.py SPEC``.

Its standard input is a lifeline: end of file (the emulator closed it, ended or was killed with -9) kills the command
with all that it started. A line ``soft TERM_AFTER KILL_AFTER`` (seconds) asks it to end: SIGTERM, later SIGKILL.

The supervisor adopts orphans (``PR_SET_CHILD_SUBREAPER``), so a process that daemonised itself is found too. It is two
processes: where one is killed (by a kernel short of memory, by the command, which knows its parent), the other cleans
up. A parent-death signal would not do for them: Linux sends it when the *thread* that started them ends.

SPEC is a JSON object: ``command`` (list), ``cwd``, ``env`` (dict), ``log_dir`` and ``limits`` (the fields of
:class:`~airflow_provider_cloudhpc.emulator.solvers.base.Limits`). The last thing it writes to standard output is
``{"code": int, "reason": "exit"|"soft"|"killed"|"wall"|"memory"|"processes"|"lost"}``.

It imports the standard library only and runs isolated (``-I -S``): starting one costs some 20 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds between two looks at memory, processes and deadlines.
TICK = 0.2
#: Bytes of output kept from the start, and per segment of the end (two segments are kept).
LOG_HEAD, LOG_SEGMENT = 64 * 1024, 256 * 1024
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PAGE = resource.getpagesize()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class BoundedLog:
    """
    What the command prints, bounded on disk: its first bytes and its last.

    Files in ``log_dir``: ``head``, ``dropped`` (bytes left out after it), ``tail.1`` (older), ``tail.2`` (current).

    :param log_dir: existing directory
    """

    def __init__(self, log_dir: Path) -> None:
        self._dir = log_dir
        self._head_left = LOG_HEAD
        self._dropped = 0
        self._head = (log_dir / "head").open("wb", buffering=0)
        self._tail = (log_dir / "tail.2").open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append, throwing the oldest segment away when the current one is full."""
        if self._head_left:
            self._head.write(data[: self._head_left])
            data, self._head_left = data[self._head_left :], max(0, self._head_left - len(data))
        if not data:
            return
        if self._tail.tell() + len(data) > LOG_SEGMENT:
            old = self._dir / "tail.1"
            if old.exists():
                self._dropped += old.stat().st_size
                (self._dir / "dropped").write_text(str(self._dropped))
            (self._dir / "tail.2").rename(old)
            self._tail.close()
            self._tail = (self._dir / "tail.2").open("wb", buffering=0)
        self._tail.write(data)


def descendants(pid: int | None = None) -> list[int]:
    """All processes below one (default: this one), as far as ``/proc`` tells."""
    found: list[int] = []
    todo = [pid or os.getpid()]
    while todo:
        for name in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(child) for child in name.read_text().split()]
                found += children
                todo += children
    return found


def kill_descendants(reap: Callable[[], None]) -> None:
    """
    Kill all processes below this one, until none is left (bounded: 30 s).

    :param reap: waits for those that have ended
    """
    give_up = time.monotonic() + 30
    while (below := descendants()) and time.monotonic() < give_up:
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        time.sleep(0.005)


def _reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _resident_bytes(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return total


class Supervisor:
    """
    One command at work.

    :param spec: see the module
    :param parent: process id of the other half of the supervisor
    """

    def __init__(self, spec: dict[str, Any], parent: int) -> None:
        self.spec = spec
        self.limits: dict[str, int] = spec["limits"]
        self.log = BoundedLog(Path(spec["log_dir"]))
        self.code: int | None = None
        self.reason = "exit"
        self._parent = parent
        self._deadline = time.monotonic() + self.limits["wall_seconds"]
        self._soft: tuple[float, float] | None = None

    def run(self) -> None:
        """Start the command, watch it to its end, leave nothing behind."""
        self._wakeup, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._output, write_end = os.pipe()
        self._main = os.fork()
        if self._main == 0:
            os.close(self._output)
            self._become_command(write_end)
        os.close(write_end)
        os.set_blocking(self._output, False)
        while self.code is None:
            self._listen()
            self._reap()
            if self.code is None:
                self._watch()
        self._kill_all()
        self._pump()

    def _become_command(self, output: int) -> None:
        try:
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            for name, soft in (("CPU", "cpu_seconds"), ("AS", "memory_bytes"), ("FSIZE", "file_bytes")):
                limit, hard = self.limits[soft], resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
                limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.closerange(3, 256)
            os.chdir(self.spec["cwd"])
            os.execvpe(self.spec["command"][0], self.spec["command"], self.spec["env"])  # noqa: S606
        except BaseException as error:
            os.write(2, f"cannot start {self.spec['command'][0]}: {error}\n".encode())
        os._exit(127)

    def _listen(self) -> None:
        """Wait for output, a word on the lifeline, the end of a process or the next tick."""
        ready = select.select([0, self._output, self._wakeup], [], [], TICK)[0]
        if self._wakeup in ready:
            os.read(self._wakeup, 1024)
        if self._output in ready and not self._pump(rounds=64):
            time.sleep(TICK / 4)  # the command closed its output and goes on: no busy loop
        if 0 in ready:
            words = os.read(0, 1024).decode().split()
            if not words:
                self._end("killed")
            elif words[0] == "soft" and self._soft is None:
                now = time.monotonic()
                self._soft = (now + float(words[1]), now + float(words[1]) + float(words[2]))

    def _pump(self, rounds: int = 1 << 20) -> bool:
        """Move what was printed into the log; False at its end."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(rounds):
                data = os.read(self._output, 65536)
                if not data:
                    return False
                with contextlib.suppress(OSError, ValueError):  # a full disk: the command goes on, its words are lost
                    self.log.write(data)
        return True

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._main:
                    self.code = os.waitstatus_to_exitcode(status)

    def _watch(self) -> None:
        now = time.monotonic()
        below = descendants()
        if os.getppid() != self._parent:
            self._end("lost")
        elif now > self._deadline:
            self._end("wall")
        elif _resident_bytes(below) > self.limits["memory_bytes"]:
            self._end("memory")
        elif len(below) > self.limits["processes"]:
            self._end("processes")
        elif self._soft and now >= self._soft[1]:
            self._end("soft")
        elif self._soft and now >= self._soft[0] and self.reason != "soft":
            self.reason = "soft"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._main, signal.SIGTERM)

    def _end(self, reason: str) -> None:
        self.reason = reason
        self._kill_all()
        if self.code is None:
            self.code = -signal.SIGKILL

    def _kill_all(self) -> None:
        """Kill the command's group and every descendant, until none is left."""
        if self.code is None:
            # Its id cannot have been given to another process: it was not waited for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._main, signal.SIGKILL)
        kill_descendants(self._reap)


def main() -> None:
    """Run what the first argument describes."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the lifeline ends it, so that it always cleans up
    emulator, parent = os.getppid(), os.getpid()
    alive, held = os.pipe()  # the worker holds it open as long as it lives
    worker = os.fork()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if worker:
        os.close(0)  # the lifeline and the answer are the worker's
        os.close(1)
        os.close(held)
        while not select.select([alive], [], [], TICK)[0]:
            if os.getppid() != emulator:  # a child that the emulator forked may hold the lifeline
                os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        kill_descendants(_reap_all)
        return
    supervisor = Supervisor(json.loads(sys.argv[1]), parent)
    supervisor.run()
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps({"code": supervisor.code, "reason": supervisor.reason}).encode())


if __name__ == "__main__":
    main()
