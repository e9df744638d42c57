# SPDX-License-Identifier: Apache-2.0
"""
The checks of a case before its run, one small function each.

Each names its source: ``Rules`` are the platform's own, ``Errors`` its error messages
(https://docs.cloudhpc.cloud/errors/), ``Solver`` how the solver itself works. What is not known to fail is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.diagnosis.case import DECK, RESULT_ARCHIVE, Case, Place
from airflow_provider_cloudhpc.api.names import FORBIDDEN_CHARACTERS
from airflow_provider_cloudhpc.api.progress import format_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

#: Content above which a case is told to be large, bytes: the run waits for all of it.
LARGE = 20_000_000_000
_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """
    Something that is known to fail (``is_error``) or to hurt.

    :param code: short name
    :param text: what is wrong, naming it
    :param fix: what to do
    """

    code: str
    text: str
    fix: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.code}: {self.text} What to do: {self.fix}"


Check = Callable[[Case], Iterator[Problem]]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def check_names(case: Case) -> Iterator[Problem]:
    """Rules: names must not hold ``, ( ) ' $ ~ " # * ?`` or white space."""
    bad = sorted(
        {
            part
            for name in (*case.files, *case.folders)
            for part in name.split("/")
            if any(char in FORBIDDEN_CHARACTERS or char.isspace() or not char.isprintable() for char in part)
        }
    )
    if bad:
        yield Problem(
            "BAD_NAMES",
            f"The platform's scripts trip over these names: {_named(bad)}.",
            f"Rename or exclude them: no white space and none of {' '.join(FORBIDDEN_CHARACTERS)}.",
        )


def check_empty(case: Case) -> Iterator[Problem]:
    """Rules: the solver runs what it finds in the folder."""
    if case.place is Place.STORAGE and case.script and not case.script.endswith("-static"):
        files = [name for name in case.files if not RESULT_ARCHIVE.fullmatch(name)]
        if not files and not case.folders:
            yield Problem(
                "EMPTY_FOLDER",
                "There is no case in the storage folder.",
                "Look whether its name is right and its upload has ended.",
            )


def check_wrapped(case: Case) -> Iterator[Problem]:
    """Rules: the content of a folder travels, without a folder around it."""
    tops = {name.partition("/")[0] for name in case.files}
    if len(tops) != 1 or not all("/" in name for name in case.files):
        return
    (wrapper,) = tops
    inner = {name.partition("/")[2] for name in case.files}
    if any(name == "system/controlDict" or re.fullmatch(r"[^/]+\.(fds|export|inp|sh|py)", name) for name in inner):
        packed = case.place is Place.ARCHIVE
        yield Problem(
            "WRAPPED",
            f"All of the case lies in the folder {wrapper!r}: the solver looks one level above it.",
            "Archive the content of that folder, without the folder around it."
            if packed
            else f"Give that folder as the source: .../{wrapper}",
        )


def check_fds(case: Case) -> Iterator[Problem]:
    """Errors: ``No FDS file detected``, ``is a pyrosim file``. Of several inputs the wrong one may be run, and bill."""
    if not case.runs("fds"):
        return
    decks, projects = case.top(".fds"), case.top(".psm")
    if len(decks) > 1:
        yield Problem(
            "SEVERAL_FDS_FILES",
            f"There are several .fds files ({_named(decks)}): which of them is run is not said.",
            "Leave one, or exclude the others.",
        )
    elif decks or _is_elsewhere(case):
        return
    elif projects:
        yield Problem(
            "PYROSIM_FILE",
            f"{_named(projects)} is a PyroSim project, which FDS does not read.",
            "In PyroSim use File > Export > FDS, and send the .fds file.",
        )
    else:
        yield Problem(
            "NO_FDS_FILE", "There is no .fds file in the case folder itself.", "Put it there, not into a folder below."
        )


def _is_elsewhere(case: Case) -> bool:
    """Whether the input may be in an archive, or is missed for a reason that another check tells."""
    return case.is_packed or any(True for check in (check_empty, check_wrapped) for _ in check(case))


#: A namelist ends with a slash that is not in a text.
_MESH = re.compile(r"""^[ \t]*&MESH\b((?:'[^'\n]*'|"[^"\n]*"|[^/'"])*)""", re.IGNORECASE | re.MULTILINE)


