# SPDX-License-Identifier: Apache-2.0
"""The rented machine: how much memory it has, how many processes it starts, what is too small for a solver."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.solvers.base import GIB

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.solvers.base import Case

#: GB of memory per vCPU of each tier.
_GB_PER_CPU = {"highcpu": 1, "hypercpu": 1, "standard": 4, "highmem": 8, "basegpu": 8, "highcore": 2, "hypercore": 2}
#: Tiers whose vCPU are physical cores; on the others two vCPU share one.
_PHYSICAL = {"highcore", "hypercore"}


def memory_bytes(case: Case) -> int:
    """Memory of the rented machine."""
    return case.cpu * _GB_PER_CPU.get(case.ram, 4) * GIB


def processes(case: Case) -> int:
    """Number of processes that the platform starts a parallel solver with: one for each physical core."""
    return case.cpu if case.ram in _PHYSICAL else max(1, case.cpu // 2)


def threads(case: Case) -> int:
    """Number of threads that a real solver here is given: no more than this machine has."""
    return min(case.cpu, os.cpu_count() or 1)


def too_small(case: Case) -> str | None:
    """Why no engineering solver starts on this machine, None where one does."""
    return "low vCPU selected: 1 vCPU of highcpu starts no solver" if (case.cpu, case.ram) == (1, "highcpu") else None
