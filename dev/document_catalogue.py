# SPDX-License-Identifier: Apache-2.0
"""Write the catalogue of output lines into ``docs/diagnosis.md``: ``python dev/document_catalogue.py``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.diagnosis.catalogue import CATALOGUE

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.api.diagnosis.lines import Pattern

PAGE = Path(__file__).parents[1] / "docs" / "diagnosis.md"
BEGIN, END = "<!-- catalogue: made by dev/document_catalogue.py -->", "<!-- end of catalogue -->"


def table() -> str:
    """The catalogue as the Markdown table of ``docs/diagnosis.md``."""
    lines = ["| code | weight | about | line | what happened | what to do |", "|---|---|---|---|---|---|"]
    for row in CATALOGUE:
        texts = "<br>".join(f"`{shown(pattern)}`" for pattern in row.patterns)
        about = f"{row.kind}<br>({row.origin})"
        lines.append(f"| {row.code} | {row.severity} | {about} | {texts} | {row.cause} | {row.fix} |")
    return "\n".join(lines)


def shown(pattern: Pattern) -> str:
    """A pattern as a reader understands it."""
    number = f"{pattern.least}..{pattern.below - 1}" if pattern.below else f"{pattern.least} or more"
    text = pattern.text.replace("{n}", f"N ({number})" if pattern.least > 1 or pattern.below else "N")
    text += " (all of the line)" if pattern.alone else ""
    return text.replace("{word}", "X").replace("{any}", "...").replace("|", "\\|")


def with_table(page: str) -> str:
    """
    Put the table between its marks.

    :param page: text of the page
    """
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    page = PAGE.read_text()
    if "--check" in sys.argv:
        sys.exit(page != with_table(page))
    PAGE.write_text(with_table(page))
