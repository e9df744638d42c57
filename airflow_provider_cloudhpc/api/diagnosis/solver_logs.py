# SPDX-License-Identifier: Apache-2.0
"""
Solver logs in downloaded results: what they say about the run.

Every log is read to its end, in pieces, by the same scanner as a simulation's output; archives are read as they are,
nothing is unpacked and nothing is changed.
"""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.archive.codec import CODEC_ERRORS, gzip_reader
from airflow_provider_cloudhpc.api.diagnosis.catalogue import Kind, Severity
from airflow_provider_cloudhpc.api.diagnosis.endmarks import LOG_MARKS, MARKS
from airflow_provider_cloudhpc.api.diagnosis.lines import quote
from airflow_provider_cloudhpc.api.diagnosis.scanner import OutputScanner
from airflow_provider_cloudhpc.api.diagnosis.verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE = 256 * 1024
#: Which files are solver logs, and whose: OpenFOAM's; FDS's and OpenRadioss's (and stdout that a user kept);
#: CalculiX's; code_aster's.
LOG_PATTERNS = ("log", "log.*", "*.log", "*.out", "*.sta", "*.dat", "*.mess")
_GZIPPED = (".tar.gz", ".tgz")
_TARS = (".tar", ".tar.xz", ".tar.bz2")
#: ValueError, ArithmeticError: tarfile's, where a header holds no number or an absurd one.
_UNREADABLE: tuple[type[Exception], ...] = (
    OSError, EOFError, ValueError, ArithmeticError, tarfile.TarError, zipfile.BadZipFile, RuntimeError, *CODEC_ERRORS,
)  # fmt: skip
_NOT_A_NUMBER = re.compile(rb"(?<![\w.])[-+]?nan(?![\w.])", re.IGNORECASE)
_UNCONVERGED = re.compile(rb"\s*\d+\s+\d+\s+\d+U\s")


@dataclass(frozen=True, slots=True)
class LogFinding:
    """
    Something a solver log says.

    :param path: the log; inside an archive as ``archive!member``
    :param finding: what it says
    """

    path: str
    finding: Finding

    @property
    def where(self) -> str:
        """The log's name for people."""
        archive, packed, member = self.path.partition("!")
        return f"{member} in {archive}" if packed else self.path

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {"path": self.path, **self.finding.to_dict()}

    def report_lines(self) -> list[str]:
        """Give it as lines for a task log."""
        first, *rest = self.finding.report_lines()
        return [f"{self.where}: {first}", *rest]


def check_results(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, max_bytes: int | None = None
) -> list[LogFinding]:
    """
    Read the solver logs among results.

    :param paths: a directory (read with all below it), a log, an archive (zip, tar), or several of them; what is
        no log by its name is left alone
    :param max_bytes: bytes of logs after which no further piece is read; None for no limit
    :return: errors first; a log or archive that could not be read (to its end) is a warning, never silence
    """
    roots = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    reader = _Reader(max_bytes)
    for root in roots:
        reader.read_path(Path(root))
    return sorted(reader.findings, key=lambda found: found.finding.severity is not Severity.ERROR)


def is_log(name: str) -> bool:
    """Whether a file is looked at, by its name."""
    base = name.rpartition("/")[2]
    return any(fnmatchcase(base, pattern) for pattern in LOG_PATTERNS)


