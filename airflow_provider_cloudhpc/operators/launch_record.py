# SPDX-License-Identifier: Apache-2.0
"""
What a launch tells the tasks behind it: its simulation, its folder, and what that held before.

A download by simulation id reads it (XCom) to tell this launch's results from yesterday's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.models import SimulationStatus
from airflow_provider_cloudhpc.api.names import is_minted_by
from airflow_provider_cloudhpc.api.transfer.results import Ownership, as_seen, list_before_launch, seen
from airflow_provider_cloudhpc.links import SIMULATION_ID_KEY
from airflow_provider_cloudhpc.neighbours import launches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.models import StorageItem

log = logging.getLogger(__name__)

#: Key of the record, as an XCom and in the task's state store.
RECORD_KEY = "cloudhpc_launch_record"
#: Pages of the account's simulations, newest first, that are searched for later ones in the same folder.
_PAGES = 3


class LaunchRecord:
    """
    Notes what a folder holds right before a launch in it, and tells it when the simulation's id is known.

    :param context: of the launching task
    :param is_new: whether the folder is this task's own and nothing can have run in it before: no call is needed then
    """

    def __init__(self, context: Mapping[str, Any], *, is_new: bool) -> None:
        self._task_instance = context["ti"]
        self._store = context.get("task_state_store")
        self._is_new = is_new
        self._before: Any = [] if is_new else None

    def note(self, client: CloudHPCClient, folder: str) -> list[StorageItem] | None:
        """
        Note what is there; to be called right before each post of a launch, kept for a retry that reattaches.

        :param folder: storage folder of the launch
        :return: what is there, folders too; None where nobody was asked
        :raises CloudHPCError: it could not be learned
        """
        if self._is_new:
            return None
        items = list_before_launch(client, folder)
        self._before = [list(seen(item)) for item in items if not item.is_folder]
        if self._store is not None:
            self._store.set(RECORD_KEY, self._before)
        return items

    def tell(self, simulation_id: int, folder: str) -> None:
        """Push the record; what was there is None where a try that is not remembered launched."""
        before = self._before
        if before is None and self._store is not None:
            before = self._store.get(RECORD_KEY)
        record = {SIMULATION_ID_KEY: simulation_id, "folder": folder, "before": before}
        self._task_instance.xcom_push(key=RECORD_KEY, value=record)


def find_owner(context: Mapping[str, Any], client: CloudHPCClient, simulation_id: int) -> tuple[str, Ownership]:
    """
    Find the folder of a simulation, and what is known of whose the files in it are.

    The records of this DAG run's launches are read first. ``GET /simulation/view-short/{id}`` where none is of this
    simulation; ``GET /simulation/index-short/...`` where the folder is not one that this run minted.

    :return: the storage folder, and what tells this simulation's files in it
    """
    records = _records(context)
    record = records.get(simulation_id)
    folder = record["folder"] if record else client.view_simulation_short(simulation_id).folder.strip("/")
    later = {
        number: as_seen(other["before"])
        for number, other in records.items()
        if number > simulation_id and other["folder"] == folder
    }
    before = as_seen(record["before"]) if record else None
    if not is_minted_by(folder, context["ti"].dag_id, context["ti"].run_id):
        later = dict.fromkeys(_launched_later(client, simulation_id, folder)) | later
        if before is None:
            log.warning(
                "What the folder %s held before simulation %d was launched is not known: results of an earlier run "
                "would look the same.",
                folder,
                simulation_id,
            )
    return folder, Ownership(simulation_id, before, later)


def told_simulations(context: Mapping[str, Any]) -> set[int] | None:
    """Give the simulations that tasks of this DAG run have told of; None where no task of the DAG launches any."""
    return set(_records(context)) if any(map(launches, context["task"].dag.tasks)) else None


def _launched_later(client: CloudHPCClient, simulation_id: int, folder: str) -> list[int]:
    """List the simulations that began in a folder after one; those that wait for their machine have written nothing."""
    found = []
    for number in range(1, _PAGES + 1):
        page = client.list_simulations(number)
        found += [
            other.id
            for other in page
            if other.id > simulation_id
            and other.folder.strip("/") == folder
            and other.status != SimulationStatus.PENDING
        ]
        if min((other.id for other in page), default=0) <= simulation_id:
            break
    return found


def _records(context: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Read the records of this run's launches, by simulation."""
    launching = [task.task_id for task in context["task"].dag.tasks if launches(task)]
    if not launching:
        return {}
    pulled = context["ti"].xcom_pull(task_ids=launching, key=RECORD_KEY) or ()
    return {record[SIMULATION_ID_KEY]: record for record in pulled if record}
