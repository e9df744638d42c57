# SPDX-License-Identifier: Apache-2.0
"""Whose a storage folder is, by what Airflow knows: a task's own, its run's, or one that somebody named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.launch.types import Ownership
from airflow_provider_cloudhpc.api.names import is_minted_by, mint_folder
from airflow_provider_cloudhpc.neighbours import argument_of, launches

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How many Clears of the task that minted a folder are thought of.
_GENERATIONS = 64
_UNKNOWN = object()


def own_folder(context: Mapping[str, Any], generation: int | None = None) -> str:
    """
    Give the storage folder that belongs to the running task of the running DAG run.

    :param generation: its ``max_tries``, which stays the same over retries and rises with each Clear; None for this
        try's
    """
    ti = context["ti"]
    if generation is None:
        generation = ti.max_tries
    return mint_folder(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, generation)


def _find_minter(folder: str, context: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """Find which task of the run minted a folder: its id, map index and generation; None for none of this DAG."""
    ti = context["ti"]
    return next(
        (
            (task.task_id, map_index, generation)
            for task in context["task"].dag.tasks
            for map_index in {-1, ti.map_index}
            for generation in range(_GENERATIONS)
            if mint_folder(ti.dag_id, ti.run_id, task.task_id, map_index, generation) == folder
        ),
        None,
    )


def _may_launch_in(task: Any, minter: str, folder: str) -> bool:
    """
    Whether a task may launch in a folder that another one minted, by what its ``folder`` is made of.

    :param task: any task of the DAG, mapped ones too
    :param minter: the id of the task that minted the folder
    """
    if not launches(task):
        return False
    given = argument_of(task, "folder", _UNKNOWN)
    if given is None:
        return False  # it mints one of its own
    source = getattr(getattr(given, "operator", None), "task_id", None)
    if source is not None:
        return bool(source == minter)
    if isinstance(given, str) and "{" not in given:
        return given.strip("/") == folder
    return minter in task.get_flat_relative_ids(upstream=True)


def ownership_of(folder: str, context: Mapping[str, Any]) -> Ownership:
    """
    Tell whose a folder is. One that this run minted, but that several tasks launch in, is nobody's alone.

    :param folder: as :func:`~airflow_provider_cloudhpc.api.names.check_folder` gives it
    """
    ti = context["ti"]
    if not is_minted_by(folder, ti.dag_id, ti.run_id):
        return Ownership.NAMED
    if folder == own_folder(context):
        return Ownership.TASK
    minter = _find_minter(folder, context)
    if minter is None or minter[1] != ti.map_index:
        return Ownership.NAMED
    others = (task for task in context["task"].dag.tasks if task.task_id != ti.task_id)
    shared = any(_may_launch_in(task, minter[0], folder) for task in others)
    return Ownership.NAMED if shared else Ownership.RUN


def earlier_folders_of(folder: str, ownership: Ownership, context: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the folders that a task's launches had before Clears, its own or those of the upload before it."""
    ti = context["ti"]
    if ownership is Ownership.TASK:
        return tuple(own_folder(context, generation) for generation in range(ti.max_tries))
    minter = _find_minter(folder, context) if ownership is Ownership.RUN else None
    if minter is None:
        return ()
    task_id, map_index, now = minter
    return tuple(mint_folder(ti.dag_id, ti.run_id, task_id, map_index, generation) for generation in range(now))
