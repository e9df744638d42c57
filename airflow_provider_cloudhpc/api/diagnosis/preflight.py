# SPDX-License-Identifier: Apache-2.0
"""
What is known to fail, found in a case before it is sent or billed. Nothing is changed; only FDS's input is read.

Each check is a function of a :class:`Case` and names its source: ``Rules`` are the platform's own, ``Errors`` its error
messages (https://docs.cloudhpc.cloud/errors/), ``Solver`` how the solver itself works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.archive.pack import list_case
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.names import FORBIDDEN_CHARACTERS
from airflow_provider_cloudhpc.api.progress import format_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

#: Content above which a case is told to be large, bytes: the run waits for all of it.
LARGE = 20_000_000_000
#: Bytes of an FDS input that are read for its meshes.
_DECK = 4_000_000
_SHOWN = 5


class Preflight(StrEnum):
    """What a problem does: fail the task before anything is sent, be told, or not be looked for."""

    ERROR = "error"
    WARN = "warn"
    OFF = "off"


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


@dataclass(frozen=True)
class Case:
    """
    What is known of a case; what is not known is not checked.

    :param files: path from the case folder -> size in bytes (None where it is not known)
    :param script: name of the solver's script; "" if not known
    :param cpu: vCPUs; None if not known
    :param ram: RAM tier; "" if not known
    :param root: where the files can be read; None if they cannot
    """

    files: Mapping[str, int | None]
    script: str = ""
    cpu: int | None = None
    ram: str = ""
    root: Path | None = field(default=None, repr=False)

    def top(self, ending: str) -> list[str]:
        """Give the files of an ending that lie in the case folder itself, sorted."""
        return sorted(name for name in self.files if "/" not in name and name.lower().endswith(ending))

    def runs(self, *families: str) -> bool:
        """Whether the script is of one of these families."""
        return self.script.lower().startswith(families)

    @property
    def is_packed(self) -> bool:
        """Whether it is one archive (or several), whose content is not known."""
        return bool(self.files) and all(name.lower().endswith(_ARCHIVES) for name in self.files)


_ARCHIVES = (".tar.gz", ".tgz", ".zip", ".7z", ".rar", ".xz")
Check = Callable[[Case], Iterator[Problem]]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def check_names(case: Case) -> Iterator[Problem]:
    """Rules: names must not hold ``, ( ) ' $ ~ " # * ?`` or white space."""
    bad = sorted(
        {
            part
            for name in case.files
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


def check_wrapped(case: Case) -> Iterator[Problem]:
    """Rules: the content of a folder travels, without a folder around it."""
    tops = {name.partition("/")[0] for name in case.files}
    if len(tops) != 1 or not all("/" in name for name in case.files):
        return
    (wrapper,) = tops
    inner = {name.partition("/")[2] for name in case.files}
    if any(name == "system/controlDict" or re.fullmatch(r"[^/]+\.(fds|export|inp|sh|py)", name) for name in inner):
        yield Problem(
            "WRAPPED",
            f"All of the case lies in the folder {wrapper!r}: the solver looks one level above it.",
            f"Give that folder as the source: .../{wrapper}",
        )


def check_fds(case: Case) -> Iterator[Problem]:
    """Errors: ``No FDS file detected``, ``is a pyrosim file``; the first of several inputs is what is run."""
    if not case.runs("fds") or case.is_packed:
        return
    decks, projects = case.top(".fds"), case.top(".psm")
    if not decks and projects:
        yield Problem(
            "PYROSIM_FILE",
            f"{_named(projects)} is a PyroSim project, which FDS does not read.",
            "In PyroSim use File > Export > FDS, and send the .fds file.",
        )
    elif not decks:
        yield Problem(
            "NO_FDS_FILE", "There is no .fds file in the case folder itself.", "Put it there, not into a folder below."
        )
    elif len(decks) > 1:
        yield Problem(
            "SEVERAL_FDS_FILES",
            f"There are several .fds files ({_named(decks)}): which of them is run is not said.",
            "Leave one, or exclude the others.",
        )


def check_fds_meshes(case: Case) -> Iterator[Problem]:
    """Errors: ``MPI_PROCESS incorrect``, ``must be in ASCENDING ORDER``. Solver: no run without ``&MESH``."""
    decks = case.top(".fds")
    if not case.runs("fds") or case.root is None or len(decks) != 1:
        return
    try:
        with (case.root / decks[0]).open("rb") as file:
            text = file.read(_DECK).decode("latin-1")
    except OSError:
        return
    meshes = re.findall(r"^[ \t]*&MESH\b([^/]*)", text, re.IGNORECASE | re.MULTILINE)
    if not meshes:
        if len(text) < _DECK and "&CATF" not in text.upper():
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
    elif numbers and sorted(set(numbers)) != list(range(len(set(numbers)))):
        yield Problem(
            "MPI_PROCESS_INCORRECT",
            f"The MPI_PROCESS numbers in {decks[0]!r} leave gaps or do not begin with 0.",
            "Number them from 0 without gaps, or leave them out.",
        )


def check_openfoam(case: Case) -> Iterator[Problem]:
    """Errors: ``Cannot find system/controlDict``."""
    if not case.runs("openfoam", "snappyhexmesh") or case.is_packed:
        return
    if "system/controlDict" not in case.files:
        yield Problem(
            "NO_CONTROLDICT",
            "There is no system/controlDict: this is no OpenFOAM case.",
            "Send the folder that holds system/, constant/ and 0/.",
        )


def check_input(case: Case) -> Iterator[Problem]:
    """Errors: ``no export file detected``, ``No IDF file found``, ...; Rules: the script of ``custom-script``."""
    if case.is_packed:
        return
    for families, endings, code in _INPUTS:
        if case.runs(*families) and not any(case.top(ending) for ending in endings):
            yield Problem(
                code,
                f"{case.script!r} needs a {' or '.join(endings)} file in the case folder itself, and there is none.",
                "Put it there, not into a folder below.",
            )


_INPUTS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("codeaster", "code_aster"), (".export",), "NO_EXPORT_FILE"),
    (("calculix",), (".inp",), "NO_INP_FILE"),
    (("custom-script",), (".sh", ".py"), "NO_SCRIPT"),
    (("energyplus",), (".idf",), "NO_IDF_FILE"),
    (("contam",), (".prj",), "NO_PRJ_FILE"),
    (("cfast",), (".in",), "NO_IN_FILE"),
)


