# SPDX-License-Identifier: Apache-2.0
"""DAGs whose tasks are killed in every way; what their simulations do is planned by the test."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_cloudhpc.callbacks import stop_simulation
from airflow_provider_cloudhpc.operators.simulation import CloudHPCRunSimulationOperator

RUN = {
    "task_id": "run",
    "cpu": 2,
    "ram": "highcpu",
    "script": "custom-script",
    "source": str(Path(__file__).parent / "case"),
    "settle": 5,
    "retries": 1,
    "retry_delay": timedelta(seconds=1),
}


class DiesAfterLaunch(CloudHPCRunSimulationOperator):
    """Its worker is killed, on the first try, as soon as the simulation's id is told."""

    def tell_simulation(self, context, simulation_id, folder=None):
        super().tell_simulation(context, simulation_id, folder)
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class DiesBeforeAnswer(CloudHPCRunSimulationOperator):
    """Its worker is killed, on the first try, when the launch was posted and nothing of the answer was kept."""

    def execute(self, context):
        if context["ti"].try_number == 1:
            add = self.client.add_simulation

            def add_and_die(request):
                add(request)
                os.kill(os.getpid(), signal.SIGKILL)

            self.client.add_simulation = add_and_die
        return super().execute(context)


with DAG("deferred", schedule=None) as deferred:
    CloudHPCRunSimulationOperator(**RUN, deferrable=True)

with DAG("sync", schedule=None) as sync:
    CloudHPCRunSimulationOperator(**RUN, deferrable=False)

with DAG("dies_after_launch", schedule=None) as dies_after_launch:
    DiesAfterLaunch(**RUN, deferrable=True)

with DAG("dies_before_answer", schedule=None) as dies_before_answer:
    DiesBeforeAnswer(**RUN, deferrable=True)

with DAG("dies_for_good", schedule=None) as dies_for_good:
    DiesAfterLaunch(**{**RUN, "retries": 0}, deferrable=True, on_failure_callback=stop_simulation)
