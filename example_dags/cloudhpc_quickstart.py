# SPDX-License-Identifier: Apache-2.0
"""
Upload a real case, run it, wait for it, fetch the results, look at them.

The case is a lid-driven cavity flow in pure Python, for ``custom-script``. Needs a connection ``cloudhpc_default``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_cloudhpc.operators.simulation import (
    CloudHPCAddSimulationOperator,
    CloudHPCStopSimulationOperator,
)
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator, CloudHPCUploadFileOperator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor

CASE = Path(__file__).parent / "cases" / "cavity_python" / "cavity.py"

with DAG(
    dag_id="cloudhpc_quickstart",
    description="A lid-driven cavity flow on cloudHPC",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"results": "/tmp/cloudhpc_quickstart"},
    tags=["cloudhpc", "example"],
) as dag:
    # A folder of its own in the storage is minted for each run: runs never touch each other's files.
    upload = CloudHPCUploadFileOperator(task_id="upload", source=str(CASE))

    simulate = CloudHPCAddSimulationOperator(
        task_id="simulate",
        cpu=2,
        ram="standard",
        script="custom-script",
        folder=upload.output["folder"],
    )

    # Deferrable: hours of waiting cost no worker slot.
    wait = CloudHPCSimulationSensor(
        task_id="wait",
        simulation_id=simulate.output,
        deferrable=True,
        poke_interval=30,
        timeout=3600,
        on_timeout="soft",
    )

    download = CloudHPCDownloadResultOperator(
        task_id="download",
        simulation_id=simulate.output,
        directory="{{ params.results }}/{{ run_id }}",
        extract=True,
    )

    # Whatever happens to the tasks above, nothing is left running and billing.
    stop = CloudHPCStopSimulationOperator(task_id="stop", folder=upload.output["folder"])

    @task
    def look(folders: list[str]) -> dict:
        """Tell what was reached."""
        results = Path(folders[0])
        summary = json.loads(next(results.rglob("summary.json")).read_text())
        print(f"Residual reached: {summary['residual']:.2e}")
        picture = next(results.rglob("velocity.png"))
        print(f"Picture: {picture}")
        return {"residual": summary["residual"], "picture": str(picture)}

    wait >> download
    look(download.output)
    [wait, simulate] >> stop.as_teardown(setups=upload)
