# SPDX-License-Identifier: Apache-2.0
"""A DAG of Airflow's own parts: a task, a deferral, mapped tasks; what the harness is tried on."""

from __future__ import annotations

from datetime import timedelta

try:
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
    from airflow.sdk import DAG, BaseOperator, task
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models import BaseOperator
    from airflow.triggers.temporal import TimeDeltaTrigger


class Wait(BaseOperator):
    """Defers for some seconds from when it is run; the sensors count from the run's data interval."""

    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=10)), method_name="resume")

    def resume(self, context, event):
        return "resumed"


with DAG("plain_deferral", schedule=None) as dag:

    @task
    def give(text):
        return {"text": text}

    @task
    def double(number):
        return 2 * number

    give("{{ run_id }}") >> Wait(task_id="wait") >> double.expand(number=[1, 2])
