# SPDX-License-Identifier: Apache-2.0
"""A triggerer that dies with twenty waits: nothing is stopped, nothing lost, nothing told twice, few calls made."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator

DAGS = Path(__file__).parent / "dags_waiting"
WAITS = 20
#: Seconds after which nothing more is expected: Airflow 2 goes on with one task after another, on a busy machine.
PATIENCE = 600


def test_twenty_waits_outlive_a_triggerer_that_is_killed_and_one_that_is_told_to_end(real_airflow):
    with CloudHPCEmulator(port=0) as cloud:
        numbers = cloud.control.simulation(count=WAITS, pending=1, running=None)
        assert numbers == list(range(10001, 10001 + WAITS))
        airflow = real_airflow(DAGS, log_level="INFO", env={"AIRFLOW__CORE__PARALLELISM": "8"})
        airflow.start()
        airflow.add_connection("cloudhpc_default", "cloudhpc", host=cloud.url, password=cloud.api_key)
        run = airflow.trigger("twenty_waits")
        triggerer = airflow.components["triggerer"]

        def deferred():
            states = list(airflow.task_states(run).values())
            return "all" if states == ["deferred"] * WAITS else "some"

        def looked_since(calls):
            return "yes" if cloud.ledger.count("GET simulation/index-short/*") > calls else "no"

        airflow.wait_until(deferred, {"all"}, run, PATIENCE)
        airflow.wait_until(lambda: looked_since(0), {"yes"}, run, PATIENCE)
        for how in (signal.SIGKILL, signal.SIGTERM):
            before = cloud.ledger.api_calls
            listings = cloud.ledger.count("GET simulation/index-short/*")
            triggerer.kill(how, whole_session=how is signal.SIGKILL)
            triggerer.start()
            airflow.wait_until(lambda since=listings: looked_since(since), {"yes"}, run, PATIENCE)
            time.sleep(3)
            assert set(airflow.task_states(run).values()) == {"deferred"}
            # One listing answers for all twenty; joining late costs another one or two, and never one each.
            assert cloud.ledger.api_calls - before <= 4
        for number in numbers:
            cloud.control.finish(number)
        polls = cloud.ledger.api_calls
        assert airflow.wait(run, PATIENCE) == "success"
        assert cloud.ledger.stops == []
        assert set(airflow.try_numbers(run).values()) == {1}
        assert {xcoms["return_value"]["status"] for xcoms in airflow.xcoms(run).values()} == {"COMPLETED"}
        # Each output was read once: each ending came once.
        assert cloud.ledger.count("GET simulation/view/*") == WAITS
        assert cloud.ledger.api_calls - polls - WAITS <= 8
