# SPDX-License-Identifier: Apache-2.0
"""
Every line of an output that the service's documentation gives a meaning, and lines that only look like one.

The table is transcribed by hand from what is documented, not made from the catalogue: a row that is lost, or a pattern
that became too narrow, fails here.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from airflow_provider_cloudhpc.api.diagnosis.catalogue import Kind, Severity
from airflow_provider_cloudhpc.api.diagnosis.scanner import BLOCK, diagnose

PAGE = "https://docs.cloudhpc.cloud/errors/"
E, W = Severity.ERROR, Severity.WARNING
RAM_TIERS = {
    "highcpu": "standard",
    "hypercpu": "standard",
    "highcore": "standard",
    "hypercore": "standard",
    "standard": "highmem",
    "highmem": None,
    "basegpu": None,
}


@dataclass(frozen=True)
class Documented:
    """
    A documented line.

    :param fix: words that the advice holds
    :param forms: the line as it may stand in an output
    """

    severity: Severity
    kind: Kind
    fix: str
    forms: tuple[str, ...]


DOCUMENTED: dict[str, Documented] = {
    # --- errors ---
    "SWAP unresolved after N attempts": Documented(
        E,
        Kind.OUT_OF_MEMORY,
        "more memory per vCPU",
        (
            "SWAP unresolved after 3 attempts",
            "SWAP unresolved after 120 attempts.",
            "SWAP unresolved after 1 attempts: stop",
        ),
    ),
    "KILLED BY SIGNAL: 9": Documented(
        E,
        Kind.OUT_OF_MEMORY,
        "more memory per vCPU",
        (
            "KILLED BY SIGNAL: 9",
            "=   KILLED BY SIGNAL: 9 (Killed)",
            "BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES: RANK 12 PID 4711 KILLED BY SIGNAL: 9 (Killed)",
        ),
    ),
    "Unable to allocate ... bytes": Documented(
        E,
        Kind.OUT_OF_MEMORY,
        "more memory per vCPU",
        (
            "Unable to allocate 1 bytes",
            "Unable to allocate 137438953472 bytes",
            "ERROR: Unable to allocate 2.5 G bytes of memory",
            "Unable to allocate an array of 8000000000 bytes",
        ),
    ),
    "out of memory": Documented(
        E,
        Kind.OUT_OF_MEMORY,
        "more memory per vCPU",
        (
            "out of memory",
            "Out of memory: Killed process 4711 (fds_openmp) total-vm:33554432kB",
            "[ 1234.567890] Out of memory: Kill process 77 (simpleFoam) score 998 or sacrifice child",
            "MUMPS: out of memory",
        ),
    ),
    "std::bad_alloc": Documented(
        E,
        Kind.OUT_OF_MEMORY,
        "more memory per vCPU",
        (
            "std::bad_alloc",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "  what():  std::bad_alloc",
            "[3] Error: std::bad_alloc",
        ),
    ),
    "HARD DISK used > 90": Documented(
        E,
        Kind.DISK_FULL,
        "Write less",
        ("HARD DISK used > 90", "HARD DISK used > 90%", "HARD DISK used > 95 %", "HARD DISK used > 100% of 200 GB"),
    ),
    "AUTOMATIC SOFT STOP": Documented(
        E,
        Kind.DISK_FULL,
        "Write less",
        ("AUTOMATIC SOFT STOP", "AUTOMATIC SOFT STOP of simulation 4711", "disk full: AUTOMATIC SOFT STOP!"),
    ),
    "Not found folder X inside of compressed file": Documented(
        E,
        Kind.BAD_ARCHIVE,
        "named like the archive",
        (
            "Not found folder caseA inside of compressed file",
            "Not found folder case-A_2.1 inside of compressed file case-A_2.1.zip",
        ),
    ),
    "FOLDER X not detected": Documented(
        E,
        Kind.BAD_ARCHIVE,
        "folder's name",
        ("FOLDER caseA not detected", "FOLDER my.case-2026_11 not detected", "FOLDER caseA not detected."),
    ),
    "not recognized as an available compressed format": Documented(
        E,
        Kind.BAD_ARCHIVE,
        "zip, tar.gz, 7z, rar or xz",
        (
            "case.arj not recognized as an available compressed format",
            "upload.lzma: not recognized as an available compressed format.",
        ),
    ),
    "No FDS file detected": Documented(
        E, Kind.BAD_INPUT, ".fds file", ("No FDS file detected", "No FDS file detected in folder room")
    ),
    "is a pyrosim file": Documented(
        E, Kind.BAD_INPUT, "Export", ("room.psm is a pyrosim file", "room.psm is a pyrosim file: export it")
    ),
    "MPI_MPI_PROCESS incorrect": Documented(
        E, Kind.BAD_INPUT, "MPI_PROCESS from 0", ("MPI_MPI_PROCESS incorrect", "MPI_MPI_PROCESS incorrect: 16 > 8")
    ),
    "must be in ASCENDING ORDER": Documented(
        E,
        Kind.BAD_INPUT,
        "Sort the &MESH",
        ("MPI_PROCESS must be in ASCENDING ORDER", "MPI_PROCESS values must be in ASCENDING ORDER!"),
    ),
    "low vCPU selected": Documented(
        E, Kind.BAD_MACHINE, "more vCPUs", ("low vCPU selected", "low vCPU selected: 1", "Too low vCPU selected.")
    ),
    "Cannot find system/controlDict": Documented(
        E,
        Kind.BAD_INPUT,
        "system/, constant/ and 0/",
        ("Cannot find system/controlDict", "Cannot find system/controlDict in folder cavity"),
    ),
    "openFoam script runs with nProc > 1": Documented(
        E, Kind.BAD_MACHINE, "at least 2 vCPUs on highcore", ("openFoam script runs with nProc > 1",)
    ),
    "snappy script runs with nProc > 1": Documented(
        E, Kind.BAD_MACHINE, "at least 2 vCPUs on highcore", ("snappy script runs with nProc > 1 only",)
    ),
    "snappyHexMesh failure": Documented(
        E,
        Kind.MESHING,
        "log.snappyHexMesh",
        ("snappyHexMesh failure", "snappyHexMesh failure: see log.snappyHexMesh"),
    ),
    "incorrect decomposeParDict file": Documented(
        E, Kind.BAD_INPUT, "method", ("incorrect decomposeParDict file", "incorrect decomposeParDict file: 8 != 16")
    ),
    "no export file detected": Documented(
        E, Kind.BAD_INPUT, ".export file", ("no export file detected", "no export file detected in plate")
    ),
    "No PRJ file found": Documented(E, Kind.BAD_INPUT, ".prj file", ("No PRJ file found", "No PRJ file found.")),
    "No IDF file found": Documented(E, Kind.BAD_INPUT, ".idf file", ("No IDF file found", "No IDF file found in a")),
    "No IN file found": Documented(E, Kind.BAD_INPUT, ".in file", ("No IN file found", "No IN file found!")),
    "No CAS file found": Documented(E, Kind.BAD_INPUT, ".cas file", ("No CAS file found", "No CAS file found: stop")),
    # --- warnings ---
    "RAM used > N%": Documented(
        W, Kind.OUT_OF_MEMORY, "next RAM tier", ("RAM used > 5%", "RAM used > 80%", "RAM used > 100% of 64 GB")
    ),
    "HARD DISK used > 80": Documented(
        W, Kind.DISK_FULL, "Write less", ("HARD DISK used > 80", "HARD DISK used > 80%", "HARD DISK used > 85 %")
    ),
    "no other WARNING messages showed": Documented(
        W,
        Kind.PLATFORM,
        "solver's own log",
        ("no other WARNING messages showed", "From here no other WARNING messages showed"),
    ),
    "high number of threads used": Documented(
        W, Kind.PERFORMANCE, "fewer threads", ("high number of threads used", "high number of threads used: 32")
    ),
    "high number of Pressure Zones": Documented(
        W, Kind.PERFORMANCE, "closed volumes", ("high number of Pressure Zones", "high number of Pressure Zones: 117")
    ),
    "DEVC for X may slow down your simulation": Documented(
        W,
        Kind.PERFORMANCE,
        "fewer of them",
        (
            "DEVC for VISIBILITY may slow down your simulation",
            "DEVC for HEAT FLUX GAUGE may slow down your simulation",
        ),
    ),
    "polyMesh folder not found": Documented(
        W, Kind.BAD_INPUT, "mesh=", ("polyMesh folder not found", "polyMesh folder not found in constant/")
    ),
    "suggested to use startFrom latestTime": Documented(
        W,
        Kind.BAD_INPUT,
        "startFrom latestTime;",
        ("suggested to use startFrom latestTime", "It is suggested to use startFrom latestTime."),
    ),
}  # fmt: skip
FORMS = [(name, form) for name, documented in DOCUMENTED.items() for form in documented.forms]
FILLER = "Time = 0.005 Courant Number mean: 0.22 max: 0.85 residual 1.2e-06\n" * (BLOCK // 60)


def _coloured(form: str) -> bytes:
    first, _, rest = form.partition(" ")
    return f"\x1b[1;31m@@@\x1b[0m \x1b[33m{first}\x1b[0m {rest}\x1b[K\n".encode()


#: How a line may stand in an output.
DRESSES = {
    "alone": lambda form: f"{form}".encode(),
    "platform": lambda form: f"begin\n@@@ {form}\nend\n".encode(),
    "platform with its weight": lambda form: f"@@@ {'ERROR' if 'may' not in form else 'WARNING'}: {form}\n".encode(),
    "platform without a space": lambda form: f"@@@{form}\n".encode(),
    "platform on both sides": lambda form: f"@@@ {form} @@@\n".encode(),
    "indented": lambda form: f"step\n\t   {form}   \nend\n".encode(),
    "rank before it": lambda form: f"[3] {form}\n[3] next\n".encode(),
    "program before it": lambda form: f"mpirun: {form}\n".encode(),
    "logger before it": lambda form: f"2026-11-23T07:04:11.123Z ERROR platform.run - {form}\n".encode(),
    "NULs in it": lambda form: "\0".join(form).encode() + b"\0\n\0",
    "behind 40 kB of its line": lambda form: b"=" * 40_000 + f" {form}\n".encode(),
    "date before it": lambda form: f"[2026-11-23 07:04:11] {form}\n".encode(),
    "colours": _coloured,
    "carriage returns": lambda form: f"begin\r\n{form}\r\nend\r\n".encode(),
    "behind a progress bar": lambda form: f"10%\r20%\r{form}\r\n".encode(),
    "latin-1 around it": lambda form: b"Stra\xdfe \xe0\xff 50 \xb0C\n@@@ " + form.encode() + b" \xe9t\xe9\n\xfc\n",
    "utf-16": lambda form: f"{form}\r\nend".encode("utf-16"),
}


@pytest.mark.parametrize(("name", "form"), FORMS, ids=[form for _, form in FORMS])
def test_a_documented_line_is_known_in_every_dress(name: str, form: str) -> None:
    for dress in DRESSES.values():
        _is_known(name, form, dress(form))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_it_is_known_wherever_it_stands(name: str) -> None:
    form = DOCUMENTED[name].forms[-1]
    _is_known(name, form, (FILLER + form + "\n" + FILLER).encode())
    across = BLOCK - 1 - len(form) // 2
    _is_known(name, form, b"." * across + b"\n" + form.encode() + b"\n" + FILLER.encode())


def _is_known(name: str, form: str, output: bytes) -> None:
    documented = DOCUMENTED[name]
    (finding,) = diagnose(output, ram="highcpu").findings
    assert (finding.severity, finding.kind) == (documented.severity, documented.kind), output[:200]
    assert documented.fix in finding.fix
    assert (finding.link or "").startswith(PAGE)
    assert form.split()[0] in finding.quoted
    assert finding.count == 1
    assert finding.cause


@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, form in FORMS if DOCUMENTED[name].kind is Kind.OUT_OF_MEMORY]
)
@pytest.mark.parametrize("ram", RAM_TIERS)
def test_a_lack_of_memory_names_the_next_tier(name: str, form: str, ram: str) -> None:
    result = diagnose(form, ram=ram)
    is_error = DOCUMENTED[name].severity is E
    assert result.out_of_memory is is_error
    assert result.next_ram == (RAM_TIERS[ram] if is_error else None)


@pytest.mark.parametrize(
    "name", [name for name, documented in DOCUMENTED.items() if documented.kind is not Kind.OUT_OF_MEMORY]
)
def test_no_tier_is_named_for_anything_else(name: str) -> None:
    result = diagnose(DOCUMENTED[name].forms[0], ram="highcpu")
    assert (result.out_of_memory, result.next_ram) == (False, None)


def test_all_at_once_are_told_apart() -> None:
    text = "".join(f"@@@ {documented.forms[0]}\n" for documented in DOCUMENTED.values())
    findings = {finding.line_number: finding for finding in diagnose(text).findings}
    # The two lines about nProc are one row; everything else has one of its own.
    same = list(DOCUMENTED).index("snappy script runs with nProc > 1") + 1
    assert set(findings) == set(range(1, len(DOCUMENTED) + 1)) - {same}
    assert sum(finding.count for finding in findings.values()) == len(DOCUMENTED)


NEAR_MISSES = [
    # files that are listed, packed, read and written
    "-rw-r--r-- 1 user user 1234 Nov 23 07:00 out of memory.txt",
    "-rw-r--r--+ 1 user user 1234 Nov 23 07:00 KILLED BY SIGNAL: 9",
    "drwxr-xr-x user/user 0 2026-11-23 07:00 snappyHexMesh failure/",
    "  inflating: case/out of memory.txt",
    " extracting: case/No FDS file detected",
    "x case/out of memory.txt",
    "     1234  2026-11-23 07:00   out of memory.txt",
    "out of memory.txt",
    "./out of memory.txt",
    "out_of_memory.csv",
    "reading results/std::bad_alloc.log",
    "user's file 'out of memory' uploaded",
    "Copying folder 'out of memory'",
    # a script that is shown while it runs
    "+ echo 'out of memory'",
    "++ grep -c 'KILLED BY SIGNAL: 9' log.txt",
    "echo \"No FDS file detected\"",
    "# if it is out of memory take more RAM",
    "grep 'Unable to allocate' log | wc -l",
    "// std::bad_alloc is thrown here",
    "** out of memory: see the manual",
    # parameters and counts
    "PARAMETER on_out_of_memory = stop",
    "max_out_of_memory_retries: 3",
    "nLowVCPU 0",
    "0 errors",
    "errors: 0",
    "Errors = 0, Warnings = 0",
    "@@@ 0 errors",
    "@@@ ERRORS: 0",
    "@@@ no errors",
    "*** ANALYSIS COMPLETED WITH 0 ERRORS ***",
    "Failed allocations: 0 bytes",
    "RAM used: 40%",
    "RAM used 90 GB of 128 GB",
    "HARD DISK used: 91%",
    "HARD DISK used > 50%",
    "HARD DISK used > 79",
    "KILLED BY SIGNAL: 0 processes",
    # talk about it
    "If you run out of memory, use highmem",
    "The solver may run out of memory on large meshes",
    "This build never throws std::bad_alloc",
    "no out of memory",
    "Out of memory management is done by the kernel",
    "Failed 0 mesh checks.",
    "without out of memory",
    "If the mesh is bad, try again: see snappyHexMesh failures in the manual",
    "Mesh numbers must be in ascending order",
    "no other warning messages shown",
    # parts of other words
    "MNo IN file founders",
    "openFoam script runs with nProc > 16",
    "low vCPU selectedness",
]  # fmt: skip


@pytest.mark.parametrize("line", NEAR_MISSES)
def test_a_line_that_only_looks_like_one_is_clean(line: str) -> None:
    for text in (line, f"begin\n{line}\nend\n", f"begin\r\n{line}\r\n"):
        assert [finding.code for finding in diagnose(text).findings] == []


def test_they_are_clean_in_a_long_output_too() -> None:
    assert diagnose(FILLER + FILLER.join(f"{line}\n" for line in NEAR_MISSES)).findings == ()
