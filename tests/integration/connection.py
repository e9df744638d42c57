# SPDX-License-Identifier: Apache-2.0
"""The connection of a test's tasks, in the environment."""

from __future__ import annotations

import json

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator

CONN_ID = "cloudhpc_default"


def connect(
    monkeypatch: pytest.MonkeyPatch,
    emulator: CloudHPCEmulator,
    conn_id: str = CONN_ID,
    *,
    key: str = "",
    host: str = "",
) -> None:
    """Put a connection into the environment."""
    document = {"conn_type": "cloudhpc", "host": host or emulator.url, "password": key or emulator.api_key}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(document))
