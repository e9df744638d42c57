# SPDX-License-Identifier: Apache-2.0
"""A handful of rows of the chaos table, in a real Airflow; ``make chaos`` runs all of them."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.chaos.harness import Chaos
from tests.e2e.chaos.report import as_text
from tests.e2e.chaos.table import ROWS


def test_what_is_killed_is_billed_once_and_nothing_runs_on(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path / "chaos", [row for row in ROWS if row.short])
    results = chaos.run()
    print(as_text(results, chaos.version))
    assert len(results) >= 5
    assert [result for result in results if result.wrong] == []
