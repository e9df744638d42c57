# SPDX-License-Identifier: Apache-2.0
"""What is known to fail is found in the case, and nothing else is."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.diagnosis import checks
from airflow_provider_cloudhpc.api.diagnosis.case import Case, Place, case_in_storage, case_of
from airflow_provider_cloudhpc.api.diagnosis.checks import LARGE
from airflow_provider_cloudhpc.api.diagnosis.preflight import Preflight, act_on, check_case, read_preflight
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.models import StorageItem

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
        ("&MESH ID='room a/b', MPI_PROCESS=0/\n&MESH ID=\"c/d\", MPI_PROCESS=1/", []),
        ("&MESH ID='it', XB=0,1/ the user's words\n&MESH MPI_PROCESS=1/", []),
        ("&MESH IJK=1,1,1/\n&MESH MPI_PROCESS=1/", []),
        ("&MESH MULT_ID='m', MPI_PROCESS=0/\n&MESH MPI_PROCESS=4/", []),
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


def stored(*names: str) -> list[StorageItem]:
    return [
        StorageItem(
            str(number), f"room/{name.rstrip('/')}", name.rstrip("/"), "room", "dir" if name[-1] == "/" else "file"
        )
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("names", "script", "expected"),
    [
        (["room.fds"], "fds6.9.1", []),
        (["upload.tar.gz"], "fds6.9.1", []),
        (["room.zip", "notes.txt"], "fds6.9.1", []),
        # An archive that a run left is not the case.
        (["FDS.tar.gz", "notes.txt"], "fds6.9.1", ["NO_FDS_FILE", "LEFTOVERS"]),
        (["FDS.tar.gz"], "fds6.9.1", ["EMPTY_FOLDER", "LEFTOVERS"]),
        ([], "fds6.9.1", ["EMPTY_FOLDER"]),
        ([], "ubuntu-2404-static", []),
        (["room.psm"], "fds6.9.1", ["PYROSIM_FILE"]),
        (["a.fds", "b.fds"], "fds6.9.1", ["SEVERAL_FDS_FILES"]),
        # What is in a folder of the storage is not known.
        (["system/", "constant/", "0/"], "openFoam-v2406", []),
        (["constant/", "0/"], "openFoam-v2406", ["NO_CONTROLDICT"]),
        (["system/", "0/", "100/", "0.25/", "processor0/"], "openFoam-v2406", ["LEFTOVERS"]),
        (["run (2)/", "run.sh"], "custom-script", ["BAD_NAMES"]),
        (["a.export", "b.export"], "codeAster-17.0_mpi", ["SEVERAL_INPUTS"]),
        (["beam.inp", "mesh.inp"], "calculiX-2.21-PARDISO", ["SEVERAL_INPUTS"]),
    ],
)
def test_a_folder_of_the_storage_is_checked_by_its_listing(names: list[str], script: str, expected: list[str]) -> None:
    assert codes(case_in_storage(stored(*names), script=script, cpu=4, ram="standard")) == expected


ROOM = {"room.fds": DECK}
FOAM = {"system/controlDict": "", "constant/g": "", "0/U": ""}


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.xz"])
@pytest.mark.parametrize(
    ("content", "script", "expected"),
    [
        (ROOM, "fds6.9.1", []),
        ({"notes.txt": ""}, "fds6.9.1", ["NO_FDS_FILE"]),
        ({f"room/{name}": text for name, text in ROOM.items()}, "fds6.9.1", ["WRAPPED"]),
        (FOAM, "openFoam-v2406", []),
        ({f"case/{name}": text for name, text in FOAM.items()}, "openFoam-v2406", ["WRAPPED"]),
        ({"a b.sh": ""}, "custom-script", ["BAD_NAMES"]),
    ],
)
def test_an_archive_is_a_case(
    tmp_path: Path, ending: str, content: dict[str, str], script: str, expected: list[str]
) -> None:
    path = tmp_path / f"case.{ending}"
    folder = tmp_path / "content"
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.make_archive(str(tmp_path / "case"), {"zip": "zip", "tar.gz": "gztar", "tar.xz": "xztar"}[ending], folder)
    case = case_of(path, script=script)
    assert case.place is Place.ARCHIVE
    assert codes(case) == expected


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b"\x1f\x8b\x08 no more"])
@pytest.mark.parametrize("name", ["case.zip", "case.tar.gz", "case.7z"])
def test_an_archive_that_cannot_be_looked_into_is_left_to_the_platform(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert codes(case_of(tmp_path / name, script="fds6.9.1")) == []


def test_a_zipped_input_is_read_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "case.zip", "w") as archive:
        archive.writestr("room.fds", "&HEAD CHID='a'/\n&TAIL/\n")
    assert codes(case_of(tmp_path / "case.zip", script="fds6.9.1")) == ["NO_MESH"]


@pytest.mark.parametrize(
    ("deck", "expected"),
    [
        ("*INCLUDE, INPUT=mesh.inp\n*STEP\n", []),
        ('*include,input = "./mesh.inp"\n*STEP\n', []),
        ("*INCLUDE, INPUT=mesh.inp\n*INCLUDE, INPUT=Loads.inp\n", ["MISSING_FILES"]),
        ("** *INCLUDE, INPUT=old.inp\n*INCLUDE, INPUT=mesh.inp\n", []),
        ("*STEP\n", ["SEVERAL_INPUTS"]),
    ],
)
def test_the_includes_of_a_calculix_deck_are_looked_for(tmp_path: Path, deck: str, expected: list[str]) -> None:
    (tmp_path / "beam.inp").write_text(deck)
    (tmp_path / "mesh.inp").write_text("*NODE\n")
    assert codes(case_of(tmp_path, script="calculiX-2.21-PARDISO")) == expected


def test_a_deck_that_may_not_be_the_one_that_is_run_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "beam.inp").write_text("*NODE\n")
    (tmp_path / "old.inp").write_text("*INCLUDE, INPUT=gone.inp\n")
    problems = check_case(case_of(tmp_path, script="calculiX-2.21-PARDISO"))
    assert {(one.code, one.is_error) for one in problems} == {("MISSING_FILES", False), ("SEVERAL_INPUTS", False)}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({"run.sh": b"#!/bin/bash\r\necho\r\n"}, [("WINDOWS_LINE_ENDS", True)]),
        ({"run.sh": b"echo a\necho '\r\n'\n"}, []),
        ({"run.py": b"print(1)\r\n"}, []),
        ({"run.sh": b"true\n", "data.txt": b"1\r\n"}, []),
        ({"run.py": b"print(1)\n", "old.sh": b"true\r\n"}, [("WINDOWS_LINE_ENDS", False), ("SEVERAL_INPUTS", False)]),
    ],
)
def test_scripts_with_windows_line_ends_are_told(
    tmp_path: Path, contents: dict[str, bytes], expected: list[tuple[str, bool]]
) -> None:
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    problems = check_case(case_of(tmp_path, script="custom-script"))
    assert sorted((one.code, one.is_error) for one in problems) == sorted(expected)


def test_the_files_of_an_export_are_looked_for(tmp_path: Path) -> None:
    lines = ["P ncpus 1", "F comm plate.comm D 1", "F mmed /home/me/plate.med D 20", "F mess ./plate.mess R 6"]
    (tmp_path / "plate.export").write_text("\n".join(lines))
    (tmp_path / "plate.comm").write_text("")
    (problem,) = check_case(case_of(tmp_path, script="codeAster-17.0_mpi"))
    assert (problem.code, problem.is_error) == ("MISSING_FILES", False)
    assert "'/home/me/plate.med'." in problem.text


def test_more_processes_than_vcpus_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.fds").write_text("".join(f"&MESH MPI_PROCESS={n}/\n" for n in range(3)))
    assert codes(case_of(tmp_path, script="fds6.9.1", cpu=2)) == ["MPI_PROCESS_INCORRECT"]
    assert codes(case_of(tmp_path, script="fds6.9.1", cpu=4)) == []


def test_every_check_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "diagnosis.md").read_text().partition("## Before a run")[2]
    told = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)*)"', Path(checks.__file__).read_text()))
    rows = [line.split("|") for line in page.splitlines() if re.search(r"\| (error|warning) \|", line)]
    assert told == {code for row in rows for code in row[1].strip().split(", ")}


@pytest.mark.parametrize("check", checks.CHECKS)
def test_every_check_names_its_source(check: checks.Check) -> None:
    assert re.match(r"(Rules|Errors|Solver): ", check.__doc__ or "")