def check_machine(case: Case) -> Iterator[Problem]:
    """Rules: 1 vCPU on highcpu starts no engineering solver; OpenFOAM's least vCPUs. Errors: ``low vCPU selected``."""
    if case.cpu is None or not case.script or case.runs("custom-script") or case.script.endswith("-static"):
        return
    if case.runs("openfoam", "snappyhexmesh"):
        least = 2 if case.ram in ("highcore", "hypercore") else 4
        if case.ram and case.cpu < least:
            yield Problem(
                "OPENFOAM_ONE_PROCESS",
                f"OpenFOAM needs more than one process, and {case.cpu} vCPUs on {case.ram!r} are one core.",
                f"Ask for at least {least} vCPUs.",
            )
    elif case.cpu == 1 and case.ram == "highcpu":
        yield Problem(
            "LOW_VCPU", "1 vCPU on 'highcpu' starts no engineering solver.", "Ask for 2 vCPUs, or for 'standard'."
        )


#: Result archives and logs of the platform and its solvers, as they lie in a case folder.
_LEFT = re.compile(
    r"(FDS|OPENFOAM-\w+|SATURNE-solution|CODE-ASTER|CALCULIX|OPENRADIOSS)\.tar\.gz|log\.\w+|"
    r"[^/]+\.(rmed|frd|out|restart|smv|s3d|sf|bf)"
)


def check_leftovers(case: Case) -> Iterator[Problem]:
    """Solver: what an earlier run left travels, bills its time, and can pass for the new run's result."""
    left = sorted(
        {
            name.partition("/")[0] if re.match(r"processor\d+/", name) else name
            for name in case.files
            if re.match(r"processor\d+/", name) or _LEFT.fullmatch(name)
        }
    )
    if left and not case.is_packed:
        yield Problem(
            "LEFTOVERS",
            f"These look like what an earlier run left: {_named(left)}.",
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


CHECKS: tuple[Check, ...] = (
    check_names, check_wrapped, check_fds, check_fds_meshes, check_openfoam, check_input, check_machine,
    check_leftovers, check_size,
)  # fmt: skip


def check_case(case: Case) -> list[Problem]:
    """Find what is known to fail in a case; errors first."""
    problems = [problem for check in CHECKS for problem in check(case)]
    return sorted(problems, key=lambda problem: not problem.is_error)


def case_of(
    source: str | os.PathLike[str], *, script: str = "", cpu: int | None = None, ram: str = "",
    exclude: Sequence[str] = (), include_hidden: bool = False,
) -> Case:  # fmt: skip
    """
    Look at a local case: a folder as it would be packed, or one file.

    :param script: name of the solver's script; "" if not known: then only what holds for all is checked
    """
    path = Path(source)
    if path.is_dir():
        files: Mapping[str, int | None] = dict(list_case(path, exclude=exclude, include_hidden=include_hidden))
        return Case(files, script, cpu, ram, path)
    return Case({path.name: path.stat().st_size}, script, cpu, ram, path.parent)


def act_on(problems: Iterable[Problem], mode: Preflight, warn: Callable[[str], None]) -> None:
    """
    Tell the problems; with mode ``error`` the errors among them are raised.

    :raises CloudHPCValueError: naming all of them
    """
    errors = []
    for problem in problems:
        if problem.is_error and mode is Preflight.ERROR:
            errors.append(problem)
        else:
            warn(str(problem))
    if errors:
        raise CloudHPCValueError(
            "The case would fail on the machine, nothing was sent. "
            + " ".join(map(str, errors))
            + " (preflight='warn' sends it all the same.)"
        )


def read_preflight(value: object) -> Preflight:
    """
    Read ``"error"``, ``"warn"`` or ``"off"``.

    :raises CloudHPCValueError: for anything else
    """
    try:
        return Preflight(str(value))
    except ValueError:
        pass
    raise CloudHPCValueError(f"preflight is {value!r}: one of 'error', 'warn', 'off' is needed.")
