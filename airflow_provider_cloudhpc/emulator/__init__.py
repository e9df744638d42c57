# SPDX-License-Identifier: Apache-2.0
"""
A cloudHPC of one's own: for tests, for CI, for trying a DAG without an account.

``CloudHPCEmulator`` is imported on first use, so that this package costs nothing where only an entry point finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.server import CloudHPCEmulator

__all__ = ["CloudHPCEmulator"]


def __getattr__(name: str) -> Any:
    if name == "CloudHPCEmulator":
        from airflow_provider_cloudhpc.emulator.server import CloudHPCEmulator

        return CloudHPCEmulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
