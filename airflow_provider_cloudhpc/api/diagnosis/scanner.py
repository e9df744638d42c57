# SPDX-License-Identifier: Apache-2.0
"""
Reads a run's output (``GET /simulation/view/{id}``) against the catalogue of lines that mean something.

In linear time and in memory that does not grow with the output, however it is encoded or cut into pieces.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.diagnosis.catalogue import CATALOGUE, Kind, Row, Severity
from airflow_provider_cloudhpc.api.diagnosis.endmarks import MARKS, Check, FdsMark
from airflow_provider_cloudhpc.api.diagnosis.lines import (
    QUOTE_LENGTH,
    is_shown,
    quote,
    strip_ansi,
    telling_part,
    words_of,
)
from airflow_provider_cloudhpc.api.diagnosis.verdict import Diagnosis, Finding, next_ram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_cloudhpc.api.diagnosis.endmarks import EndMark
    from airflow_provider_cloudhpc.api.diagnosis.lines import Pattern

#: Longest piece of a line that is looked at as a whole, in bytes; longer lines are looked at in such pieces.
WINDOW = 16 * 1024
#: Bytes that are looked at together.
BLOCK = 256 * 1024
#: How far two pieces of a long line overlap, in bytes: more than any pattern is long.
OVERLAP = 2 * 1024
#: How many of the last lines are kept.
LAST_LINES = 20
#: Lines after one that are looked at for its reason.
_REASON_WITHIN = 8
#: What a run may be hit by and still succeed after the platform restarted its solver.
_SURVIVABLE = frozenset({Kind.OUT_OF_MEMORY, Kind.CRASHED})


@dataclass(slots=True)
class _Hit:
    """The lines of a row: the first one, cut short, and how many."""

    raw: bytes
    at: int
    number: int
    last: int
    count: int = 1
    before: tuple[bytes, ...] = ()
    after: list[bytes] = field(default_factory=list)
    #: Lines that are still to be looked at for what comes after.
    open_for: int = 0


class OutputScanner:
    """
    Reads an output as it comes: ``feed`` any number of pieces, then ask once for the :class:`Diagnosis`.

    Where the pieces are cut makes no difference. A carriage return begins the line anew, as on a terminal: every
    version of it is looked at. NUL bytes are dropped, which also reads UTF-16 whose text is ASCII.

    :param script: name of the simulation's script where known
    :param hide: texts that no quotation may show, such as the record's ``vnc_url``
    :param rows: what to look for
    :param marks: the positive checks
    """

    def __init__(
        self,
        script: str = "",
        *,
        hide: Iterable[str] = (),
        rows: Sequence[Row] = CATALOGUE,
        marks: Sequence[type[EndMark]] = MARKS,
    ) -> None:
        self._script = script.lower()
        self._hide = tuple(hide)
        self._rows = rows
        self._marks = tuple(mark(script) for mark in marks)
        # A pattern is tried on lines that hold its word; the place in the catalogue decides between rows.
        self._tried: dict[bytes, list[tuple[int, Row, Pattern]]] = {}
        for place, row in enumerate(rows):
            for pattern in row.patterns:
                self._tried.setdefault(b"@@@" if pattern.platform else pattern.word, []).append((place, row, pattern))
        self._words = self._tried.keys() | {word for mark in marks for word in mark.words}
        self._hits: dict[str, _Hit] = {}
        #: Those whose reason may still come, with the number of lines it has.
        self._open: list[tuple[_Hit, int]] = []
        self._last: deque[bytes] = deque(maxlen=LAST_LINES)
        self._buffer = bytearray()
        self._number = 1
        #: Number of the line at which something is missing, 0 where nothing is.
        self._gap = 0
        # Of the line being read: what of it is still to be looked at, whether its beginning was, whether it only shows
        # something, the rows it fits, and its latest version.
        self._pending = bytearray()
        self._begun = False
        self._shown = False
        self._fits: set[str] = set()
        self._latest = b""

    def feed(self, chunk: bytes | str) -> None:
        """
        Read the next piece of the output.

        :param chunk: bytes in any encoding, or text
        """
        for start in range(0, len(chunk), BLOCK):
            part = chunk[start : start + BLOCK]
            data = part.encode("utf-8", "replace") if isinstance(part, str) else part
            self._buffer += data.replace(b"\0", b"")
            if len(self._buffer) >= BLOCK:
                self._read()

    def skip(self) -> None:
        """Take note that a part of the output is missing here; line numbers are not known from here on."""
        self._buffer += b"\n"
        self._read()
        self._last.clear()
        self._gap = self._number

    def _read(self) -> None:
        """Read the whole lines in the buffer; without one, the buffer is a part of a long line."""
        end = self._buffer.rfind(b"\n") + 1
        block = bytes(self._buffer[:end])
        del self._buffer[:end]
        if not end:
            self._take(bytes(self._buffer))
            self._buffer.clear()
        if self._pending and block:
            rest, _, block = block.partition(b"\n")
            self._take(rest)
            self._end_line()
        if block and not self._open and not self._may_mean(block):
            block = self._skip(block)
        for line in block.split(b"\n")[:-1]:
            self._take(line)
            self._end_line()

    def _may_mean(self, text: bytes) -> bool:
        """Whether any line of a text may mean something; mostly none does, and one look at a block tells."""
        if b"@@@" in text or not self._words.isdisjoint(words_of(text)):
            return True
        return b"\x1b" in text and not self._words.isdisjoint(words_of(strip_ansi(text)))

    def _skip(self, block: bytes) -> bytes:
        """Skip the lines of a block but for the last ones, which are given back."""
        if block.isspace():
            self._number += block.count(b"\n")
            return b""
        start = len(block)
        kept = 0
        while start and kept < LAST_LINES:
            end = start
            start = block.rfind(b"\n", 0, end - 1) + 1
            kept += bool(strip_ansi(block[start:end]).strip())
        self._number += block.count(b"\n", 0, start)
        return block[start:]

    def _take(self, part: bytes) -> None:
        """Take the next part of a line."""
        pieces = part.split(b"\r")
        if len(pieces) > 3:  # a progress bar, mostly: of versions that mean nothing the last one is enough
            between = pieces[1:-1]
            if not self._may_mean(b"\r".join(between)):
                shown = (piece for piece in reversed(between) if strip_ansi(piece).strip())
                pieces[1:-1] = [next(shown, b"")]
        for version, piece in enumerate(pieces):
            if version:
                self._end_version()
            self._pending += piece
            while len(self._pending) > WINDOW:
                self._look(bytes(self._pending[:WINDOW]))
                del self._pending[: WINDOW - OVERLAP]

    def diagnose(self, *, complete: bool = True, ram: str = "") -> Diagnosis:
        """
        Tell what the output means, once all of it was fed.

        :param complete: False if the output goes on behind what was fed
        :param ram: RAM tier of the run, to name the next one after a memory failure
        """
        self._buffer += b"\n"
        self._read()
        findings = [self._finding(row, self._hits[row.code]) for row in self._rows if row.code in self._hits]
        # Where the end was not seen its absence means nothing.
        seen = [mark for mark in self._marks if complete or not mark.begun or mark.ended]
        checked = [(mark, check) for mark in seen if (check := mark.check(self._last))]
        if not any(finding.severity is Severity.ERROR for finding in findings):
            findings += [_of_check(check, self._may_have_ended(mark)) for mark, check in checked if not check.finished]
        findings.sort(key=lambda found: (found.severity is not Severity.ERROR, found.line_number or sys.maxsize))
        has_end, complete = complete, complete and not self._gap
        checks = [check for mark, check in checked if check.finished or not self._may_have_ended(mark)]
        diagnosis = Diagnosis(
            checked="none" if not self._last and complete else "full" if complete else "partial",
            findings=tuple(findings),
            checks=tuple(checks),
            last_lines=tuple(quote(line, hide=self._hide) for line in self._last),
            has_end=has_end,
        )
        return replace(diagnosis, next_ram=next_ram(ram)) if diagnosis.out_of_memory else diagnosis

    def _may_have_ended(self, mark: EndMark) -> bool:
        """Whether a run's end may stand where something is missing: nothing but a solver's own script ends with it."""
        return mark.begun < self._gap and not self._script.startswith(mark.solver.lower())

    def _end_line(self) -> None:
        self._end_version()
        if self._latest:
            if self._open:
                self._take_reason()
            self._last.append(self._latest)
            self._latest = b""
        self._number += 1

    def _take_reason(self) -> None:
        """Take the line that has ended for what a line before it left open."""
        part = telling_part(self._latest)
        for hit, most in self._open:
            if hit.number != self._number:
                hit.open_for -= 1
                if part and part not in (telling_part(hit.raw), *hit.after):
                    hit.after.append(part)
                if len(hit.after) == most:
                    hit.open_for = 0
        self._open = [(hit, most) for hit, most in self._open if hit.open_for > 0]

    def _end_version(self) -> None:
        if self._pending:
            self._look(bytes(self._pending))
            self._pending.clear()
        self._begun = False
        self._fits.clear()

    def _look(self, raw: bytes) -> None:
        """Look at a line, or at a piece of a long one."""
        line = strip_ansi(raw)
        if not self._begun:
            if self._number == 1:
                # Byte order marks of UTF-8 and UTF-16.
                line = line.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
            text = line.strip()
            if not text:
                return
            self._begun = True
            self._shown = is_shown(line)
            # More bytes than a quotation has characters, so that none is missed.
            self._latest = text[: 4 * QUOTE_LENGTH + 4]
            for mark in self._marks:
                mark.see(line.rstrip(), self._number)
        words = self._tried.keys() & words_of(line)
        if line.lstrip().startswith(b"@@@"):
            words.add(b"@@@")
        if self._shown or not words:
            return
        lowered = line.lower()
        fitting = (
            (place, row, at)
            for place, row, pattern in chain.from_iterable(self._tried[word] for word in words)
            if (at := pattern.search(line, lowered)) >= 0
        )
        first = min(fitting, key=lambda found: found[0], default=None)
        if first and first[1].code not in self._fits:
            self._fits.add(first[1].code)
            self._count(first[1], line, first[2])

    def _count(self, row: Row, line: bytes, at: int) -> None:
        earlier = self._hits.get(row.code)
        # In a parallel run the master's message names the files that the user knows.
        telling = row.after and earlier and line.startswith(b"[0]") and not earlier.raw.startswith(b"[0]")
        if earlier:
            earlier.count += 1
            earlier.last = self._number
            if not telling:
                return
        first = max(0, at - 2 * QUOTE_LENGTH)
        hit = _Hit(line[first : at + 4 * QUOTE_LENGTH], at - first, self._number, self._number)
        if earlier:
            hit.count = earlier.count
            self._open = [(other, most) for other, most in self._open if other is not earlier]
        self._hits[row.code] = hit
        if row.before:
            begin = row.before_begins.encode()
            parts = [part for part in map(telling_part, self._last) if part and part.startswith(begin)]
            hit.before = tuple(parts[-row.before :])
        if row.after:
            hit.open_for = _REASON_WITHIN
            self._open.append((hit, row.after))

    def _finding(self, row: Row, hit: _Hit) -> Finding:
        severity, cause = row.severity, row.cause
        if severity is Severity.ERROR and row.kind in _SURVIVABLE and self._was_restarted(hit.last):
            severity = Severity.WARNING
            cause += " The solver was started again after that (as after a preemption) and came to its end."
        return Finding(
            code=row.code,
            severity=severity,
            kind=row.kind,
            quoted=quote(hit.raw, around=hit.at, hide=self._hide),
            before=tuple(quote(line, hide=self._hide) for line in hit.before),
            after=tuple(quote(line, hide=self._hide) for line in hit.after),
            line_number=0 if self._gap and hit.number >= self._gap else hit.number,
            count=hit.count,
            cause=cause,
            fix=row.fix,
            link=row.link,
        )

    def _was_restarted(self, number: int) -> bool:
        """Whether the platform started FDS again after a line, and that run ended well."""
        return self._script.startswith("fds") and any(
            isinstance(mark, FdsMark) and mark.begun > number and mark.ended for mark in self._marks
        )


def _of_check(check: Check, maybe: bool) -> Finding:
    """
    Give the finding for a run that did not come to its end.

    :param maybe: whether its end may stand where something is missing
    """
    early = check.finished is None
    if early:
        cause, fix = "The results do not reach the end time of the case.", "Nothing, if the case asks for that."
    else:
        cause = "The run broke off before its end."
        fix = "Read the last lines of the output and the solver's own log in the results."
    if maybe and not early:
        cause = "The run may have broken off: its end is not in what was read of the output."
    return Finding(
        code="ENDED_EARLY" if early else "NOT_FINISHED",
        severity=Severity.WARNING if early or maybe else Severity.ERROR,
        kind=Kind.NOT_FINISHED,
        quoted=check.detail,
        line_number=0,
        count=0,
        cause=cause,
        fix=fix,
    )


def diagnose(
    output: bytes | str | Iterable[bytes | str] | None,
    *,
    script: str = "",
    ram: str = "",
    complete: bool = True,
    tail: str | None = None,
    hide: Iterable[str] = (),
) -> Diagnosis:
    """
    Tell what an output means.

    :param output: the text, its bytes, or pieces of either; None if there is none
    :param script: name of the simulation's script where known
    :param ram: RAM tier of the run, to name the next one after a memory failure
    :param complete: False if the output goes on behind what is given, and its end is not
    :param tail: the end of an output of which ``output`` is only the beginning
    :param hide: texts that no quotation may show
    """
    scanner = OutputScanner(script, hide=hide)
    for chunk in [output] if isinstance(output, bytes | str) else output or ():
        scanner.feed(chunk)
    if tail is not None:
        scanner.skip()
        # Its first line is a piece of one.
        scanner.feed(tail.partition("\n")[2] or tail)
        complete = True
    return scanner.diagnose(complete=complete, ram=ram)