class _Reader:
    """Reads logs within one budget of bytes and collects what they say."""

    def __init__(self, max_bytes: int | None) -> None:
        self.findings: list[LogFinding] = []
        self._left = max_bytes

    def read_path(self, path: Path) -> None:
        try:
            if path.is_dir():
                # Links are not followed: they may lead anywhere, and in circles.
                for folder, _, names in os.walk(path, onerror=self._unlistable):
                    for name in sorted(names):
                        self._read_file(Path(folder, name))
            else:
                self._read_file(path)
        except OSError as error:
            self._note(str(path), "UNREADABLE", error.strerror or str(error))

    def _read_file(self, path: Path) -> None:
        try:
            if path.name.endswith(_GZIPPED):
                with path.open("rb") as raw, gzip_reader(raw) as stream:
                    self._read_tar(path, {"fileobj": stream, "mode": "r|", "bufsize": _PIECE})
            elif path.name.endswith(_TARS):
                self._read_tar(path, {"name": path, "mode": "r|*"})
            elif path.name.endswith(".zip"):
                with zipfile.ZipFile(path) as archive:
                    self._read_members(path, ((name, archive.open(name)) for name in archive.namelist()))
            elif is_log(path.name) and path.is_file():
                with path.open("rb") as log:
                    self._read_log(str(path), path.name, log)
        except _UNREADABLE as error:
            self._note(str(path), "UNREADABLE", f"{type(error).__name__}: {error}")

    def _read_tar(self, path: Path, opening: dict[str, Any]) -> None:
        with tarfile.open(**opening) as archive:
            self._read_members(path, ((m.name, archive.extractfile(m)) for m in archive if m.isreg()))

    def _read_members(self, path: Path, members: Iterable[tuple[str, IO[bytes] | None]]) -> None:
        for name, log in members:
            if log and is_log(name):
                self._read_log(f"{path}!{name}", name, log)

    def _read_log(self, path: str, name: str, log: IO[bytes]) -> None:
        base = name.rpartition("/")[2]
        scanner = OutputScanner(marks=LOG_MARKS if base.startswith("log") else MARKS)
        own = _OWN_CHECKS.get(Path(base).suffix, _OwnCheck)()
        complete = True
        while piece := log.read(_PIECE):
            if self._left is not None:
                complete = len(piece) <= self._left
                piece = piece[: self._left]
                self._left -= len(piece)
            scanner.feed(piece)
            own.feed(piece)
            if not complete:
                self._note(path, "NOT_FULLY_CHECKED", "the logs are longer than what was read")
                break
        found = [*scanner.diagnose(complete=complete).findings, own.finding(complete)]
        self.findings += [LogFinding(path, finding) for finding in found if finding]

    def _unlistable(self, error: OSError) -> None:
        self._note(str(error.filename), "UNREADABLE", error.strerror or str(error))

    def _note(self, path: str, code: str, said: str) -> None:
        self.findings.append(
            LogFinding(
                path,
                Finding(
                    code=code,
                    severity=Severity.WARNING,
                    kind=Kind.PLATFORM,
                    quoted=said,
                    line_number=0,
                    count=0,
                    cause="This log was not read to its end, so it is not known what it says.",
                    fix="Look into it yourself.",
                ),
            )
        )


class _OwnCheck:
    """What the scanner cannot know about a kind of log. The base knows nothing."""

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""

    def finding(self, complete: bool) -> Finding | None:
        """
        Give what was found.

        :param complete: whether the log was read to its end
        """
        return None


class _StaCheck(_OwnCheck):
    """CalculiX marks an attempt that did not converge with ``U``; as the last one it means that the run gave up."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Keep the end of the file."""
        self._tail = (self._tail + piece)[-4096:]

    def finding(self, complete: bool) -> Finding | None:
        """Judge the last row."""
        last = self._tail.rstrip().rpartition(b"\n")[2]
        if not (complete and _UNCONVERGED.match(last)):
            return None
        return Finding(
            code="CALCULIX_NOT_CONVERGED",
            severity=Severity.ERROR,
            kind=Kind.SOLVER_ERROR,
            quoted=quote(last),
            line_number=0,
            count=1,
            cause="The last increment that CalculiX tried did not converge (U), so the run broke off there.",
            fix="Take smaller increments on *STATIC, apply the load in more steps, check contact and material data.",
        )


class _DatCheck(_OwnCheck):
    """CalculiX may end well and have printed numbers that are none."""

    def __init__(self) -> None:
        self._tail = b""
        self._is_calculix = False
        self._bad = b""

    def feed(self, piece: bytes) -> None:
        """Look for them, also where two pieces meet."""
        text = self._tail + piece
        self._tail = text[-200:]
        self._is_calculix = self._is_calculix or b" and time " in text
        bad = None if self._bad else _NOT_A_NUMBER.search(text)
        if bad:
            self._bad = text[text.rfind(b"\n", 0, bad.start()) + 1 : bad.end() + 80].partition(b"\n")[0]

    def finding(self, complete: bool) -> Finding | None:
        """Judge what was printed."""
        if not (self._is_calculix and self._bad):
            return None
        return Finding(
            code="CALCULIX_NAN",
            severity=Severity.ERROR,
            kind=Kind.SOLVER_ERROR,
            quoted=quote(self._bad),
            line_number=0,
            count=1,
            cause="CalculiX printed results that are not numbers (NaN).",
            fix="Check the supports (rigid body motion), units and material data.",
        )


_OWN_CHECKS: dict[str, type[_OwnCheck]] = {".sta": _StaCheck, ".dat": _DatCheck}
