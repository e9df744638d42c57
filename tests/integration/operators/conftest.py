# SPDX-License-Identifier: Apache-2.0
"""The emulator behind the connection ``cloudhpc_default``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from tests.integration.connection import connect


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator


@pytest.fixture
def cloudhpc(shared_emulator: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> CloudHPCEmulator:
    """Give an emulator on which nothing has happened yet."""
    shared_emulator.control.reset()
    connect(monkeypatch, shared_emulator)
    return shared_emulator
