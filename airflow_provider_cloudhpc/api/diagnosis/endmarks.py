# SPDX-License-Identifier: Apache-2.0
"""
Positive checks: what a solver prints only when it has come to its end.

Each mark is fed the lines of an output one by one and afterwards tells whether the **last** run of its solver ended as
it should. The last one counts, because a preemptible machine may restart and the solver with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Check:
    """
    What a positive check found.

    :param solver: the solver's name
    :param finished: True if it came to its end, False if it did not, None if it ended early on purpose
    :param detail: what was seen, for people
    """

    solver: str
    finished: bool | None
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {"solver": self.solver, "finished": self.finished, "detail": self.detail}


class EndMark:
    """
    One solver's begin and end in a stream of lines.

    :param script: name of the simulation's script where known; it tells how much a line may be believed
    """

    solver: ClassVar[str]
    #: Every line that :meth:`see` has to see holds one of these words (lowered).
    words: ClassVar[tuple[bytes, ...]]

    def __init__(self, script: str = "") -> None:
        self._script = script.lower()
        #: Number of the line at which the last run began, 0 if none did.
        self.begun = 0
        #: Number of the line at which it ended well, 0 while it has not.
        self.ended = 0

    def see(self, line: bytes, number: int) -> None:
        """Take in the next line (without terminal escapes and white space at its end)."""
        raise NotImplementedError

    def check(self, last: Sequence[bytes]) -> Check | None:
        """
        Tell how the last run ended; None if no run of this solver was seen.

        :param last: the last lines of the output that are not blank
        """
        raise NotImplementedError

    def _begin(self, number: int) -> None:
        self.begun, self.ended = number, 0


class FdsMark(EndMark):
    """FDS prints ``Starting FDS`` and, at the end, ``STOP: FDS completed successfully`` (cloudHPC's and FDS's docs)."""

    solver = "FDS"
    words = (b"fds", b"dynamics", b"stop")
    _START = re.compile(rb"@*\s*Starting FDS\b(?!\s*[a-z])")
    _START_OF_FDS_SCRIPT = re.compile(rb"@*\s*Starting FDS\b")
    _SUCCESS = b"STOP: FDS completed successfully"

    def __init__(self, script: str = "") -> None:
        super().__init__(script)
        # Other scripts may well say "Starting FDS post-processing".
        self._start = self._START_OF_FDS_SCRIPT if self._script.startswith("fds") else self._START
        self._other_stop = ""

    def see(self, line: bytes, number: int) -> None:
        """Take in the next line."""
        line = line.lstrip()
        if self._start.match(line) or (not self.begun and line.startswith(b"Fire Dynamics Simulator")):
            self._begin(number)
            self._other_stop = ""
        elif self._SUCCESS in line:
            self.ended = number
        elif line.startswith(b"STOP: "):
            self._other_stop = line[:120].decode("latin-1")

    def check(self, last: Sequence[bytes]) -> Check | None:
        """Tell how the last run ended."""
        if self.ended:
            return Check(self.solver, True, "FDS printed `STOP: FDS completed successfully`")
        if not self.begun:
            return None
        if self._other_stop.startswith("STOP: FDS stopped by user"):
            return Check(self.solver, False, f"FDS was stopped before its end: `{self._other_stop}`")
        if self._other_stop:
            return Check(self.solver, None, f"FDS ended before its time, as its input asks: `{self._other_stop}`")
        return Check(self.solver, False, "FDS started and never printed `STOP: FDS completed successfully`")


class OpenFoamMark(EndMark):
    """OpenFOAM's banner names the program (``Exec   : simpleFoam``); one that loops over time ends with ``End``."""

    solver = "OpenFOAM"
    words = (b"exec", b"loop", b"end")

    def __init__(self, script: str = "") -> None:
        super().__init__(script)
        self._program = b""
        self._looping = ""
        #: How many programs began while one looped: theirs are the next ends.
        self._others = 0

    def see(self, line: bytes, number: int) -> None:
        """Take in the next line."""
        if line.startswith(b"Exec   :"):
            self._program = line[8:].split()[0][:60] if line[8:].split() else b""
            self._others += 1
        elif line == b"Starting time loop":
            self._begin(number)
            self._looping = self._program.decode("latin-1") or "the solver"
        elif line == b"End" or line.startswith(b"End: "):  # foamToVTK adds its time
            if self._others:
                self._others -= 1
            elif self.begun and not self.ended:
                self.ended = number

    def _begin(self, number: int) -> None:
        super()._begin(number)
        self._others = 0

    def check(self, last: Sequence[bytes]) -> Check | None:
        """Tell how the last program that looped over time ended."""
        if not self.begun:
            return None
        if self.ended:
            return Check(self.solver, True, f"{self._looping} printed `End`")
        return Check(self.solver, False, f"{self._looping} started and never printed `End`")


