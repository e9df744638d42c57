# SPDX-License-Identifier: Apache-2.0
"""A reschedule-mode wait whose first try dies after it was rescheduled once; its retry comes after the deadline."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor

TIMEOUT, RETRY_DELAY = 4.0, 5.0


class DyingSensor(CloudHPCSimulationSensor):
    def poke(self, context: Any) -> Any:
        looks = Path(os.environ["AIRFLOW_HOME"], "looks")
        with looks.open("a", encoding="utf-8") as file:
            file.write(f"{context['ti'].try_number}\n")
        if looks.read_text(encoding="utf-8") == "1\n1\n":
            raise ConnectionError("the worker is gone")
        return super().poke(context)


with DAG("retried", schedule=None) as dag:
    DyingSensor(
        task_id="wait",
        simulation_id=10001,
        mode="reschedule",
        deferrable=False,
        poke_interval=1,
        timeout=TIMEOUT,
        retries=2,
        retry_delay=timedelta(seconds=RETRY_DELAY),
    )
