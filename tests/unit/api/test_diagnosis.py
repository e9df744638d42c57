# SPDX-License-Identifier: Apache-2.0
"""What an output means: golden outputs of every row and of clean runs, and what no output can do to the scanner."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.diagnosis.catalogue import CATALOGUE, Kind, Severity
from airflow_provider_cloudhpc.api.diagnosis.lines import QUOTE_LENGTH
from airflow_provider_cloudhpc.api.diagnosis.scanner import BLOCK, LAST_LINES, WINDOW, OutputScanner, diagnose
from airflow_provider_cloudhpc.api.diagnosis.verdict import next_ram

ROOT = Path(__file__).parents[3]
OUTPUTS = ROOT / "tests" / "golden" / "outputs"
EXPECTED = json.loads((OUTPUTS / "expected.json").read_text())
ROWS = {row.code: row for row in CATALOGUE}
CLEAN = sorted(name for name in EXPECTED if name.startswith("clean-"))
MEANING = sorted(name for name in EXPECTED if name.startswith("row-"))
#: Texts that the fuzz puts together: pieces of messages, of guards, of endings, of terminals and of encodings.
SCRAPS = [
    *(
        pattern.text.replace("{n}", "90").replace("{word}", "X").replace("{any}", "a b")
        for row in CATALOGUE
        for pattern in row.patterns
    ),
    *(
        "Starting FDS",
        "STOP: FDS completed successfully",
        "Starting time loop",
        "End",
        "Exec   : icoFoam",
        "Job finished",
    ),
    *(
        "Traceback (most recent call last):",
        "ValueError: x",
        "@@@ ",
        "+ ",
        "# ",
        "** ",
        "if ",
        "'",
        ".txt",
        "/",
        "_",
        ": ",
    ),
    *(
        "\n",
        "\n",
        "\r",
        "\r\n",
        " ",
        "\x1b[31m",
        "\x1b]0;t\x07",
        "\x1b",
        "\0",
        "\ufeff",
        "é",
        "║",
        "out of",
        "memory",
        "9",
        "x" * 2000,
    ),
]


@pytest.mark.parametrize("name", MEANING)
def test_each_row_is_found_where_it_stands(name: str) -> None:
    expected = EXPECTED[name]
    row = ROWS[expected["code"]]
    result = diagnose((OUTPUTS / name).read_bytes(), script=expected["script"], ram="highcpu")
    (finding,) = result.findings
    assert (finding.code, finding.quoted, finding.line_number, finding.count) == (
        row.code,
        expected["line"],
        expected["line_number"],
        expected.get("count", 1),
    )
    assert finding.severity == row.severity == result.severity
    assert result.out_of_memory is (row.kind is Kind.OUT_OF_MEMORY and row.severity is Severity.ERROR)
    assert result.next_ram == ("standard" if result.out_of_memory else None)


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith("real-")))
def test_what_solvers_really_print_is_told_with_its_reason(name: str) -> None:
    expected = EXPECTED[name]
    result = diagnose((OUTPUTS / name).read_bytes(), script=expected["script"], ram="highcpu")
    assert result.main_error is not None
    assert (result.main_error.code, result.main_error.told) == (expected["code"], expected["told"])


def test_every_row_has_a_golden_output() -> None:
    assert {EXPECTED[name]["code"] for name in MEANING} == set(ROWS)
    assert len(ROWS) == len(CATALOGUE), "a code is used twice"
    assert {path.name for path in OUTPUTS.glob("*.txt")} == set(EXPECTED)


@pytest.mark.parametrize("name", CLEAN)
def test_clean_outputs_raise_no_alarm(name: str) -> None:
    result = diagnose((OUTPUTS / name).read_bytes(), script=EXPECTED[name]["script"])
    assert [finding.to_dict() for finding in result.findings] == []
    assert result.checked == "full"
    assert result.finished is not False


@pytest.mark.parametrize("name", [name for name in CLEAN if "awkward" not in name])
def test_clean_outputs_turn_bad_with_one_line_more(name: str) -> None:
    # That they are clean is not because nothing is found in them.
    text = (OUTPUTS / name).read_bytes()
    found = diagnose(text + b"=   KILLED BY SIGNAL: 9 (Killed)\n", script=EXPECTED[name]["script"])
    assert [finding.code for finding in found.errors] == ["KILLED_BY_SIGNAL_9"]


@pytest.mark.parametrize("name", ["clean-fds", "clean-openfoam", "clean-calculix"])
def test_an_output_that_breaks_off_did_not_finish(name: str) -> None:
    text = (OUTPUTS / f"{name}.txt").read_text()
    script = EXPECTED[f"{name}.txt"]["script"]
    assert diagnose(text, script=script).finished is True
    end = {"clean-fds": "STOP: FDS", "clean-openfoam": "\nEnd\n\nFinalising", "clean-calculix": " Job finished"}[name]
    broken = diagnose(text[: text.index(end)], script=script)
    assert broken.finished is False
    assert [finding.code for finding in broken.errors] == ["NOT_FINISHED"]
    # What was not read cannot be missed.
    capped = diagnose(text[: text.index(end)], script=script, complete=False)
    assert (capped.finished, capped.findings, capped.checked) == (None, (), "partial")
    assert "not fully checked" in capped.summary


@pytest.mark.parametrize(
    ("script", "tail", "codes"),
    [
        ("fds6.9.1", "Time Step 9\n STOP: FDS completed successfully (CHID: room)\n", []),
        ("fds6.9.1", "Time Step 9\n@@@ END\n", ["NOT_FINISHED"]),
        ("fds6.9.1", "Time Step 9\nout of memory\n", ["OUT_OF_MEMORY"]),
        # Another script may have gone on for long after the end that was not read.
        ("custom-script", "plotting\n@@@ END\n", ["NOT_FINISHED warning"]),
        ("custom-script", "@@@ Starting FDS\nTime Step 9\n", ["NOT_FINISHED"]),
    ],
)
def test_the_end_of_a_long_output_counts_and_the_gap_is_told(script: str, tail: str, codes: list[str]) -> None:
    head = "@@@ Starting FDS\nTime Step 1\n"
    result = diagnose(head, script=script, complete=False, tail=f"*ERROR is what the line was about\n{tail}")
    found = [f.code + (" warning" if f.severity is Severity.WARNING else "") for f in result.findings]
    assert found == codes
    assert result.checked == "partial"
    assert all(finding.line_number == 0 for finding in result.findings)
    assert "Time Step 1" not in result.last_lines
    assert result.summary.startswith("not fully checked") is (not result.errors)
    assert f"Last {len(result.last_lines)} lines of the output:" in result.report_lines(last_lines=True)


def test_a_part_of_an_output_is_never_called_clean_but_its_errors_count() -> None:
    assert "no error found" not in diagnose("all is well\n", complete=False).summary
    found = diagnose("Out of memory\n", complete=False, ram="standard")
    assert (found.out_of_memory, found.next_ram, found.checked) == (True, "highmem", "partial")


@pytest.mark.parametrize("nothing", [None, "", b"", " \n\r\n", []])
def test_no_output_is_not_checked(nothing: object) -> None:
    result = diagnose(nothing)  # type: ignore[arg-type]
    assert (result.checked, result.findings) == ("none", ())
    assert "not checked" in result.summary


@pytest.mark.parametrize(
    ("before", "severity"), [("@@@ preempted\n", None), ("=   KILLED BY SIGNAL: 9 (Killed)\n", Severity.WARNING)]
)
def test_fds_that_was_restarted_and_completed_is_no_failure(before: str, severity: Severity | None) -> None:
    run = " Starting FDS ...\n Time Step: 1\n"
    again = diagnose(run + before + run + " STOP: FDS completed successfully\n", script="fds6.9.1", ram="highcpu")
    assert (again.severity, again.finished, again.out_of_memory) == (severity, True, False)
    # After the last start there is no such excuse.
    once = diagnose(run + run + before + " STOP: FDS completed successfully\n", script="fds6.9.1", ram="highcpu")
    assert once.severity == (severity and Severity.ERROR)
    never = diagnose(run + " STOP: FDS completed successfully\n" + run, script="fds6.9.1")
    assert (never.severity, never.finished) == (Severity.ERROR, False)


def test_fds_that_ends_early_on_purpose_is_a_warning() -> None:
    result = diagnose(" Starting FDS ...\n STOP: FDS was set-up only\n", script="fds6.9.1")
    assert (result.severity, result.finished) == (Severity.WARNING, None)
    stopped = diagnose(" Starting FDS ...\n STOP: FDS stopped by user\n", script="fds6.9.1")
    assert (stopped.severity, stopped.finished) == (Severity.ERROR, False)


@pytest.mark.parametrize(
    ("text", "solver"),
    [
        ("  --- DIAGNOSTIC JOB : OK", "code_aster"),
        ("  --- DIAGNOSTIC JOB : <A>_ALARM", "code_aster"),
        ("------------------------- Exit Success (SU2_CFD) ------------------------", "SU2"),
    ],
)
def test_a_solver_that_says_so_has_succeeded(text: str, solver: str) -> None:
    result = diagnose(f"begin\n{text}\n@@@ END\n")
    assert (result.finished, result.findings) == (True, ())
    assert f"{solver} says that it succeeded" in result.summary
    assert diagnose("begin\n@@@ END\n").summary == "no error found (nor a line that proves success)"


SOLVER = "Exec   : icoFoam\n\nStarting time loop\n\nTime = 0.005\n"
TOOL = "Exec   : foamToVTK -latestTime\nTime: 0.005\nEnd: 0.02 s, 139820 kB (peak)\n"


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        (SOLVER + TOOL, False),  # the solver was killed without a word
        (SOLVER + TOOL + TOOL, False),
        (SOLVER + "End\n" + TOOL, True),
        (SOLVER + TOOL + "Time = 0.01\n\nEnd\n", True),  # the solver itself has called the tool
        (SOLVER + SOLVER + "End\n", True),  # the machine was restarted
        (SOLVER + "End\n" + SOLVER + TOOL, False),
    ],
)
def test_the_end_of_another_openfoam_program_is_not_the_solver_s(text: str, finished: bool) -> None:
    result = diagnose(text, script="openFoam-v2406")
    assert result.finished is finished
    assert [found.code for found in result.errors] == ([] if finished else ["NOT_FINISHED"])


@pytest.mark.parametrize(
    "exception",
    [
        "zipfile.BadZipFile: File is not a zip file",
        "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated abruptly",
        "subprocess.TimeoutExpired: Command '['./solver']' timed out after 60 seconds",
        "socket.timeout: timed out",
        "StopIteration",
        "Diverged: the residual is 1e+30",
    ],
)
@pytest.mark.parametrize("code", ["", "    main()\n", "    main()\n    ~~~~^^\n"])
def test_an_exception_is_known_by_where_it_stands_whatever_its_name(exception: str, code: str) -> None:
    trace = f'Traceback (most recent call last):\n  File "run.py", line 3, in <module>\n{code}'
    result = diagnose(f"step 1\n{trace}{exception}\n@@@ END\n", script="custom-script")
    assert f"a Python script ended with an exception: {exception}" in result.summary
    for last in ("Done", "Result: 1.5", "going on"):
        assert diagnose(f"{trace}{exception}\n{last}\n@@@ END\n", script="custom-script").severity is None, last


def test_an_uncaught_python_exception_is_a_failure() -> None:
    text = 'Traceback (most recent call last):\n  File "run.py", line 3, in <module>\nValueError: singular matrix\n'
    result = diagnose(text + "@@@ END\n", script="custom-script")
    assert result.severity is Severity.ERROR
    assert "ValueError: singular matrix" in result.summary
    assert diagnose(text + "went on\n@@@ END\n").severity is None


@pytest.mark.parametrize(
    "line",
    [
        "Out of memory",
        "OUT OF MEMORY!",
        "ERROR: out of memory",
        "could not allocate the matrix, out of memory",
        "*** out of memory ***",
        "** ERROR: out of memory",
        "mpirun: out of memory.",
        "\x1b[1;31mout of\x1b[0m memory",
        "progress 10%\rprogress 20%\rout of memory",
        "." * 40_000 + " out of memory",
        "." * (WINDOW - 5) + " out of memory " + "." * 100,
        "MemoryError",
        "bash: fork: Cannot allocate memory",
        "*ERROR in u_calloc: error allocating memory",
        "run.sh: xmalloc: cannot allocate 2097152 bytes",
        "gzip: stdin: memory exhausted",
        "  what():  std::bad_alloc",
        "run.sh: line 3:  1234 Killed                  ./solver",
        "mpirun noticed that process rank 0 with PID 77 on node n exited on signal 9 (Killed).",
        "YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)",
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array with shape (1000,)",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_lack_of_memory_is_recognised_in_its_many_words(line: str, encoding: str) -> None:
    result = diagnose(f"begin\n{line}\nend\n".encode(encoding), ram="hypercpu")
    assert result.out_of_memory, line
    assert result.next_ram == "standard"
    assert result.findings[0].line_number == 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.", "OUT_OF_MEMORY"),
        ("ERROR: memory allocation failed", "UNABLE_TO_ALLOCATE"),
        ("forrtl: severe (41): insufficient virtual memory", "UNABLE_TO_ALLOCATE"),
        ('Exception in thread "main" java.lang.OutOfMemoryError: Java heap space', "UNABLE_TO_ALLOCATE"),
        ("Killed", "KILLED_BY_SIGNAL_9"),
        ("@@@ ERROR: run.sh ended with exit code 137", "KILLED_BY_SIGNAL_9"),
        ("run.sh: line 2:    77 Aborted                 (core dumped) ./solver", "CRASHED"),
        ("Bus error", "CRASHED"),
        ("Illegal instruction (core dumped)", "CRASHED"),
        ("double free or corruption (out)", "CRASHED"),
        ("*** stack smashing detected ***: terminated", "CRASHED"),
        ("terminate called after throwing an instance of 'std::runtime_error'", "CRASHED"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "BAD_ALLOC"),
        ("ERROR STOP 1", "CRASHED"),
        ("[0]PETSC ERROR: Caught signal number 11 SEGV: Segmentation Violation", "CRASHED"),
        ("mpirun detected that one or more processes exited with non-zero status, thus causing", "MPI_ABORT"),
        ("python3: can't open file '/case/run.py': [Errno 2] No such file or directory", "COMMAND_FAILED"),
        ("run.sh: line 4: ./solver: Permission denied", "COMMAND_FAILED"),
        ("bash: ./run.sh: Permission denied", "COMMAND_FAILED"),
        ("run.sh: 3: module: not found", "COMMAND_FAILED"),
        ("bash: ./run.sh: /bin/zsh: bad interpreter: No such file or directory", "COMMAND_FAILED"),
        ("bash: ./run.sh: cannot execute: required file not found", "COMMAND_FAILED"),
        ("run.sh: line 1: ./a.sh: /bin/bash^M: bad interpreter: No such file or directory", "WINDOWS_LINE_ENDS"),
        ("/usr/bin/env: 'python3\\r': No such file or directory", "WINDOWS_LINE_ENDS"),
        ("/usr/bin/env: \u2018bash\\r\u2019: No such file or directory", "WINDOWS_LINE_ENDS"),
        ("run.sh: line 9: syntax error near unexpected token `fi'", "SCRIPT_ERROR"),
        ("run.sh: line 14: syntax error: unexpected end of file", "SCRIPT_ERROR"),
    ],
)
def test_how_programs_die_is_recognised(line: str, code: str) -> None:
    assert [finding.code for finding in diagnose(f"begin\n{line}\n@@@ END\n").findings] == [code]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("HARD DISK used > 79%", []),
        ("HARD DISK used > 89%", ["DISK_80"]),
        ("HARD DISK used > 90", ["DISK_90"]),
        ("HARD DISK used > 100 %", ["DISK_90"]),
        ("KILLED BY SIGNAL: 91", ["CRASHED"]),
        ("@@@ ERRORS: 0", []),
        ("@@@ Error: the disk was not mounted", ["PLATFORM_ERROR"]),
        ("@@@ 2026-11-23 10:00:00 ERROR: the disk was not mounted", ["PLATFORM_ERROR"]),
        ("@@@ Warning: the disk is slow", ["PLATFORM_WARNING"]),
        ("@@@ solver: 0 errors", []),
        ("@@@ Error estimator: on", []),
        ("@@@ no ERROR", []),
        ("ERROR of the user's own", []),
        ("*ERRORS", []),
    ],
)
def test_numbers_and_word_ends_decide(text: str, codes: list[str]) -> None:
    assert [finding.code for finding in diagnose(text).findings] == codes


def test_ram_tiers_lead_up() -> None:
    assert [next_ram(ram) for ram in ("highcpu", "standard", "highmem", "basegpu", "", "new")] == [
        "standard",
        "highmem",
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("blank", [b"\n", b" \n", b"\r\n", b"\x1b[0m\n"])
def test_after_blank_blocks_lines_are_counted_and_the_last_ones_known(blank: bytes) -> None:
    result = diagnose(b"begin\n" + blank * BLOCK + b"out of memory\nend\n")
    assert result.findings[0].line_number == BLOCK + 2
    assert result.last_lines == ("begin", "out of memory", "end")


@pytest.mark.parametrize("last", ["  99%", "", "\x1b[0m"])
def test_of_a_progress_bar_the_last_version_is_shown_and_each_is_looked_at(last: str) -> None:
    bar = "\r".join(f"{number:4}%" for number in range(100))
    assert diagnose(f"begin\n{bar}\r{last}\nend").last_lines == ("begin", "99%", "end")
    found = diagnose(f"begin\n{bar}\rout of memory\r{bar}\r{last}\nend")
    assert [finding.code for finding in found.findings] == ["OUT_OF_MEMORY"]
    assert found.last_lines == ("begin", "99%", "end")


def test_first_line_and_count_are_kept() -> None:
    (finding,) = diagnose("a\nOut of memory: 1\nb\nout of memory: 2\nout of memory: 3").findings
    assert (finding.quoted, finding.line_number, finding.count) == ("Out of memory: 1", 2, 3)


def test_quotations_are_short_printable_and_without_credentials() -> None:
    line = (
        "x" * 5000
        + " out of memory\x07\x1b[0m at https://store.example/a?X-Goog-Signature=abc&b=1 token-1 "
        + "y" * 5000
    )
    result = diagnose(f"{line}\nget https://store.example/b?sig=abc token-1\n", hide=["token-1"])
    texts = [result.findings[0].quoted, *result.last_lines]
    assert "out of memory" in texts[0]
    assert "get https://store.example/b?... ***" in texts
    for text in texts:
        assert len(text) <= QUOTE_LENGTH + 3
        assert text.isprintable()
        assert "abc" not in text
        assert "token-1" not in text


def test_last_lines_are_the_last_that_are_not_blank() -> None:
    text = "".join(f"line {n}\n\n" for n in range(50_000)) + "10%\r20%\r30%\n\n"
    assert len(text) > 2 * BLOCK
    expected = [f"line {n}" for n in range(50_000 - LAST_LINES + 1, 50_000)] + ["30%"]
    assert list(diagnose(text).last_lines) == expected


def test_the_report_says_what_happened_and_what_to_do() -> None:
    result = diagnose((OUTPUTS / "row-KILLED_BY_SIGNAL_9.txt").read_bytes(), ram="highcpu")
    report = "\n".join(result.report_lines(last_lines=True))
    finding = result.findings[0]
    for part in ("ERROR KILLED_BY_SIGNAL_9", finding.quoted, finding.cause, finding.fix, finding.link, "'standard'"):
        assert part
        assert part in report
    assert "  | @@@ END" in report
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


@settings(max_examples=150)
@example(["Out of memory", "\n"], [1, 5])
@given(
    st.lists(st.sampled_from(SCRAPS) | st.text(max_size=20), max_size=40), st.lists(st.integers(0, 3000), max_size=8)
)
def test_no_output_breaks_it_and_cuts_make_no_difference(scraps: list[str], cuts: list[int]) -> None:
    data = "".join(scraps).encode("utf-8", "surrogatepass")
    whole = diagnose(data, script="fds6.9.1", ram="highcpu").to_dict()
    json.dumps(whole)
    pieces, last = [], 0
    for cut in sorted(cuts):
        pieces.append(data[last:cut] if cut > last else b"")
        last = max(last, cut)
    assert diagnose([*pieces, data[last:]], script="fds6.9.1", ram="highcpu").to_dict() == whole
    if len(data) < 5000:
        each = (data[i : i + 1] for i in range(len(data)))
        assert diagnose(each, script="fds6.9.1", ram="highcpu").to_dict() == whole


@settings(max_examples=10)
@given(
    st.binary(max_size=300),
    st.lists(st.sampled_from(SCRAPS), min_size=1, max_size=6),
    st.integers(1, 2),
    st.integers(1, 400_000),
)
def test_blocks_that_are_skipped_give_the_same_as_blocks_that_are_read(
    noise: bytes, scraps: list[str], times: int, cut: int
) -> None:
    filler = (b"Time = 0.1\nsmoothSolver: Solving for Ux\n" + noise) * (BLOCK * times // (40 + len(noise)))
    data = filler + "".join(scraps).encode() + filler
    assert (
        diagnose([data[:cut], data[cut:]]).to_dict()
        == diagnose(data[i : i + 4099] for i in range(0, len(data), 4099)).to_dict()
    )


@settings(max_examples=100)
@given(st.binary(max_size=2000))
def test_bytes_of_any_kind_are_survived(data: bytes) -> None:
    result = diagnose(data)
    assert all(text.isprintable() for text in result.last_lines)


def _steps(data: bytes) -> int:
    """Calls that it takes to read an output; the work of each is bounded by a window, or passes over its input once."""
    count = 0

    def counted(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        diagnose(data)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "unit",
    [
        b"SWAP unresolved after ",
        b"Unable to allocate ",
        b"DEVC for out of memory.txt ",
        b"out of memory.x if out of memory ",
        b"\x1b[" + b"1;" * 50,
        b"\x1b]0;",
        b"no FOLDER x not\n",
        b"\r\n@@@ ",
        b"End\nStarting time loop\n",
        b"\0\xff\xfe",
        b"[1] --> FOAM FATAL ERROR:\n[0] *ERROR\nwhy\n",
        b"| ! | ! |\n*ERROR\n",
    ],
)
def test_work_grows_as_the_output_does(unit: bytes) -> None:
    once = unit * (100_000 // len(unit))
    assert _steps(once * 4) < 5 * _steps(once) + 5000


def test_memory_does_not_grow_with_the_output() -> None:
    scanner = OutputScanner()
    sizes = []
    for _ in range(3):
        for _ in range(20):
            scanner.feed(b"x" * 100_000 + b" out of memory\n" * 3)
        sizes.append(sum(sys.getsizeof(value) for value in vars(scanner).values()) + sum(map(len, scanner._last)))
    assert max(sizes) < 4 * BLOCK
    assert sizes[2] <= sizes[0] + BLOCK


def test_the_documented_table_is_current() -> None:
    script = runpy.run_path(str(ROOT / "dev" / "document_catalogue.py"))
    page = (ROOT / "docs" / "diagnosis.md").read_text()
    assert all(f"| {row.code} |" in page for row in CATALOGUE)
    assert script["with_table"](page) == page, "stale: run python dev/document_catalogue.py"


def test_the_documented_record_is_what_is_made() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text()
    shown = eval(page.partition('record["diagnosis"] == ')[2].partition("```")[0])
    output = (
        "Exec   : simpleFoam\nStarting time loop\nTime = 1\n"
        "--> FOAM FATAL ERROR:\nMaximum number of iterations exceeded\nFOAM exiting\n"
    )
    made = diagnose(output, script="openFoam-v2406", ram="standard").to_dict()
    assert {**made, "last_lines": ["...", made["last_lines"][-1]]} == shown