class OpenFoamLogMark(OpenFoamMark):
    """In a ``log.*`` of its own every OpenFOAM program with a banner ends with ``End``, but for a few utilities."""

    #: Those of v1912 whose binaries hold no such word.
    _WITHOUT_END = (b"foamListRegions", b"foamUpgradeCyclics", b"mixtureAdiabaticFlameT", b"surfaceMeshInfo")

    def see(self, line: bytes, number: int) -> None:
        """Take in the next line."""
        super().see(line, number)
        if line.startswith(b"Exec   :") and self._program not in self._WITHOUT_END:
            self._begin(number)
            self._looping = self._program.decode("latin-1") or "the program"


class CalculixMark(EndMark):
    """CalculiX prints a banner and, at the end, ``Job finished``."""

    solver = "CalculiX"
    words = (b"calculix", b"job")

    def see(self, line: bytes, number: int) -> None:
        """Take in the next line."""
        line = line.lstrip()
        if line.startswith(b"CalculiX Version"):
            self._begin(number)
        elif line == b"Job finished":
            self.ended = number

    def check(self, last: Sequence[bytes]) -> Check | None:
        """Tell how the last run ended."""
        if not self.begun:
            return None
        if self.ended:
            return Check(self.solver, True, "CalculiX printed `Job finished`")
        return Check(self.solver, False, "CalculiX started and never printed `Job finished`")


class _ProofMark(EndMark):
    """A solver that says so when it has succeeded; how it begins is not known well enough to miss that."""

    proofs: ClassVar[tuple[bytes, ...]]

    def see(self, line: bytes, number: int) -> None:
        """Take in the next line."""
        if any(proof in line for proof in self.proofs):
            self.ended = number

    def check(self, last: Sequence[bytes]) -> Check | None:
        """Tell of success only."""
        return Check(self.solver, True, f"{self.solver} says that it succeeded") if self.ended else None


class AsterMark(_ProofMark):
    """code_aster sums up its job, with alarms or without."""

    solver = "code_aster"
    words = (b"diagnostic",)
    proofs = (b"DIAGNOSTIC JOB : OK", b"DIAGNOSTIC JOB : <A>_ALARM")


class Su2Mark(_ProofMark):
    """SU2's programs end with a banner."""

    solver = "SU2"
    words = (b"success",)
    proofs = (b"- Exit Success (SU2_",)


class PythonMark(EndMark):
    """A traceback whose exception is the script's last word was not caught."""

    solver = "Python"
    words = (b"traceback",)
    _EXCEPTION = re.compile(rb"[A-Za-z_][\w.]{0,200}(?:Error|Exception|Interrupt|Exit)(?::|$)")
    #: What is an exception where it stands right behind a frame; of the frame's code a line is shown, and marks in it.
    _NAME = re.compile(rb"(?:(?:[A-Za-z_]\w*\.)+[A-Za-z_]|[A-Z])\w*(?::|$)")
    _FRAME = re.compile(rb"File \".*\", line \d+")
    _MARKS = re.compile(rb"[~^ ]+")

    def see(self, line: bytes, number: int) -> None:
        """Take in the next line."""
        if line == b"Traceback (most recent call last):":
            self._begin(number)

    def check(self, last: Sequence[bytes]) -> Check | None:
        """Tell of an exception that nothing followed but the platform's own lines."""
        *before, said = [b"", *(line for line in last if not line.startswith(b"@@@"))]
        if not self.begun or not (self._EXCEPTION.match(said) or (self._NAME.match(said) and self._ends(before))):
            return None
        said_text = said[:120].decode("latin-1")
        return Check(self.solver, False, f"a Python script ended with an exception: {said_text}")

    def _ends(self, lines: Sequence[bytes]) -> bool:
        """Whether lines end with a frame of a traceback."""
        *_, first, second = [b"", b"", *(line for line in lines if not self._MARKS.fullmatch(line))]
        return bool(self._FRAME.match(second) or (self._FRAME.match(first) and not self._NAME.match(second)))


#: The marks that are looked for in every output.
MARKS: tuple[type[EndMark], ...] = (
    FdsMark, OpenFoamMark, CalculixMark, AsterMark, Su2Mark, PythonMark,
)  # fmt: skip
#: The marks that are looked for in files named ``log`` or ``log.*``.
LOG_MARKS: tuple[type[EndMark], ...] = (
    FdsMark, OpenFoamLogMark, CalculixMark, AsterMark, Su2Mark, PythonMark,
)  # fmt: skip
