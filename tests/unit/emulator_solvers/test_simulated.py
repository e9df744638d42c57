# SPDX-License-Identifier: Apache-2.0
"""What the emulator pretends is believable, the same for the same seed, and strict about its input."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator.solvers import solver_available
from airflow_provider_cloudhpc.emulator.solvers.base import Case, Run
from airflow_provider_cloudhpc.emulator.solvers.families import FAMILIES, family_of
from airflow_provider_cloudhpc.emulator.solvers.simulated import SOFT_SECONDS, SimulatedRun
from tests.unit.emulator_solvers.conftest import Clock, ended

FIRE = {"couch.fds": "&HEAD CHID='couch' /\n&MESH IJK=8,8,8 /\n&TIME T_END=60. /\n&TAIL /\n"}
FOAM = {"system/controlDict": "application icoFoam;\n", "system/snappyHexMeshDict": ""}

#: script, a case it takes, archives it leaves
SOLVERS = [
    ("fds6.9.1", FIRE, {"FDS.tar.gz"}),
    ("codeAster-17.0_mpi", {"part.export": ""}, {"CODE-ASTER.tar.gz", "part.rmed"}),
    ("SU2_8.3", {"wing.cfg": ""}, {"SU2.tar.gz"}),
    ("SATURNE-8.0", {}, {"SATURNE-solution.tar.gz"}),
    ("openRadioss-2024", {"crash_0000.rad": ""}, {"OPENRADIOSS.tar.gz"}),
    ("snappyHexMesh-v2312", FOAM, {"OPENFOAM-constant.tar.gz", "OPENFOAM-solution.tar.gz"}),
    ("energyPlus-23", {"house.idf": ""}, {"ENERGYPLUS.tar.gz"}),
    ("newSolver-1.0", {}, {"RESULTS.tar.gz"}),
]

#: script, files, machine, what the platform says
REFUSED = [
    ("fds6.9.1", {}, (4, "standard"), "No FDS file detected"),
    ("fds6.9.1", {"a.psm": ""}, (4, "standard"), "a.psm is a pyrosim file"),
    (
        "fds6.9.1",
        {"a.fds": "&MESH MPI_PROCESS=1 /\n&MESH MPI_PROCESS=0 /"},
        (8, "standard"),
        "must be in ASCENDING ORDER",
    ),
    (
        "fds6.9.1",
        {"a.fds": "&MESH MPI_PROCESS=0 /\n&MESH MPI_PROCESS=4 /"},
        (8, "standard"),
        "MPI_MPI_PROCESS incorrect",
    ),
    ("fds6.9.1", FIRE, (1, "highcpu"), "low vCPU selected"),
    ("calculiX-2.21-PARDISO", {}, (4, "standard"), "exactly one .inp with a *STEP"),
    (
        "calculiX-2.21-PARDISO",
        {"a.inp": "*STEP\n", "b.inp": "*step\n"},
        (4, "standard"),
        "exactly one .inp with a *STEP",
    ),
    ("openFoam-v2406", {"controlDict": ""}, (4, "standard"), "Cannot find system/controlDict"),
    ("openFoam-v2406", FOAM, (2, "standard"), "openFoam script runs with nProc > 1"),
    ("openFoam-v2406", FOAM, (1, "highcore"), "openFoam script runs with nProc > 1"),
    (
        "openFoam-v2406",
        {**FOAM, "system/decomposeParDict": "numberOfSubdomains 8;"},
        (4, "standard"),
        "incorrect decomposeParDict file",
    ),
    ("openFoam-v2406", {"system/controlDict": ""}, (4, "standard"), "no Allrun, and no application"),
    ("snappyHexMesh-v2312", {}, (4, "standard"), "Cannot find system/controlDict"),
    ("snappyHexMesh-v2312", FOAM, (2, "highcpu"), "snappy script runs with nProc > 1"),
    ("snappyHexMesh-v2312", {"system/controlDict": ""}, (4, "standard"), "snappyHexMesh failure"),
    ("codeAster-17.0_mpi", {}, (4, "standard"), "no export file detected"),
    ("contam-3.4", {}, (4, "standard"), "No PRJ file found"),
    ("energyPlus-23", {}, (4, "standard"), "No IDF file found"),
    ("cfast-7", {}, (4, "standard"), "No IN file found"),
    ("telemac-v8", {}, (4, "standard"), "No CAS file found"),
]


#: Emulated seconds after which every simulated solver has ended.
LATE = 1000.0


@pytest.mark.parametrize(("script", "files", "archives"), SOLVERS, ids=[row[0] for row in SOLVERS])
def test_a_whole_run(start, tmp_path, script, files, archives):
    assert not solver_available(script)
    run = start(script, files, cpu=4, clock=Clock(LATE), started=0.0)
    assert isinstance(run, SimulatedRun)
    assert ended(run) == 0
    assert not run.failed
    assert run.output().endswith("@@@ END\n")
    packed = run.pack_results(tmp_path / "results")
    assert {path.name for path in packed} == archives
    for path in packed:
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as tar:
                assert all(member.size for member in tar)


@pytest.mark.parametrize(("script", "files", "machine", "reason"), REFUSED)
def test_what_the_platform_refuses(start, tmp_path, script, files, machine, reason):
    cpu, ram = machine
    run = start(script, files, cpu=cpu, ram=ram)
    assert run.poll() is not None
    assert run.failed
    (line,) = [line for line in run.output().splitlines() if line.startswith("@@@ ERROR")]
    assert reason in line
    assert run.pack_results(tmp_path / "results") == []
    run.soft_stop()
    run.kill()
    assert run.poll() is not None


@pytest.mark.parametrize(
    ("cpu", "ram"), [(2, "highcore"), (2, "hypercore"), (4, "highcpu"), (4, "standard"), (4, "highmem")]
)
def test_machines_that_are_large_enough_for_openfoam(tmp_path, cpu, ram):
    (tmp_path / "system").mkdir()
    (tmp_path / "system/controlDict").write_text("application icoFoam;\n")
    assert family_of("openFoam-v2406").refusal(Case("openFoam-v2406", cpu, ram, tmp_path)) is None


def test_fds_prints_and_leaves_what_fds_does(start, tmp_path):
    run = start("fds6.9.1", FIRE, cpu=4, clock=Clock(LATE), started=0.0)
    ended(run)
    output = run.output()
    assert "@@@ Starting FDS" in output
    assert "Simulation Time:      60.00 s" in output
    assert "STOP: FDS completed successfully (CHID: couch)" in output
    with tarfile.open(run.pack_results(tmp_path / "results")[0]) as tar:
        out = tar.extractfile("couch.out").read().decode()
        heat = tar.extractfile("couch_hrr.csv").read().decode().splitlines()
    assert out.endswith("STOP: FDS completed successfully (CHID: couch)\n")
    assert heat[:2] == ["s,kW", "Time,HRR"]
    assert float(heat[-1].split(",")[0]) == 60


def test_an_fds_input_without_a_mesh_is_completed_and_not_solved(start):
    run = start("fds6.9.1", {"a.fds": "&HEAD CHID='a' /"}, cpu=4, clock=Clock(LATE), started=0.0)
    assert ended(run) == 1
    assert run.failed is False
    assert "FDS was improperly set-up" in run.output()
    assert "completed successfully" not in run.output()


def test_the_same_seed_tells_the_same_story(start, tmp_path):
    def story(seed, number):
        run = start("SU2_8.3", {"wing.cfg": ""}, clock=Clock(LATE), started=0.0, seed=seed)
        ended(run)
        with tarfile.open(run.pack_results(tmp_path / f"results{number}")[0]) as tar:
            return run.output(), [tar.extractfile(member).read() for member in tar]

    assert story(7, 1) == story(7, 2)
    assert story(7, 3) != story(8, 4)


def test_progress_soft_stop_and_partial_results(start, tmp_path):
    clock = Clock()
    run = start("fds6.9.1", FIRE, cpu=4, clock=clock)
    clock.time += 1
    assert "Time Step:      5," in run.output()
    with tarfile.open(run.pack_results(tmp_path / "partial")[0]) as tar:
        assert "STOP" not in tar.extractfile("couch.out").read().decode()
    run.soft_stop()
    assert run.poll() is None  # it ends its iteration first
    clock.time += LATE
    assert ended(run) == 0
    assert run.ended_at == 1 + SOFT_SECONDS
    assert "STOP: FDS stopped by user" in run.output()
    assert "completed successfully" not in run.output()
    with tarfile.open(run.pack_results(tmp_path / "results")[0]) as tar:
        assert "STOP: FDS stopped by user" in tar.extractfile("couch.out").read().decode()


def test_hard_stop(start):
    run = start("fds6.9.1", FIRE, cpu=4, clock=Clock())
    assert run.poll() is None
    run.kill()
    assert run.poll() == -9
    assert run.output().endswith("@@@ STOPPED: hard stop\n")


@pytest.mark.parametrize("stop", ["soft_stop", "kill"])
def test_a_static_machine_runs_until_stopped(start, tmp_path, stop):
    run = start("ubuntu-2404-static", {"anything": "x"}, cpu=1, ram="highcpu", clock=(clock := Clock(LATE)))
    clock.time += LATE
    assert run.poll() is None
    getattr(run, stop)()
    clock.time += LATE
    ended(run)
    assert "STOPPED" in run.output()
    assert run.pack_results(tmp_path / "results") == []


def test_a_thousand_simulated_runs_need_no_thread():
    threads = threading.active_count()
    runs: list[Run] = [_simulated(number) for number in range(1000)]
    assert threading.active_count() == threads
    assert all(run.poll() is None for run in runs)


def _simulated(seed):
    case = Case("SATURNE-8.0", 4, "standard", Path.cwd(), clock=Clock(), seed=seed)
    return SimulatedRun(case, family_of("SATURNE-8.0").story(case))


def test_every_family_has_its_own_prefix():
    prefixes = [family.prefix for family in FAMILIES]
    for family in FAMILIES:
        assert family_of(family.prefix.upper() + "-1.0") is family
    assert len(set(prefixes)) == len(prefixes)


def test_only_the_standard_library():
    """The solvers import neither a web framework nor anything else of the emulator."""
    code = (
        "import sys; before = set(sys.modules); import airflow_provider_cloudhpc.emulator.solvers.supervisor as s;"
        "names = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(names - set(sys.stdlib_module_names) - {'airflow_provider_cloudhpc'})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
