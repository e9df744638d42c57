# SPDX-License-Identifier: Apache-2.0
"""``custom-script``: the one ``.sh`` or ``.py`` of the folder really runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.solvers.base import Case, RefusedRun
from airflow_provider_cloudhpc.emulator.solvers.process import ProcessRun

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.solvers.base import Run

#: Named like the documented ones (``CODE-ASTER.tar.gz``): nothing is documented for this script.
ARCHIVE = "CUSTOM-SCRIPT.tar.gz"


def start(case: Case) -> Run:
    """
    Run the folder's script; helpers belong in a subfolder, since which of two scripts is meant cannot be known.

    :param case: what to run
    :return: the run; refused (the service says ERROR) without exactly one script
    """
    scripts = case.files("*.sh", "*.py")
    if len(scripts) != 1:
        found = ", ".join(path.name for path in scripts) or "none"
        return RefusedRun(
            f"{case.banner}@@@ ERROR: custom-script needs exactly one .sh or .py right in the folder; found: {found}\n"
        )
    interpreter = sys.executable if scripts[0].suffix == ".py" else "/bin/bash"
    return ProcessRun(case, [interpreter, scripts[0].name], archive=ARCHIVE)
