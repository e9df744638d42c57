# SPDX-License-Identifier: Apache-2.0
"""The deadline of a wait in reschedule mode holds over its task's retries where Airflow has no state store, too."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator

DAGS = Path(__file__).parent / "dags_waiting"


@pytest.mark.skipif(version("apache-airflow") >= "3", reason="this Airflow has a state store")
def test_a_retry_after_the_deadline_looks_once_and_ends(airflow_home):
    with CloudHPCEmulator(port=0) as emulator:
        (number,) = emulator.control.simulation(pending=0, running=None)
        assert number == 10001
        home = airflow_home(DAGS)
        home.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=emulator.api_key)
        run = home.dag_test(DAGS / "retried.py", "retried")
    assert home.task_states(run) == {"wait": "failed"}
    assert (home.home / "looks").read_text() == "1\n1\n2\n"
    assert "The deadline passed while simulation 10001 was RUNNING" in (home.home / "commands.log").read_text()
