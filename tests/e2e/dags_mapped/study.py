# SPDX-License-Identifier: Apache-2.0
"""A parameter study: mapped launches, and mapped downloads of what each of them left."""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_cloudhpc.operators.simulation import CloudHPCRunSimulationOperator
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator

CASES = os.environ.get("STUDY_CASES", "")

with DAG("study", schedule=None) as dag:
    run = CloudHPCRunSimulationOperator.partial(
        task_id="run", cpu=1, ram="highcpu", script="custom-script", poll_interval=1, preflight="off"
    ).expand(source=[f"{CASES}/{name}" for name in ("a", "b", "c")])
    CloudHPCDownloadResultOperator.partial(
        task_id="fetch", directory=f"{CASES}/results/{{{{ ti.map_index }}}}", patterns=["answer.txt"]
    ).expand(simulation_id=run.output)
