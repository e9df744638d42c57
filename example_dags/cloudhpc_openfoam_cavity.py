# SPDX-License-Identifier: Apache-2.0
"""
A lid-driven cavity by OpenFOAM on two processes, its centreline checked against the literature.

The case brings its own ``Allrun``: blockMesh, decomposePar, icoFoam in parallel, reconstructPar. Needs a connection
``cloudhpc_default``; with an emulator on this machine it is skipped where OpenFOAM is not installed (Debian:
``openfoam``).
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

CASE = Path(__file__).parent / "cases" / "cavity_openfoam"
#: Ghia, Ghia & Shin (1982), Re = 100: height on the vertical centreline -> velocity in the lid's direction.
GHIA = {0.8516: 0.23151, 0.6172: -0.13641, 0.5: -0.20581, 0.2813: -0.15662, 0.1016: -0.06434}

with DAG(
    dag_id="cloudhpc_openfoam_cavity",
    description="A lid-driven cavity by OpenFOAM on cloudHPC, checked against the literature",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"results": "/tmp/cloudhpc_openfoam_cavity"},
    tags=["cloudhpc", "example"],
) as dag:

    @task
    def need_solver() -> None:
        """Skip the run where nothing could solve the case: the emulator uses the solvers of its own machine."""
        if is_loopback(urlsplit(CloudHPCHook().client.base_url).hostname) and shutil.which("icoFoam") is None:
            raise AirflowSkipException("The emulator runs OpenFOAM of this machine, and there is none: no `icoFoam`.")

    # The folder's content travels as one archive, checked before for what is known to fail.
    upload = CloudHPCUploadFolderOperator(task_id="upload", source=str(CASE))

    # OpenFOAM needs more than one process: four hyperthreads are two cores.
    simulate = CloudHPCAddSimulationOperator(
        task_id="simulate",
        cpu=4,
        ram="highcpu",
        script="openFoam-v2406",
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
        """Compare the velocities on the vertical centreline with Ghia et al."""
        results = next(Path(folder) for folder in folders if folder.endswith("OPENFOAM-solution"))
        times = [path.parent for path in results.glob("*/U") if re.fullmatch(r"\d+(\.\d+)?", path.parent.name)]
        field = (max(times, key=lambda time: float(time.name)) / "U").read_text()
        vectors = re.findall(r"^\((\S+) \S+ \S+\)$", field.partition("boundaryField")[0], re.MULTILINE)
        n = round(len(vectors) ** 0.5)
        # Cells are numbered along x first; the centreline lies between two columns of them.
        centre = [(float(vectors[j * n + n // 2 - 1]) + float(vectors[j * n + n // 2])) / 2 for j in range(n)]

        def velocity(y: float) -> float:
            place = y * n - 0.5
            j = min(int(place), n - 2)
            return centre[j] + (place - j) * (centre[j + 1] - centre[j])

        worst = max(abs(velocity(y) - u) for y, u in GHIA.items())
        print(f"Velocity in the centre {velocity(0.5):.4f}, Ghia {GHIA[0.5]:.4f}; largest difference {worst:.4f}")
        if worst > 0.01:
            raise ValueError(f"The centreline differs from Ghia et al. by {worst:.4f} of the lid's speed: {results}")
        return {"centre": velocity(0.5), "largest_difference": worst}

    need_solver() >> upload
    wait >> download
    check(download.output)
    [wait, simulate] >> stop.as_teardown(setups=upload)
