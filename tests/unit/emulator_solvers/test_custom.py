# SPDX-License-Identifier: Apache-2.0
"""``custom-script`` really runs what is in the folder: bounded, apart from the emulator's secrets, its results kept."""

from __future__ import annotations

import tarfile

import pytest

from airflow_provider_cloudhpc.emulator.solvers import Limits
from tests.unit.emulator_solvers.conftest import ended, until

MIB = 1024**2


def members(run, target):
    (archive,) = run.pack_results(target)
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("job.sh", 'echo "sum $((20 + 22))"; echo 42 > answer.txt'),
        ("job.py", "print('sum', 20 + 22); open('answer.txt', 'w').write('42\\n')"),
    ],
)
def test_the_script_runs(start, tmp_path, name, text):
    run = start("custom-script", {name: text, "input.txt": "old"})
    assert ended(run) == 0
    assert not run.failed
    assert "sum 42\n" in run.output()
    assert run.output().startswith("@@@ custom-script on 2 vCPU standard\n")
    results = members(run, tmp_path / "results")
    assert results["answer.txt"] == b"42\n"
    assert b"sum 42" in results["custom-script.log"]
    assert "input.txt" not in results
    assert name not in results


def test_changed_files_are_results_and_untouched_ones_are_not(start, tmp_path):
    run = start("custom-script", {"job.sh": "echo more >> grows.txt; mkdir -p a/b; echo x > a/b/c", "grows.txt": "1\n"})
    ended(run)
    assert set(members(run, tmp_path / "results")) == {"grows.txt", "a/b/c", "custom-script.log"}


def test_links_and_pipes_are_no_results(start, tmp_path):
    """What a client's safe unpacking refuses must not get into an archive."""
    run = start("custom-script", {"job.sh": "ln -s /etc/passwd link; mkfifo pipe; echo 1 > real; ln real twin"})
    assert ended(run) == 0
    assert members(run, tmp_path / "results") | {"custom-script.log": b""} == {
        "real": b"1\n",
        "twin": b"1\n",
        "custom-script.log": b"",
    }


def test_a_failing_script_is_completed_with_an_error_line(start):
    run = start("custom-script", {"job.sh": "echo trying; exit 3"})
    assert ended(run) == 3
    assert run.failed is False
    assert run.output().endswith("@@@ ERROR: bash ended with exit code 3\n")


def test_a_script_that_a_signal_ends_says_which(start):
    run = start("custom-script", {"job.sh": "kill -SEGV $$"})
    assert ended(run) == -11
    assert "@@@ ERROR: bash KILLED BY SIGNAL: 11" in run.output()


@pytest.mark.parametrize("files", [{}, {"readme.txt": "x"}, {"a.sh": "", "b.py": ""}, {"sub/a.sh": ""}])
def test_without_exactly_one_script_the_service_says_error(start, files, tmp_path):
    run = start("custom-script", files)
    assert run.poll() is not None
    assert run.failed
    assert "@@@ ERROR: custom-script needs exactly one .sh or .py" in run.output()
    assert run.pack_results(tmp_path / "results") == []


def test_the_script_sees_no_secret_of_the_emulator(start, monkeypatch):
    monkeypatch.setenv("CLOUDHPC_CANARY", "canary-5411")
    run = start("custom-script", {"job.sh": "env; cat /proc/$PPID/environ | tr '\\0' '\\n'; echo looked"})
    assert ended(run) == 0
    assert "looked" in run.output()
    assert "OMP_NUM_THREADS=2" in run.output()
    assert "canary" not in run.output()


def test_output_grows_while_it_runs(start):
    run = start("custom-script", {"job.sh": "echo first; while [ ! -e go ]; do sleep 0.02; done; echo second"})
    until(lambda: "first" in run.output(), "the first line")
    assert "second" not in run.output()
    assert run.poll() is None
    (run.case.workdir / "go").touch()
    assert ended(run) == 0
    assert "second" in run.output()


def test_output_of_a_chatty_script_stays_bounded(start):
    """40 MB are printed; what is kept on disk and in an answer is a fraction, its start and its end."""
    run = start(
        "custom-script", {"job.py": "print('begin')\nfor i in range(400_000): print(i, '.' * 93)\nprint('finish')"}
    )
    assert ended(run) == 0
    output = run.output()
    assert len(output) < MIB
    assert "\nbegin\n" in output
    assert output.endswith("finish\n@@@ END\n")
    assert "bytes left out]" in output
    kept = run.case.private.rglob("*")
    assert sum(path.stat().st_size for path in kept if path.is_file()) < MIB


