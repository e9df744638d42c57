# SPDX-License-Identifier: Apache-2.0
"""
The pytest fixture ``cloudhpc_emulator``. pytest loads this in every project where the package is installed, so it
imports nothing until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator import CloudHPCEmulator


@pytest.fixture
def cloudhpc_emulator() -> Iterator[CloudHPCEmulator]:
    """A fresh cloudHPC on a free port, for one test."""
    try:
        from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
    except ImportError as error:
        raise pytest.UsageError(
            f"the fixture cloudhpc_emulator needs {error.name}: pip install 'airflow-provider-cloudhpc[emulator]'"
        ) from None
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator
