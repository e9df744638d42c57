# SPDX-License-Identifier: Apache-2.0
"""
The truth about an ending: did the solver succeed, why not, what to do.

The service says COMPLETED for runs whose solver crashed, so the output is read
(:mod:`~airflow_provider_cloudhpc.api.diagnosis.scanner`); this is what comes out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.diagnosis.catalogue import Kind, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cloudhpc.api.diagnosis.endmarks import Check

#: Errors that only follow from another one, where there is one.
_FOLLOWING = ("TERMINATED", "MPI_ABORT", "SNAPPYHEXMESH_FAILURE")
#: Longest quotation of a line with those that say why, in characters.
_TOLD_LENGTH = 500
#: RAM tier to try after a run on a tier was out of memory; no entry where a tier with more does not exist.
NEXT_RAM: Mapping[str, str] = {
    "highcpu": "standard",
    "hypercpu": "standard",
    "highcore": "standard",
    "hypercore": "standard",
    "standard": "highmem",
}


def next_ram(ram: str) -> str | None:
    """
    Name the RAM tier with more memory per vCPU to try after a memory failure.

    :param ram: tier of the run that failed
    :return: None for the largest tier, for GPU machines and for tiers that are not known
    """
    return NEXT_RAM.get(ram)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    A meaning that lines of the output have.

    :param quoted: the first such line, short and printable
    :param line_number: where it stands, from 1; 0 for a finding about what is *not* in the output
    :param count: how many lines mean this
    :param before: lines before the first one that say why
    :param after: lines after it that say why
    """

    code: str
    severity: Severity
    kind: Kind
    quoted: str
    line_number: int
    count: int
    cause: str
    fix: str
    link: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The line and those that say why, in a row, not too long; "" where nothing was quoted."""
        text = " | ".join(" ".join(line.split()) for line in (*self.before, self.quoted, *self.after))
        return text if len(text) <= _TOLD_LENGTH else text[: _TOLD_LENGTH - 3].rstrip() + "..."

    @property
    def in_a_sentence(self) -> str:
        """What was found, what it means and what to do, for an error's message."""
        said = f' "{self.told}".' if self.quoted else ""
        return f"{self.code}:{said} {self.cause} What to do: {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "kind": self.kind.value,
            "line": self.quoted,
            "context": [*self.before, self.quoted, *self.after],
            "line_number": self.line_number,
            "count": self.count,
            "cause": self.cause,
            "fix": self.fix,
            "link": self.link,
        }

    def report_lines(self, *, short: bool = False) -> list[str]:
        """
        Give it as lines for a task log.

        :param short: what it means is plain from what was said before
        """
        where = ""
        if self.line_number:
            where = f" (line {self.line_number}{f', {self.count} such lines' if self.count > 1 else ''})"
        lines = [f"{self.severity.upper()} {self.code}{where}: {self.quoted}"]
        lines += [f"    before it: {line}" for line in self.before] + [f"    after it: {line}" for line in self.after]
        if short:
            return lines
        lines += [f"    What happened: {self.cause}", f"    What to do: {self.fix}"]
        if self.link:
            lines.append(f"    See {self.link}")
        return lines


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    What an output says about its run.

    :param checked: ``full``, ``partial`` (the output was longer than what was read: nothing found does not mean clean)
        or ``none`` (there was nothing to read)
    :param findings: errors first, each kind in the order of the output
    :param checks: positive checks, of the solvers that were seen
    :param last_lines: the end of what was read, for ERROR and STOPPED endings
    :param next_ram: after a memory failure the RAM tier to try, where there is one
    :param has_end: whether the end of the output was read
    """

    checked: str
    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    last_lines: tuple[str, ...] = ()
    next_ram: str | None = None
    has_end: bool = True

    @property
    def severity(self) -> Severity | None:
        """The gravest finding's weight; None where nothing was found."""
        return next((s for s in Severity if any(f.severity is s for f in self.findings)), None)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def main_error(self) -> Finding | None:
        """The error that tells most: what a solver says before what only follows from it; None without any."""

        def follows(found: Finding) -> int:
            return 2 if found.kind is Kind.PLATFORM else int(found.code in _FOLLOWING)

        return min(self.errors, key=follows, default=None)

    @property
    def is_clean(self) -> bool:
        """Whether all of it was read and there is nothing to tell."""
        return self.checked == "full" and not self.findings

    @property
    def out_of_memory(self) -> bool:
        """Whether the run failed for lack of RAM."""
        return any(f.kind is Kind.OUT_OF_MEMORY for f in self.errors)

    @property
    def finished(self) -> bool | None:
        """Whether every solver that tells came to its end; None where none tells."""
        known = [check.finished for check in self.checks if check.finished is not None]
        return all(known) if known else None

    @property
    def summary(self) -> str:
        """The diagnosis in one line."""
        if (first := self.main_error) is not None:
            more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
            return f"{first.code}: {first.told or first.cause}{more}"
        if self.checked == "none":
            return "not checked: there is no output"
        if self.checked == "partial":
            return "not fully checked: the output is longer than max_output_bytes; no error in what was read of it"
        proof = "; ".join(check.detail for check in self.checks if check.finished) or "nor a line that proves success"
        many = "s" if len(self.findings) > 1 else ""
        warnings = f"{len(self.findings)} warning{many}, " if self.findings else ""
        return f"{warnings}no error found ({proof})"

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data, for XCom."""
        return {
            "checked": self.checked,
            "severity": self.severity.value if self.severity else None,
            "summary": self.summary,
            "finished": self.finished,
            "out_of_memory": self.out_of_memory,
            "next_ram": self.next_ram,
            "findings": [finding.to_dict() for finding in self.findings],
            "checks": [check.to_dict() for check in self.checks],
            "last_lines": list(self.last_lines),
        }

    def report_lines(self, *, last_lines: bool = False) -> list[str]:
        """
        Give it as lines for a task log.

        :param last_lines: show the end of the output too
        """
        lines = ["What the output says:"] if self.findings else []
        if not self.findings and not last_lines:
            lines.append(f"Diagnosis: {self.summary}")
        for finding in self.findings:
            # That the platform noticed it too explains nothing.
            lines += finding.report_lines(short=finding.kind is Kind.PLATFORM and finding is not self.main_error)
        if self.next_ram:
            lines.append(f"    The next RAM tier is {self.next_ram!r}.")
        if last_lines and self.last_lines:
            what = "the output" if self.has_end else "what was read of the output"
            lines.append(f"Last {len(self.last_lines)} lines of {what}:")
            lines += [f"  | {line}" for line in self.last_lines]
        return lines
