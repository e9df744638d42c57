# SPDX-License-Identifier: Apache-2.0
"""Nothing of a run outlives it, however it ends: by itself, stopped softly or hard, or with its emulator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.unit.emulator_solvers.conftest import ended, until

#: A script with a child, a grandchild and one that left its session and its parent; each writes its process id.
FAMILY = """
sleep 987 & echo $! >> pids
(sleep 987 & echo $! >> pids; wait) &
setsid bash -c 'trap "" TERM HUP; echo $$ >> pids; while :; do sleep 987; done' > /dev/null 2>&1 < /dev/null &
disown -a
(setsid sleep 987 & echo $! >> pids)
echo $$ >> pids
echo ready
"""
MEMBERS = 5


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def family(folder):
    """Process ids of the script's family, once all are there."""
    path = Path(folder) / "pids"
    until(lambda: path.exists() and len(path.read_text().split()) == MEMBERS, "the whole family")
    pids = [int(word) for word in path.read_text().split()]
    until(lambda: all(map(alive, pids)), "all alive")
    return pids


def gone(pids):
    until(lambda: not any(map(alive, pids)), f"the end of all of {pids}")


def test_hard_stop_kills_the_whole_family_at_once(start):
    run = start("custom-script", {"job.sh": FAMILY + "sleep 987"})
    pids = family(run.case.workdir)
    run.kill()
    assert not any(map(alive, pids))
    assert not alive(run.pid)
    assert run.poll() == -9
    assert run.output().endswith("@@@ STOPPED: hard stop\n")


def test_a_hard_stop_of_one_that_ignores_signals(start):
    run = start(
        "custom-script", {"job.sh": "trap '' TERM INT HUP; echo $$ > pids; echo ready; while :; do sleep 0.1; done"}
    )
    until(lambda: "ready" in run.output())
    pid = int((run.case.workdir / "pids").read_text())
    run.kill()
    assert not alive(pid)


def test_what_a_script_leaves_behind_ends_with_it(start):
    run = start("custom-script", {"job.sh": FAMILY + "while [ ! -e go ]; do sleep 0.02; done"})
    pids = family(run.case.workdir)
    (run.case.workdir / "go").touch()
    assert ended(run) == 0
    assert not any(map(alive, pids))


def test_a_kill_after_the_end_changes_nothing(start):
    run = start("custom-script", {"job.sh": "echo done"})
    assert ended(run) == 0
    before = run.output()
    run.kill()
    run.soft_stop()
    assert run.poll() == 0
    assert run.output() == before


def test_soft_stop_lets_the_script_finish_its_iteration(start, tmp_path):
    """SIGTERM reaches the script; what it saves is kept, unlike after a hard stop."""
    script = """
trap 'stop=1' TERM
echo ready
while [ -z "$stop" ]; do sleep 0.05; done
echo saved > state.txt
"""
    run = start("custom-script", {"job.sh": script})
    until(lambda: "ready" in run.output())
    run.soft_stop()
    run.soft_stop()  # asking twice is asking once
    assert ended(run) == 0
    assert run.output().endswith("@@@ STOPPED: soft stop, results saved\n")
    assert (run.case.workdir / "state.txt").read_text() == "saved\n"
    assert run.failed is False


def test_soft_stop_of_a_script_that_ignores_it_is_a_kill_in_the_end(start, monkeypatch):
    run = start("custom-script", {"job.sh": "trap '' TERM; echo ready; while :; do sleep 0.05; done"})
    until(lambda: "ready" in run.output())
    monkeypatch.setattr(run, "_soft", b"soft 0 0.5\n")  # instead of ten seconds
    run.soft_stop()
    assert ended(run) == -9
    assert "soft stop" in run.output()


def test_a_hard_stop_overtakes_a_soft_one(start):
    run = start("custom-script", {"job.sh": "trap '' TERM; echo ready; while :; do sleep 0.05; done"})
    until(lambda: "ready" in run.output())
    run.soft_stop()
    run.kill()
    assert run.poll() == -9
    assert "hard stop" in run.output()