def check_fds_meshes(case: Case) -> Iterator[Problem]:
    """Errors: ``MPI_PROCESS incorrect``, ``must be in ASCENDING ORDER``. Solver: no run without ``&MESH``."""
    decks = case.top(".fds")
    text = case.text(decks[0]) if case.runs("fds") and len(decks) == 1 else None
    if text is None:
        return
    meshes = _MESH.findall(text)
    if not meshes:
        if len(text) < DECK and "&CATF" not in text.upper():
            yield Problem("NO_MESH", f"{decks[0]!r} has no &MESH line: FDS stops at once.", "Define a mesh.")
        return
    found = [re.search(r"MPI_PROCESS\s*=\s*(\d+)", mesh, re.IGNORECASE) for mesh in meshes]
    numbers = [int(one.group(1)) for one in found if one]
    if numbers != sorted(numbers):
        yield Problem(
            "MPI_PROCESS_ORDER",
            f"The MPI_PROCESS numbers of the &MESH lines in {decks[0]!r} do not rise from line to line.",
            "Sort the &MESH lines by MPI_PROCESS.",
        )
    elif (
        numbers
        and sorted(set(numbers)) != list(range(len(set(numbers))))
        # Those that do not say it get a process by FDS, and MULT_ID makes further meshes.
        and len(numbers) == len(meshes)
        and not any("mult_id" in mesh.lower() for mesh in meshes)
    ):
        yield Problem(
            "MPI_PROCESS_INCORRECT",
            f"The MPI_PROCESS numbers in {decks[0]!r} leave gaps or do not begin with 0.",
            "Number them from 0 without gaps, or leave them out.",
        )
    elif case.cpu is not None and len(set(numbers)) > case.cpu:
        yield Problem(
            "MPI_PROCESS_INCORRECT",
            f"{decks[0]!r} asks for {len(set(numbers))} MPI processes, and the machine has {case.cpu} vCPUs.",
            "Ask for more vCPUs, or put several meshes into one process.",
            is_error=False,
        )


def check_openfoam(case: Case) -> Iterator[Problem]:
    """Errors: ``Cannot find system/controlDict``."""
    if not case.runs("openfoam", "snappyhexmesh") or _is_elsewhere(case):
        return
    if "system/controlDict" not in case.files and "system" not in case.folders:
        yield Problem(
            "NO_CONTROLDICT",
            "There is no system/controlDict: this is no OpenFOAM case.",
            "Send the folder that holds system/, constant/ and 0/.",
        )


_CODE_ASTER = ("codeaster", "code_aster")
#: What a solver starts from: its families, the endings, the check's code.
_INPUTS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (_CODE_ASTER, (".export",), "NO_EXPORT_FILE"),
    (("calculix",), (".inp",), "NO_INP_FILE"),
    (("custom-script",), (".sh", ".py"), "NO_SCRIPT"),
    (("energyplus",), (".idf",), "NO_IDF_FILE"),
    (("contam",), (".prj",), "NO_PRJ_FILE"),
    (("cfast",), (".in",), "NO_IN_FILE"),
)


def check_input(case: Case) -> Iterator[Problem]:
    """Errors: ``no export file detected``, ``No IDF file found``, ...; Rules: the script of ``custom-script``."""
    if _is_elsewhere(case):
        return
    for families, endings, code in _INPUTS:
        if case.runs(*families) and not case.top(*endings):
            yield Problem(
                code,
                f"{case.script!r} needs a {' or '.join(endings)} file in the case folder itself, and there is none.",
                "Put it there, not into a folder below.",
            )


def check_several_inputs(case: Case) -> Iterator[Problem]:
    """Solver: one input is run. Which of several the platform takes is not documented, so this is no error."""
    found: Sequence[str] = ()
    if case.runs(*_CODE_ASTER):
        found = case.top(".export")
    elif case.runs("custom-script"):
        found = case.top(".sh", ".py")
    elif case.runs("calculix"):
        included = {name for deck in case.top(".inp") for name in _includes(case, deck)}
        found = [deck for deck in case.top(".inp") if deck not in included]
    if len(found) > 1:
        yield Problem(
            "SEVERAL_INPUTS",
            f"There are several files that {case.script!r} could start from ({_named(found)}): which of them is run is "
            "not said.",
            "Leave one, or exclude the others.",
            is_error=False,
        )


_INCLUDE = re.compile(r"^[ \t]*\*INCLUDE\b[^\n]*?\bINPUT[ \t]*=[ \t]*\"?([^\s,\"]+)", re.IGNORECASE | re.MULTILINE)


def _includes(case: Case, deck: str) -> list[str]:
    return [name.removeprefix("./") for name in _INCLUDE.findall(case.text(deck) or "")]


def check_includes(case: Case) -> Iterator[Problem]:
    """Solver: CalculiX stops at an ``*INCLUDE`` that is not there, with exit code 0."""
    if case.runs("calculix"):
        decks = case.top(".inp")
        included = {name for deck in decks for name in _includes(case, deck)}
        missing = included - case.files.keys()
        if missing:
            # Of several decks the one that is run may lack nothing.
            yield _missing(missing, "*INCLUDE", is_error=len([deck for deck in decks if deck not in included]) < 2)


