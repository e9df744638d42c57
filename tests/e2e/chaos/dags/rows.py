# SPDX-License-Identifier: Apache-2.0
"""One DAG for each row of the table, as ``$CHAOS_DIR/rows.json`` describes it."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_cloudhpc.callbacks import stop_simulation, stop_simulations
from airflow_provider_cloudhpc.operators.simulation import (
    CloudHPCAddSimulationOperator,
    CloudHPCRunSimulationOperator,
    CloudHPCStopSimulationOperator,
)
from airflow_provider_cloudhpc.operators.storage import CloudHPCUploadFolderOperator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor

CASE = str(Path(__file__).parent / "case")


def make(row: dict) -> None:
    connection = {"cloudhpc_conn_id": row["conn_id"]}
    tries = {"retries": row["retries"], "retry_delay": timedelta(seconds=1)}
    launch = {"cpu": 2, "ram": "highcpu", "script": row["script"], "settle": row["settle"], "preflight": "off"}
    launch |= {**connection, **tries}
    if row["callback"] == "task":
        launch["on_failure_callback"] = stop_simulation
    if row["kind"] == "run":
        if row["execution_timeout"]:
            launch["execution_timeout"] = timedelta(seconds=row["execution_timeout"])
        launch |= {"poll_interval": 2, "deferrable": row["deferrable"], "task_id": "run"}
        if row["mapped"]:
            CloudHPCRunSimulationOperator.partial(**launch).expand(source=[CASE] * row["mapped"])
        else:
            CloudHPCRunSimulationOperator(source=CASE, **launch)
        return
    upload = CloudHPCUploadFolderOperator(task_id="upload", source=CASE, preflight="off", **connection)
    run = CloudHPCAddSimulationOperator(task_id="run", folder=upload.output["folder"], **launch)
    wait = CloudHPCSimulationSensor(
        task_id="wait",
        simulation_id=run.output,
        poke_interval=2,
        deferrable=row["deferrable"],
        **connection,
        **tries,
    )
    if row["kind"] == "add with teardown":
        stop = CloudHPCStopSimulationOperator(task_id="stop", folder=upload.output["folder"], **connection)
        [run, wait] >> stop.as_teardown(setups=upload)


for described in json.loads(Path(os.environ["CHAOS_DIR"], "rows.json").read_text()):
    callback = {"on_failure_callback": stop_simulations} if described["callback"] == "dag" else {}
    with DAG(described["dag_id"], schedule=None, **callback) as dag:
        make(described)
    globals()[described["dag_id"]] = dag
