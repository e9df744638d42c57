# SPDX-License-Identifier: Apache-2.0
"""Ready callbacks for tasks of this provider."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.models import StopSignal
from airflow_provider_cloudhpc.api.stopping import stop
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import SIMULATION_ID_KEY
from airflow_provider_cloudhpc.task import read_simulation_id

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


def stop_simulation(context: Mapping[str, Any]) -> None:
    """
    Stop, softly, what a task has launched that failed for good: an ``on_failure_callback``.

    It runs also where the worker was killed with SIGKILL and nothing of the task itself can act any more. A simulation
    that has ended is left as it is: ``GET /simulation/view-short/{id}``, ``PUT /simulation/stop/{id}``.
    """
    task_instance = context["ti"]
    told = task_instance.xcom_pull(
        task_ids=task_instance.task_id, key=SIMULATION_ID_KEY, map_indexes=task_instance.map_index
    )
    simulation_id = read_simulation_id(told)
    if simulation_id is None:
        log.info("Task %s has told of no simulation: nothing to stop.", task_instance.task_id)
        return
    conn_id = getattr(context.get("task"), "cloudhpc_conn_id", CloudHPCHook.default_conn_name)
    stop(CloudHPCHook(conn_id).get_conn(), simulation_id, StopSignal.SOFT)