def check_line_ends(case: Case) -> Iterator[Problem]:
    """Solver: bash takes the carriage return of a Windows line end for a part of its commands and names."""
    if not case.runs("custom-script"):
        return
    scripts = case.top(".sh")
    bad = [name for name in scripts if re.match(r"[^\n]*\r\n", case.text(name) or "")]
    if bad:
        yield Problem(
            "WINDOWS_LINE_ENDS",
            f"The lines of {_named(bad)} end as Windows writes them: bash fails at them.",
            "Save with Unix line ends (LF), as with dos2unix.",
            # Of several scripts another one may be run.
            is_error=len(case.top(".sh", ".py")) == 1,
        )


def check_export(case: Case) -> Iterator[Problem]:
    """Solver: an ``.export`` names its files; paths of the machine it was written on may lead nowhere on another."""
    if not case.runs(*_CODE_ASTER):
        return
    for export in case.top(".export"):
        inputs = re.findall(r"^F\s+\w+\s+(\S+)\s+D\w*\b", case.text(export) or "", re.MULTILINE)
        missing = {name for name in inputs if name.removeprefix("./") not in case.files}
        if missing:
            yield _missing(missing, export, is_error=False)


def _missing(names: Collection[str], where: str, *, is_error: bool = True) -> Problem:
    return Problem(
        "MISSING_FILES",
        f"{where} names files that are not in the case: {_named(sorted(names))}.",
        "Add them, and name them as they lie in the case folder (capitals count).",
        is_error=is_error,
    )


def check_machine(case: Case) -> Iterator[Problem]:
    """Rules: 1 vCPU on highcpu starts no engineering solver; OpenFOAM's least vCPUs. Errors: ``low vCPU selected``."""
    if case.cpu is None or not case.script or case.runs("custom-script") or case.script.endswith("-static"):
        return
    if case.runs("openfoam", "snappyhexmesh"):
        least = 2 if case.ram in ("highcore", "hypercore") else 4
        if case.ram and case.cpu < least:
            have = "1 vCPU has" if case.cpu == 1 else f"{case.cpu} vCPUs on {case.ram!r} have"
            yield Problem(
                "OPENFOAM_ONE_PROCESS",
                f"OpenFOAM needs more than one process here, and {have} one core.",
                f"Ask for at least {least} vCPUs.",
            )
    elif case.cpu == 1 and case.ram == "highcpu":
        yield Problem(
            "LOW_VCPU", "1 vCPU on 'highcpu' starts no engineering solver.", "Ask for 2 vCPUs, or for 'standard'."
        )


#: Logs and results of solvers, as they lie in a case folder; and the folders of parallel runs.
_LEFT = re.compile(r"log\.\w+|[^/]+\.(rmed|frd|out|restart|smv|s3d|sf|bf)")
_LEFT_FOLDER = re.compile(r"processor\d+")
_LEFT_FOLDER_OF_OPENFOAM = re.compile(r"processors?\d+|postProcessing|(?!0$)\d+(\.\d+)?(e[-+]?\d+)?")


def check_leftovers(case: Case) -> Iterator[Problem]:
    """Solver: what an earlier run left travels, bills its time, and can pass for the new run's result."""
    folder = _LEFT_FOLDER_OF_OPENFOAM if case.runs("openfoam") else _LEFT_FOLDER
    left = set()
    for name in (*case.files, *(f"{name}/" for name in case.folders)):
        top, slash, _ = name.partition("/")
        if (slash and folder.fullmatch(top)) or _LEFT.fullmatch(name) or RESULT_ARCHIVE.fullmatch(name):
            left.add(top if slash else name)
    if left and not case.is_packed:
        yield Problem(
            "LEFTOVERS",
            f"These look like what an earlier run left: {_named(sorted(left))}.",
            "Delete or exclude them, unless the run starts from them.",
            is_error=False,
        )


def check_size(case: Case) -> Iterator[Problem]:
    """Rules: the machine's disk is limited (``HARD DISK used``), and the run bills while it unpacks."""
    size = sum(size or 0 for size in case.files.values())
    if size > LARGE:
        largest = sorted(case.files, key=lambda name: -(case.files[name] or 0))
        yield Problem(
            "LARGE",
            f"The case has {format_bytes(size)}; its largest files are {_named(largest)}.",
            "Look whether all of it is needed.",
            is_error=False,
        )


#: The checks of what lies in a case.
CASE_CHECKS: tuple[Check, ...] = (
    check_names, check_empty, check_wrapped, check_fds, check_fds_meshes, check_openfoam, check_input,
    check_several_inputs, check_includes, check_line_ends, check_export, check_leftovers, check_size,
)  # fmt: skip
#: All checks.
CHECKS: tuple[Check, ...] = (*CASE_CHECKS, check_machine)
