# SPDX-License-Identifier: Apache-2.0
"""Twenty simulations are waited for in the triggerer at once."""

from __future__ import annotations

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor

with DAG("twenty_waits", schedule=None, max_active_tasks=32, render_template_as_native_obj=True):
    CloudHPCSimulationSensor.partial(task_id="wait", deferrable=True, timeout=3600).expand(
        simulation_id=list(range(10001, 10021))
    )
