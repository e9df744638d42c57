# SPDX-License-Identifier: Apache-2.0
"""
Was a task killed, or does only its process end? Airflow says both by the same call; its record of the task decides.

A pod that moves, a triggerer that restarts, a heartbeat that is lost: the task is still ``running`` or ``deferred``,
and its next try goes on with the simulation. Marked, removed, cleared, its run failed: nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_cloudhpc.api.launch.attempts import Cleared
from airflow_provider_cloudhpc.api.models import StopPolicy
from airflow_provider_cloudhpc.api.stopping import find_settled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_cloudhpc.api.client import CloudHPCClient

log = logging.getLogger(__name__)

#: States of a task that nobody waits for any more. (After a Clear the next try stops what is left from before it.)
KILLED_STATES = frozenset({"failed", "success", "skipped", "upstream_failed", "removed", "restarting", None})
#: Where the task's state store (Airflow 3.3) keeps that the task itself stopped its simulation.
STOP_KEY = "cloudhpc_stopped"
#: Event of Airflow 2's audit log: a task that was cleared while it ran has stopped its simulation.
CLEARED_EVENT = "cloudhpc_cleared"
#: Seconds to look, at an ``execution_timeout``, for a launch whose answer had not come.
LATE_LAUNCH = 30.0


@dataclass(frozen=True)
class TaskKey:
    """Which task of which run."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @classmethod
    def of(cls, task_instance: Any) -> TaskKey | None:
        """Give the key of a task instance, of whatever kind Airflow hands over; None where it hands over none."""
        try:
            return cls(
                task_instance.dag_id,
                task_instance.run_id,
                task_instance.task_id,
                getattr(task_instance, "map_index", -1),
            )
        except AttributeError:
            return None


def was_killed(key: TaskKey | None) -> bool | None:
    """
    Ask Airflow whether a task was killed.

    :return: None where that cannot be learned
    """
    if isinstance(sys.exc_info()[1], AirflowTaskTimeout):
        return True  # its ``execution_timeout`` ended it: Airflow's record says that only later
    if key is None:
        return None
    try:
        state = _state_of(key)
    except Exception as error:
        log.warning("Airflow does not say what became of the task: %s: %s", type(error).__name__, error)
        return None
    log.info("Airflow's record of the task: %s", state)
    return state in KILLED_STATES


async def was_killed_async(key: TaskKey | None) -> bool | None:
    """Ask as :func:`was_killed` does, from the triggerer's event loop."""
    if _is_airflow_2():
        return await asyncio.to_thread(was_killed, key)
    from asgiref.sync import sync_to_async

    # Airflow's own bridge: its channel belongs to this loop.
    return await sync_to_async(was_killed)(key)


def stop_killed(
    killed: bool | None, policy: StopPolicy, simulation_id: int, connect: Callable[[], CloudHPCClient]
) -> bool:
    """
    Stop the simulation of a task that was killed: ``PUT /simulation/stop/{id}``, at once, Airflow leaves seconds.

    :param killed: as :func:`was_killed` says
    :param connect: gives the client
    :return: whether a signal was sent
    """
    if policy.signal is None:
        return False
    if killed is False:
        log.warning(
            "This process ends, the task was not killed: simulation %d goes on and BILLS, the task's next try goes on "
            "with it.",
            simulation_id,
        )
        return False
    if killed is None:
        log.error(
            "Whether the task was killed cannot be learned: simulation %d was left as it is and is STILL BILLING.",
            simulation_id,
        )
        return False
    try:
        client = connect()
        client.stop_simulation(simulation_id, policy.signal)
    except Exception as error:
        log.error(
            "The task was killed, and simulation %d could NOT be stopped: STILL BILLING. %s", simulation_id, error
        )
        return False
    log.warning(
        "The task was killed: a %s stop was sent to simulation %d (%s).",
        policy.value,
        simulation_id,
        client.simulation_page(simulation_id),
    )
    return True


def stop_launching(
    killed: bool | None, policy: StopPolicy, folder: str, connect: Callable[[], CloudHPCClient], *, own: bool
) -> list[int]:
    """
    Stop what came of a launch whose answer had not come when its task ended.

    At an ``execution_timeout`` Airflow waits, so what comes late is waited for, for :data:`LATE_LAUNCH` seconds.

    :param killed: as :func:`was_killed` says
    :param folder: of the launch
    :param connect: gives the client
    :param own: whether the folder is the task's own: then whatever is active in it is
    :return: those that were sent a signal
    """
    if policy.signal is None:
        return []
    if not (killed and own):
        then = (
            "the task's next try looks for it" if killed is False else "look on the service's page, and stop it there"
        )
        log.error(
            "This process ends while its launch in folder %s is on its way: if that got through it is STILL BILLING; "
            "%s.",
            folder,
            then,
        )
        return []
    try:
        settle = LATE_LAUNCH if isinstance(sys.exc_info()[1], AirflowTaskTimeout) else 0.0
        found = find_settled(connect(), folder.__eq__, where=f"folder {folder}", settle=settle)
    except Exception as error:
        log.error(
            "The task was killed while its launch in folder %s was on its way, and it cannot be looked for: if it got "
            "through it is STILL BILLING. %s",
            folder,
            error,
        )
        return []
    if not found:
        log.error(
            "The task was killed while its launch in folder %s was on its way, and no active one is seen there: if it "
            "gets through later it is STILL BILLING. Look on the service's page.",
            folder,
        )
    return [one.id for one in found if stop_killed(killed, policy, one.id, connect)]