EMULATOR = """
import signal, sys, threading, time
from pathlib import Path
from airflow_provider_cloudhpc.emulator.solvers import start_run
# A job in the background of a shell ignores SIGINT unless it says otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
run = []
# As a server does it: the thread that starts a simulation ends long before the simulation.
what = dict(script='custom-script', cpu=2, ram='standard', workdir=Path(sys.argv[1]))
t = threading.Thread(target=lambda: run.append(start_run(**what)))
t.start(); t.join()
print('started', run[0].pid, flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "send"),
    [
        ("time.sleep(600)", signal.SIGKILL),
        ("time.sleep(600)", signal.SIGTERM),
        ("time.sleep(600)", signal.SIGINT),
        ("input()", None),
        ("input(); raise SystemExit(1)", None),
        ("input(); import os; os._exit(1)", None),
    ],
)
def test_nothing_outlives_the_emulator(tmp_path, then, send):
    (tmp_path / "job.sh").write_text(FAMILY + "sleep 987")
    emulator = subprocess.Popen(
        [sys.executable, "-c", EMULATOR.replace("{then}", then), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    try:
        supervisor = int(emulator.stdout.readline().split()[1])
        pids = family(tmp_path)
        if send:
            emulator.send_signal(send)
        emulator.communicate(input="\n", timeout=30)
        gone([*pids, supervisor])
    finally:
        emulator.kill()
        emulator.wait()


def test_nothing_outlives_an_emulator_whose_child_lives_on(tmp_path):
    """A forked child, as of a multiprocessing pool, holds all that its parent had open, the lifeline too."""
    (tmp_path / "job.sh").write_text(FAMILY + "sleep 987")
    fork = "import os\nif os.fork() == 0:\n    print(os.getpid(), flush=True)\n    os.close(1)\ntime.sleep(600)"
    emulator = subprocess.Popen(
        [sys.executable, "-c", EMULATOR.replace("{then}", fork), str(tmp_path)], stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    try:
        supervisor, child = (int(emulator.stdout.readline().split()[-1]) for _ in "12")
        pids = family(tmp_path)
        emulator.kill()
        emulator.wait()
        try:
            gone([*pids, supervisor])
            assert alive(child)
        finally:
            os.kill(child, signal.SIGKILL)
    finally:
        emulator.kill()
        emulator.wait()
        emulator.stdout.close()


def test_the_end_of_the_thread_that_started_it_is_not_the_end_of_the_run(start):
    """A parent-death signal would fire here: Linux sends it when the starting thread ends."""
    runs = []
    files = {"job.sh": "while [ ! -e go ]; do sleep 0.02; done; echo survived"}
    thread = threading.Thread(target=lambda: runs.append(start("custom-script", files)))
    thread.start()
    thread.join()
    time.sleep(0.5)
    assert runs[0].poll() is None
    (runs[0].case.workdir / "go").touch()
    assert ended(runs[0]) == 0


@pytest.mark.parametrize("killer", ["run", "script"])
def test_a_supervisor_that_is_killed_takes_the_whole_family_with_it(start, killer):
    """By anybody: the kernel that is short of memory, or the script itself, which only sees its parent."""
    then = "while [ ! -e go ]; do sleep 0.02; done; kill -9 $PPID; sleep 987" if killer == "script" else "sleep 987"
    run = start("custom-script", {"job.sh": FAMILY + then})
    pids = family(run.case.workdir)
    if killer == "run":
        os.kill(run.pid, signal.SIGKILL)
    (run.case.workdir / "go").touch()
    assert ended(run) == -9
    assert run.failed
    assert "the machine was lost" in run.output()
    gone(pids)


def test_a_script_that_closes_its_output_goes_on(start):
    run = start("custom-script", {"job.sh": "exec > /dev/null 2>&1; sleep 0.5; echo x > file"})
    assert ended(run) == 0
    assert (run.case.workdir / "file").exists()
