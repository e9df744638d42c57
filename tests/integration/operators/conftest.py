# SPDX-License-Identifier: Apache-2.0
"""The emulator behind the connection ``cloudhpc_default``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator


@pytest.fixture
def cloudhpc(shared_emulator: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> CloudHPCEmulator:
    """Give an emulator on which nothing has happened yet."""
    shared_emulator.control.reset()
    connection = {"conn_type": "cloudhpc", "host": shared_emulator.url, "password": shared_emulator.api_key}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUDHPC_DEFAULT", json.dumps(connection))
    return shared_emulator
