# SPDX-License-Identifier: Apache-2.0
"""Check that the wheel holds the package alone, and all of it; run as ``check_wheel.py DIRECTORY``."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "airflow_provider_cloudhpc"
REPOSITORY = Path(__file__).parents[1]


def main(directory: str) -> int:
    """
    Compare the only wheel of a directory with what git knows of the package.

    :return: exit code
    """
    (wheel,) = Path(directory).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", PACKAGE],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {name for name in listed.stdout.split() if (REPOSITORY / name).exists()}
    foreign, missing = names - metadata - expected, expected - names
    if foreign or missing or not any(name.endswith("/licenses/LICENSE") for name in metadata):
        print(f"{wheel.name}: foreign {sorted(foreign)}, missing {sorted(missing)}, metadata {sorted(metadata)}")
        return 1
    print(f"{wheel.name}: the package alone, {len(expected)} files, with its licence")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
