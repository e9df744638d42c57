# SPDX-License-Identifier: Apache-2.0
"""Ready callbacks: they stop what tasks have left that can act no more."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.models import SimulationStatus, StopSignal
from airflow_provider_cloudhpc.api.names import is_minted_by
from airflow_provider_cloudhpc.api.stopping import failing_as, find_active, find_settled, not_listed, stop, stop_all
from airflow_provider_cloudhpc.folders import own_folder
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import SIMULATION_ID_KEY
from airflow_provider_cloudhpc.neighbours import argument_of, launches
from airflow_provider_cloudhpc.task import read_simulation_id

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

#: Seconds to look for a simulation that was launched a moment ago: Airflow gives callbacks less than a minute.
SETTLE = 20.0


def stop_simulation(context: Mapping[str, Any]) -> None:
    """
    Stop, softly, what a task has launched that failed for good: a task's ``on_failure_callback``.

    It runs also where the worker, or its machine, is gone. A simulation that has ended is left as it is:
    ``GET /simulation/view-short/{id}``, ``PUT /simulation/stop/{id}``. Where the task died before it told of one, it is
    looked for in the folder that was minted for the task: ``GET /simulation/index-short/...``. A task that launches in
    a folder that it is given has none: there nothing is stopped then, and the log says so.

    Airflow 3 calls no task's callback where only the task's process was killed (SIGKILL, out of memory):
    :func:`stop_simulations`, or a teardown, works there too.
    """
    ti = context["ti"]
    told = ti.xcom_pull(task_ids=ti.task_id, key=SIMULATION_ID_KEY, map_indexes=ti.map_index)
    simulation_id = read_simulation_id(told)
    client = CloudHPCHook(_conn_id(context.get("task"))).get_conn()
    if simulation_id is not None:
        stop(client, simulation_id, StopSignal.SOFT)
        return
    given = argument_of(context.get("task"), "folder")
    if given is not None:
        log.error(
            "Task %s has told of no simulation. It launches in a folder that it is given (%s), where others may too: "
            "nothing was stopped there, and if its launch got through that is STILL BILLING. Look on the service's "
            "page; stop_simulations as the DAG's on_failure_callback, or a teardown by folder, stops such a one.",
            ti.task_id,
            given,
        )
        return
    folder = own_folder(context)
    active = find_settled(client, folder.__eq__, where=f"folder {folder}", settle=SETTLE)
    if not active:
        log.info("Task %s has told of no simulation, and none is active in its own folder.", ti.task_id)
    stop_all(client, [simulation.id for simulation in active], StopSignal.SOFT)


def stop_simulations(context: Mapping[str, Any]) -> None:
    """
    Stop, softly, all that a run of a DAG has left: the DAG's ``on_failure_callback``, or its ``on_success_callback``.

    Whatever is active in a folder that this very run minted is stopped, told or not, of mapped tasks too; what runs in
    folders that somebody named is not touched. After a failure it looks twice: a launch of a moment ago may come late,
    and a stop that did not get through is sent again. It needs nothing of the tasks, so it works also where their
    processes were killed, and where a task was marked before its trigger had begun:
    ``GET /simulation/index-short/...``, ``PUT /simulation/stop/{id}``, for each connection that tasks of the DAG launch
    by.

    :raises CloudHPCError: some were not stopped: STILL BILLING; Airflow writes it to the log of its DAG processor
    """
    dag = context["dag"]
    run_id = context.get("run_id") or context["dag_run"].run_id
    connections = {_conn_id(task) for task in dag.tasks if launches(task)}
    failures = _stop_of_run(connections, dag.dag_id, run_id)
    # One task's simulation tells nothing of another's, whose launch may be on its way; in a run that succeeded none is.
    if context.get("reason") != "success":
        time.sleep(SETTLE)
        failures = _stop_of_run(connections, dag.dag_id, run_id)
    if failures:
        raise failures[0]


def _stop_of_run(connections: set[str], dag_id: str, run_id: str) -> list[CloudHPCError]:
    """
    Stop what is active in the folders that a run minted.

    :param connections: ids of the connections to look with
    :return: what went wrong, one error for each account
    """
    where = f"the folders of run {run_id}"
    failures: list[CloudHPCError] = []
    for conn_id in sorted(connections):
        try:
            client = CloudHPCHook(conn_id).get_conn()
            with failing_as(not_listed(where)):
                found = find_active(client, lambda folder: is_minted_by(folder, dag_id, run_id))
            log.info("Active simulations in %s: %s", where, [simulation.id for simulation in found] or "none")
            left = [simulation.id for simulation in found if simulation.status != SimulationStatus.STOPPING]
            stop_all(client, left, StopSignal.SOFT)
        except CloudHPCError as error:  # other accounts may have some too
            log.error("%s", error)
            failures.append(error)
    return failures


def _conn_id(task: Any) -> str:
    return str(argument_of(task, "cloudhpc_conn_id") or CloudHPCHook.default_conn_name)