def remember_stop(context: Mapping[str, Any], simulation_id: int) -> None:
    """
    Keep, for the task's next try, that this one stopped the simulation.

    Airflow 2 has no place for that but its audit log, and there only a Clear is kept: it leaves no other trace.
    """
    store = context.get("task_state_store")
    try:
        if store is not None:
            store.set(STOP_KEY, {"simulation_id": simulation_id})
        else:
            _log_clear(context["ti"], simulation_id)
    except Exception as error:
        log.warning("That this task stopped its simulation could not be kept: %s", error)


def clear_of(context: Mapping[str, Any]) -> Cleared | None:
    """
    Give the last Clear of a task while it ran, where only Airflow 2's audit log tells of it.

    (Airflow 3 moves the task's ``max_tries`` then, as after any other Clear.)
    """
    if not _is_airflow_2() or context["ti"].try_number <= 1:
        return None
    key = TaskKey.of(context["ti"])
    try:
        from airflow.models.log import Log
        from airflow.utils.session import create_session

        with create_session() as session:
            extra = (
                session.query(Log.extra)
                .filter_by(event=CLEARED_EVENT, **asdict(key))  # type: ignore[arg-type]
                .order_by(Log.id.desc())
                .limit(1)
                .scalar()
            )
        return None if extra is None else Cleared(**json.loads(extra))
    except Exception as error:
        log.warning("Whether the task was cleared while it ran cannot be read: %s", error)
        return None


def told_of_own_stop(context: Mapping[str, Any], simulation_id: int) -> str:
    """Give what is to be said of a STOPPED that this task caused, or may have caused; "" where it did not."""
    store = context.get("task_state_store")
    try:
        stopped = store and store.get(STOP_KEY)
    except Exception as error:
        log.warning("Whether this task stopped its simulation cannot be read: %s", error)
        stopped = None
    if isinstance(stopped, dict) and stopped.get("simulation_id") == simulation_id:
        return "This task itself stopped it, when it was killed. Clear it to launch again."
    if context["ti"].try_number > 1:
        # Before Airflow 3.3 nothing is kept; and a task that was cleared while it ran can keep nothing any more.
        return (
            "An earlier try may have stopped it itself, if this task was killed or cleared while it ran: clear it "
            "(again) to launch again."
        )
    return ""


def _is_airflow_2() -> bool:
    """Whether tasks and triggers may ask Airflow's database themselves."""
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: F401
    except ImportError:
        return True
    return False


def _log_clear(task_instance: Any, simulation_id: int) -> None:
    """Write a Clear of a running task to Airflow 2's audit log; nothing where it was ended otherwise."""
    key = TaskKey.of(task_instance)
    if key is None or not _is_airflow_2() or _state_of(key) != "restarting":
        return
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    cleared = Cleared(simulation_id, task_instance.try_number)
    with create_session() as session:
        session.add(
            Log(
                event=CLEARED_EVENT,
                owner="airflow",
                extra=json.dumps(asdict(cleared)),
                try_number=cleared.try_number,
                **asdict(key),
            )
        )


def _state_of(key: TaskKey) -> str | None:
    """
    Give the state that Airflow has of a task, None for a cleared one.

    :raises Exception: it cannot be learned
    """
    if _is_airflow_2():
        return _state_in_database(key)
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = key.map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=key.dag_id,
        task_ids=[key.task_id],
        run_ids=[key.run_id],
        map_index=key.map_index if mapped else None,
    )
    state = states[key.run_id][f"{key.task_id}_{key.map_index}" if mapped else key.task_id]
    return None if state is None else str(getattr(state, "value", state))


def _state_in_database(key: TaskKey) -> str | None:
    """Ask Airflow 2's database: its tasks and its triggerer may."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        row = (
            session.query(TaskInstance.state)
            .filter_by(dag_id=key.dag_id, run_id=key.run_id, task_id=key.task_id, map_index=key.map_index)
            .one_or_none()
        )
    if row is None:  # its run was deleted, which Airflow 3 does not allow while it runs
        return "removed"
    return None if row[0] is None else str(getattr(row[0], "value", row[0]))
