# SPDX-License-Identifier: Apache-2.0
"""
The table, for a terminal and for the documentation.

``python -m tests.e2e.chaos.report DIRECTORY FILE`` writes the results in a directory, one JSON file for each version of
Airflow, between the marks in a page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.chaos.harness import Result

HEAD = ("what happened", "task", "launched", "stopped", "left", "run", "tries", "")
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
LEFT = "Left running, as documented:"


def _cells(result: Result) -> tuple[str, ...]:
    numbers = (result.launches, result.stops, result.left)
    verdict = f"WRONG: {result.wrong}" if result.wrong else "ok"
    return (result.what, result.mode, *map(str, numbers), result.state, str(result.tries), verdict)


def _leaves(result: Result) -> bool:
    return result.left > 0 and not result.wrong


def as_text(results: Sequence[Result], version: str) -> str:
    """Write the table for a terminal; the rows that leave something running, as documented, by themselves."""
    parts = [f"Airflow {version}"]
    for title, wanted in (("", False), (LEFT, True)):
        rows = [_cells(result) for result in results if _leaves(result) is wanted]
        if not rows:
            continue
        widths = [max(len(row[column]) for row in [HEAD, *rows]) for column in range(len(HEAD))]
        parts += ["", *([title] if title else [])]
        for row in [HEAD, *rows]:
            parts.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return "\n".join(parts)


def as_markdown(results: Mapping[str, Sequence[Result]]) -> str:
    """Write the table for the documentation: a column for each version of Airflow."""
    by_name: dict[str, dict[str, Result]] = {}
    for version, rows in results.items():
        for result in rows:
            by_name.setdefault(result.name, {})[version] = result
    lines: list[str] = []
    for title, wanted in (("", False), (LEFT, True)):
        chosen = [found for found in by_name.values() if any(map(_leaves, found.values())) is wanted]
        if not chosen:
            continue
        lines += [title, ""] if title else []
        lines += [
            "| what happened | task | " + " | ".join(f"Airflow {version}" for version in results) + " |",
            "|---" * (2 + len(results)) + "|",
        ]
        for found in chosen:
            first = next(iter(found.values()))
            cells = [_cell(found.get(version)) for version in results]
            lines.append(f"| {first.what} | {first.mode} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    stopped = f", {result.stops} stopped" if result.stops else ""
    left = f", **{result.left} left running**" if result.left else ""
    wrong = f" **WRONG: {result.wrong}**" if result.wrong else ""
    return f"{result.launches} launched{stopped}{left}; run: {result.state}{wrong}"


def main(directory: Path, page: Path) -> None:
    """Write the results into the page."""
    results = {
        version: [Result(**row) for row in json.loads((directory / f"{version}.json").read_text())]
        for version in ("3.3", "2.11")
        if (directory / f"{version}.json").exists()
    }
    text = page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    page.write_text(f"{before}\n\n{as_markdown(results)}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
