# SPDX-License-Identifier: Apache-2.0
"""
A cantilever beam by CalculiX, its tip deflection checked against beam theory.

Shows a case folder that travels as one archive, and a check that fails the run where the numbers are wrong: a service
that says COMPLETED has not said that they are right. Needs a connection ``cloudhpc_default``; with an emulator on this
machine it is skipped where CalculiX is not installed (Debian: ``calculix-ccx``).
"""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task

from airflow_provider_cloudhpc.api.wire.http import is_loopback
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.operators.simulation import (
    CloudHPCAddSimulationOperator,
    CloudHPCStopSimulationOperator,
)
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator, CloudHPCUploadFolderOperator
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor

CASE = Path(__file__).parent / "cases" / "beam_calculix"
#: Of the beam in the case: load (N), length, side of the square section (mm), Young's modulus (MPa).
LOAD, LENGTH, SIDE, MODULUS = 90.0, 100.0, 10.0, 210_000.0

with DAG(
    dag_id="cloudhpc_calculix_beam",
    description="A cantilever beam on cloudHPC, checked against beam theory",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"results": "/tmp/cloudhpc_calculix_beam"},
    tags=["cloudhpc", "example"],
) as dag:

    @task
    def need_solver() -> None:
        """Skip the run where nothing could solve the case: the emulator uses the solvers of its own machine."""
        if is_loopback(urlsplit(CloudHPCHook().client.base_url).hostname) and shutil.which("ccx") is None:
            raise AirflowSkipException("The emulator runs CalculiX of this machine, and there is none: no `ccx`.")

    # The folder's content travels as one archive, checked before for what is known to fail.
    upload = CloudHPCUploadFolderOperator(task_id="upload", source=str(CASE))

    simulate = CloudHPCAddSimulationOperator(
        task_id="simulate",
        cpu=2,
        ram="standard",
        script="calculiX-2.21-PARDISO",
        folder=upload.output["folder"],
    )

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
    def check(folders: list[str]) -> dict:
        """Compare the mean deflection of the tip's nodes with Euler-Bernoulli theory."""
        results = next(Path(folder) for folder in folders if folder.endswith("CALCULIX"))
        table = (results / "beam.dat").read_text()
        # Lines of four numbers: node, and its displacements in x, y and z.
        rows = re.findall(r"^\s*\d+\s+\S+\s+\S+\s+(\S+)\s*$", table, re.MULTILINE)
        deflection = -sum(map(float, rows)) / len(rows)
        theory = LOAD * LENGTH**3 / (3 * MODULUS * SIDE**4 / 12)
        difference = deflection / theory - 1
        print(f"Tip deflection {deflection:.4f} mm, beam theory {theory:.4f} mm: {difference:+.2%}")
        if abs(difference) > 0.02:
            raise ValueError(f"The tip bends by {deflection:.4f} mm, beam theory says {theory:.4f} mm: {results}")
        return {"deflection": deflection, "theory": theory}

    need_solver() >> upload
    wait >> download
    check(download.output)
    [wait, simulate] >> stop.as_teardown(setups=upload)