def test_a_script_that_cleans_its_folder_keeps_its_output_and_may_name_its_files_as_it_likes(start, tmp_path):
    script = "cat .cloudhpc; echo begin; rm -rf .[!.]* *; echo x > .cloudhpc; head -c 2000000 /dev/zero; echo finish"
    run = start("custom-script", {"job.sh": script, ".cloudhpc": "mine\n"})
    assert ended(run) == 0
    assert "\nmine\nbegin\n" in run.output()
    assert run.output().endswith("finish\n@@@ END\n")
    assert members(run, tmp_path / "results")[".cloudhpc"] == b"x\n"


def test_what_was_left_out_is_counted(start):
    run = start("custom-script", {"job.py": "import sys\nfor i in range(3000): sys.stdout.write('x' * 1000)"})
    ended(run)
    log = run.log_file()["custom-script.log"]
    kept = log.count(b"x")
    left_out = int(log.partition(b"@@@ [")[2].split()[0])
    assert kept + left_out == 3_000_000


def test_too_much_memory_in_one_process(start):
    run = start("custom-script", {"job.py": "x = bytearray(3 * 2**30)"}, limits=Limits(memory_bytes=512 * MIB))
    assert ended(run) == 1
    assert run.failed is False
    assert "MemoryError" in run.output()
    assert "@@@ ERROR: out of memory (0.5 GB)" in run.output()


def test_too_much_memory_in_all_processes_together(start):
    hog = "import time; x = b'1' * (120 * 2**20); time.sleep(60)"
    text = f"import subprocess as s, sys; ps = [s.Popen([sys.executable, '-c', {hog!r}]) for _ in '1234']; ps[0].wait()"
    run = start("custom-script", {"job.py": text}, limits=Limits(memory_bytes=300 * MIB))
    assert ended(run) == -9
    assert "@@@ ERROR: KILLED BY SIGNAL: 9" in run.output()
    assert run.failed is False


def test_the_tier_decides_about_memory(start):
    """1 vCPU of highcpu has 1 GB, of standard 4: what users do after a memory failure works here too."""
    files = {"job.py": "x = bytearray(1200 * 2**20); print('fits')"}
    small = start("custom-script", files, cpu=1, ram="highcpu")
    assert ended(small) == 1
    assert "out of memory" in small.output()
    large = start("custom-script", files, cpu=1, ram="standard")
    assert ended(large) == 0
    assert "fits" in large.output()


def test_too_long(start):
    run = start("custom-script", {"job.sh": "sleep 600"}, limits=Limits(wall_seconds=1))
    assert ended(run) == -9
    assert run.failed
    assert "ended after 1 s" in run.output()


def test_too_much_processor_time(start):
    run = start("custom-script", {"job.sh": "while :; do :; done"}, limits=Limits(cpu_seconds=1))
    assert ended(run) < 0
    assert "@@@ ERROR: bash KILLED BY SIGNAL:" in run.output()


def test_too_large_a_file(start):
    script = "head -c 9000000 /dev/zero > big; echo rc $?; stat -c %s big"
    run = start("custom-script", {"job.sh": script}, limits=Limits(file_bytes=MIB))
    assert ended(run) == 0
    assert "rc 0" not in run.output()
    assert f"\n{MIB}\n" in run.output()


def test_too_many_processes(start):
    script = "for i in $(seq 60); do sleep 600 & done; wait"
    run = start("custom-script", {"job.sh": script}, limits=Limits(processes=20))
    assert ended(run) == -9
    assert run.failed
    assert "more than 20 processes" in run.output()


def test_partial_results_while_it_runs(start, tmp_path):
    run = start("custom-script", {"job.sh": "echo 1 > part; while [ ! -e go ]; do sleep 0.02; done; echo 2 > rest"})
    until(lambda: (run.case.workdir / "part").exists() and (run.case.workdir / "part").stat().st_size, "the first file")
    assert members(run, tmp_path / "partial")["part"] == b"1\n"
    (run.case.workdir / "go").touch()
    ended(run)
    assert {"part", "rest"} < set(members(run, tmp_path / "whole"))
