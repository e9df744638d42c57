# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.e2e.chaos [--only NAME ...] [--write FILE]``: run the whole table and print it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.e2e.chaos.harness import Chaos
from tests.e2e.chaos.report import as_text
from tests.e2e.chaos.table import ROWS


def main() -> int:
    """Run the table; 1 where a row went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.chaos", description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, help="names of rows, or their beginnings")
    parser.add_argument("--home", type=Path, default=None, help="where Airflow and its logs go; default: removed after")
    parser.add_argument("--results", type=Path, default=None, help="file for the results, as JSON")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Airflow's processes are stopped then too
    rows = [row for row in ROWS if given.only is None or row.name.startswith(tuple(given.only))]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cloudhpc-chaos-") as scratch:
        chaos = Chaos(given.home or Path(scratch) / "home", rows)
        results = chaos.run()
    print(as_text(results, chaos.version))
    wrong = [result for result in results if result.wrong]
    print(f"\n{len(results)} rows in {time.monotonic() - started:.0f} s on Airflow {chaos.version}, {len(wrong)} wrong")
    if given.results:
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
