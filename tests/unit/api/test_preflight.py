# SPDX-License-Identifier: Apache-2.0
"""What is known to fail is found in the case, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.diagnosis.preflight import (
    LARGE,
    Case,
    Preflight,
    act_on,
    case_of,
    check_case,
    read_preflight,
)
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError

EXAMPLES = Path(__file__).parents[3] / "example_dags" / "cases"
DECK = "&HEAD CHID='a'/\n&MESH IJK=1,1,1/\n&TAIL/\n"


def codes(case: Case) -> list[str]:
    return [problem.code for problem in check_case(case)]


def files(*names: str, size: int = 1) -> dict[str, int]:
    return dict.fromkeys(names, size)


@pytest.mark.parametrize(
    ("names", "known", "code"),
    [
        (["a b.fds"], {"script": "fds6.9.1"}, "BAD_NAMES"),
        (["run (2)/run.sh", "run.sh"], {}, "BAD_NAMES"),
        (["case/room.fds"], {}, "WRAPPED"),
        (["case/system/controlDict", "case/0/U"], {}, "WRAPPED"),
        (["room.txt"], {"script": "fds6.9.1"}, "NO_FDS_FILE"),
        (["sub/room.fds", "other.txt"], {"script": "fds6.9.1"}, "NO_FDS_FILE"),
        (["room.psm"], {"script": "fds6.9.1"}, "PYROSIM_FILE"),
        (["a.fds", "b.fds"], {"script": "fds6.9.1"}, "SEVERAL_FDS_FILES"),
        (["constant/polyMesh/points", "0/U"], {"script": "openFoam-v2406"}, "NO_CONTROLDICT"),
        (["0/U", "system/x"], {"script": "snappyHexMesh-v2312"}, "NO_CONTROLDICT"),
        (["case.comm"], {"script": "codeAster-17.0_mpi"}, "NO_EXPORT_FILE"),
        (["beam.txt"], {"script": "calculiX-2.21-PARDISO"}, "NO_INP_FILE"),
        (["data.csv"], {"script": "custom-script"}, "NO_SCRIPT"),
        (["a.fds"], {"script": "fds6.9.1", "cpu": 1, "ram": "highcpu"}, "LOW_VCPU"),
        (["system/controlDict"], {"script": "openFoam-v2406", "cpu": 2, "ram": "standard"}, "OPENFOAM_ONE_PROCESS"),
        (["system/controlDict"], {"script": "openFoam-v2406", "cpu": 1, "ram": "highcore"}, "OPENFOAM_ONE_PROCESS"),
    ],
)
def test_what_fails_is_an_error(names: list[str], known: dict[str, Any], code: str) -> None:
    problems = check_case(Case(files(*names), **known))
    assert [problem.code for problem in problems if problem.is_error] == [code]
    with pytest.raises(CloudHPCValueError, match=f"nothing was sent.*{code}.*What to do"):
        act_on(problems, Preflight.ERROR, lambda line: None)


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["room.fds"], {"script": "fds6.9.1", "cpu": 8, "ram": "highcpu"}),
        (["ROOM.FDS", "terrain.stl"], {"script": "fds6.9.1"}),
        (["upload.tar.gz"], {"script": "fds6.9.1"}),
        (["case.zip"], {"script": "openFoam-v2406", "cpu": 4, "ram": "standard"}),
        (["system/controlDict", "0/U", "constant/g"], {"script": "openFoam-v2406", "cpu": 2, "ram": "highcore"}),
        (["a.export", "a.comm"], {"script": "codeAster-17.0_mpi"}),
        (["beam.inp"], {"script": "calculiX-2.21-PARDISO", "cpu": 2, "ram": "highcpu"}),
        (["run.py", "data/a.csv"], {"script": "custom-script", "cpu": 1, "ram": "highcpu"}),
        ([], {"script": "ubuntu-2404-static", "cpu": 1, "ram": "highcpu"}),
        (["whatever.txt"], {"script": "a-solver-that-came-later"}),
        (["whatever.txt"], {}),
    ],
)
def test_what_is_right_is_not_told(names: list[str], known: dict[str, Any]) -> None:
    assert codes(Case(files(*names), **known)) == []


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["run.sh", "processor0/0/U", "processor1/0/U"], "'processor0', 'processor1'"),
        (["room.fds", "FDS.tar.gz"], "FDS.tar.gz"),
        (["system/controlDict", "log.simpleFoam"], "log.simpleFoam"),
        (["room.fds", "room.out"], "room.out"),
    ],
)
def test_what_an_earlier_run_left_is_told(names: list[str], left: str) -> None:
    (problem,) = check_case(Case(files(*names)))
    assert problem.code == "LEFTOVERS"
    assert not problem.is_error
    assert left in str(problem)


def test_a_large_case_is_told() -> None:
    (problem,) = check_case(Case({"a.dat": LARGE, "b.dat": 1}))
    assert (problem.code, problem.is_error) == ("LARGE", False)
    assert "'a.dat'" in problem.text


@pytest.mark.parametrize(
    ("meshes", "code"),
    [
        ("", ["NO_MESH"]),
        ("&MESH IJK=1,1,1/", []),
        ("&MESH MPI_PROCESS=0/\n&MESH MPI_PROCESS=0/\n&MESH MPI_PROCESS=1/", []),
        ("&MESH MPI_PROCESS=1/\n&MESH MPI_PROCESS=0/", ["MPI_PROCESS_ORDER"]),
        ("&MESH MPI_PROCESS=0/\n&MESH MPI_PROCESS=2/", ["MPI_PROCESS_INCORRECT"]),
        ("&mesh mpi_process = 1/", ["MPI_PROCESS_INCORRECT"]),
    ],
)
def test_the_meshes_of_an_fds_input_are_read(tmp_path: Path, meshes: str, code: list[str]) -> None:
    (tmp_path / "a.fds").write_text(f"&HEAD CHID='a'/\n{meshes}\n&TAIL/\n")
    assert codes(case_of(tmp_path, script="fds6.9.1")) == code


def test_what_is_left_out_or_hidden_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.fds").write_text(DECK)
    (tmp_path / "b.fds").write_text(DECK)
    (tmp_path / ".c d").write_text("")
    assert codes(case_of(tmp_path, script="fds6.9.1", exclude=["b.*"])) == []


def test_one_file_is_a_case(tmp_path: Path) -> None:
    deck = tmp_path / "a.psm"
    deck.write_text("")
    assert codes(case_of(deck, script="fds6.9.1")) == ["PYROSIM_FILE"]


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("cavity_python", "custom-script"),
        ("beam_calculix", "calculiX-2.21-PARDISO"),
        ("cavity_openfoam", "openFoam-v2406"),
    ],
)
def test_the_examples_pass(name: str, script: str) -> None:
    assert codes(case_of(EXAMPLES / name, script=script, cpu=4, ram="standard")) == []


def test_nothing_is_changed(tmp_path: Path) -> None:
    (tmp_path / "a.fds").write_text(DECK)
    (tmp_path / "log.run").write_text("")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    check_case(case_of(tmp_path, script="fds6.9.1"))
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before


@given(
    st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 10**12), max_size=10),
    st.sampled_from(["", "fds6.9.1", "openFoam-v2406", "calculiX-2.21", "custom-script", "x"]),
)
def test_no_case_breaks_it(names: dict[str, int], script: str) -> None:
    for problem in check_case(Case(names, script, 1, "highcpu")):
        assert problem.fix


def test_warnings_are_told_and_errors_too_where_they_are_to_be() -> None:
    told: list[str] = []
    act_on(check_case(Case(files("a b", "log.x"))), Preflight.WARN, told.append)
    assert [line.partition(":")[0] for line in told] == ["BAD_NAMES", "LEFTOVERS"]


@pytest.mark.parametrize("value", ["", "strict", None, True])
def test_an_unknown_mode_is_refused(value: object) -> None:
    with pytest.raises(CloudHPCValueError, match="preflight is"):
        read_preflight(value)
