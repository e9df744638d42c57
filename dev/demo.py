# SPDX-License-Identifier: Apache-2.0
"""``make demo``: the quickstart DAG under a real scheduler and triggerer, against the emulator."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from dev.interrupts import heed_interrupts
from tests.e2e.airflow_home import Run
from tests.e2e.airflow_process import RealAirflow

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "example_dags"
DEMO = REPOSITORY / ".demo"
DAG_ID = "cloudhpc_quickstart"
TIMEOUT = 150.0


def watch(airflow: RealAirflow, run: Run) -> str:
    """
    Print each change of a task's state until the run is over.

    :return: the run's state
    """
    began, told = time.monotonic(), dict[str, str]()

    def look() -> str:
        for task, state in airflow.task_states(run).items():
            if state and told.get(task) != state:
                told[task] = state
                print(f"{time.monotonic() - began:6.1f} s  {task:10} {state}", flush=True)
        return airflow.run_state(run)

    return airflow.wait_until(look, {"success", "failed"}, run, TIMEOUT)


def main() -> int:
    """
    Run the demo.

    :return: exit code
    """
    heed_interrupts()
    shutil.rmtree(DEMO, ignore_errors=True)
    with (
        CloudHPCEmulator(port=0) as emulator,
        RealAirflow(DEMO / "airflow", EXAMPLES, log_level="INFO") as airflow,
    ):
        version = ".".join(str(part) for part in airflow.version)
        print(f"cloudHPC emulator at {emulator.url}, Airflow {version} in {DEMO / 'airflow'}", flush=True)
        airflow.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=emulator.api_key)
        run = airflow.trigger(DAG_ID, {"results": str(DEMO / "results")})
        state = watch(airflow, run)
        if state != "success":
            failed = [task for task, ended in airflow.task_states(run).items() if ended == "failed"]
            print("\n".join(airflow.task_log(run, task) for task in failed)[-4000:])
            print(f"The run ended as {state!r}; its logs are in {airflow.home / 'logs'}.")
            return 1
        xcoms = airflow.xcoms(run)
        record, seen = xcoms["wait"]["return_value"], xcoms["look"]["return_value"]
        print(f"Simulation {record['id']} {record['status']}, billed {record['cost']} EUR (emulated)")
        print(f"Residual reached: {seen['residual']:.2e}")
        print(f"Picture: {seen['picture']}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped.")
