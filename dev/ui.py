# SPDX-License-Identifier: Apache-2.0
"""``make ui``: Airflow's web interface with the example DAGs, and the emulator behind them, until Ctrl-C."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from dev.interrupts import heed_interrupts
from tests.e2e.airflow_process import RealAirflow

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "example_dags"
HOME = REPOSITORY / ".ui" / "airflow"


def main() -> int:
    """
    Run both until a signal.

    :return: exit code
    """
    heed_interrupts()
    shutil.rmtree(HOME, ignore_errors=True)
    try:
        with (
            CloudHPCEmulator(port=0) as emulator,
            RealAirflow(
                HOME, EXAMPLES, web=True, log_level="INFO", env={"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
            ) as airflow,
        ):
            airflow.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=emulator.api_key)
            print(f"Airflow            {airflow.url}/dags/cloudhpc_quickstart")
            print(f"cloudHPC emulator  {emulator.url}")
            print("The connection cloudhpc_default is set up. Ctrl-C stops all.", flush=True)
            while True:
                airflow.check()
                time.sleep(1)
    except KeyboardInterrupt:
        print("Stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
