# SPDX-License-Identifier: Apache-2.0
"""The launch of an operator: what Airflow says about the try, and where the state is kept."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_cloudhpc.api.diagnosis.preflight import Preflight
from airflow_provider_cloudhpc.api.launch.attempts import Attempt
from airflow_provider_cloudhpc.api.launch.machine import LaunchMachine
from airflow_provider_cloudhpc.api.launch.runner import Launcher
from airflow_provider_cloudhpc.api.launch.types import (
    CloudHPCLaunchError,
    How,
    Launched,
    LaunchState,
    OnAmbiguous,
    OnConflict,
    Ownership,
)
from airflow_provider_cloudhpc.folders import earlier_folders_of, ownership_of
from airflow_provider_cloudhpc.killing import clear_of
from airflow_provider_cloudhpc.operators.checking import check_folder_before
from airflow_provider_cloudhpc.operators.launch_record import LaunchRecord
from airflow_provider_cloudhpc.task import bad_input_fails, read_choice, read_simulation_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.models import LaunchRequest, Simulation, StopSignal

log = logging.getLogger(__name__)

#: Key of the launch in the task's state store.
STATE_KEY = "cloudhpc_launch"
#: Pauses before the state is written again while Airflow's API is down, seconds.
SAVE_PAUSES = (1.0, 4.0, 10.0, 20.0)


class TaskStateStore:
    """The task's state store (Airflow 3.3), which outlives retries and Clears."""

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def load(self) -> LaunchState | None:
        """Give what was saved last, None where nothing was."""
        data = self._accessor.get(STATE_KEY)
        if data is None:
            return None
        try:
            return LaunchState.from_dict(data)
        except (TypeError, ValueError) as error:
            message = str(error)
        raise CloudHPCLaunchError(
            "What an earlier try kept of its launch is not understood; nothing was launched. Look whether a simulation "
            f"of it runs, then set adopt=<its id>, or delete {STATE_KEY!r} from the task's state store. {message}"
        )

    def save(self, state: LaunchState) -> None:
        """Keep a state; insists while Airflow's API is down for a moment."""
        for pause in (*SAVE_PAUSES, None):
            try:
                self._accessor.set(STATE_KEY, state.to_dict())
            except Exception as error:
                if pause is None:
                    raise
                log.warning("The state of the launch could not be kept (%s); again in %.0f s.", error, pause)
                time.sleep(pause)
            else:
                return


def state_store(context: Mapping[str, Any]) -> TaskStateStore | None:
    """Give the task's state store; None before Airflow 3.3."""
    accessor = context.get("task_state_store")
    return None if accessor is None else TaskStateStore(accessor)


def current_attempt(context: Mapping[str, Any]) -> Attempt:
    """Give Airflow's counters of this try."""
    task_instance = context["ti"]
    return Attempt(task_instance.try_number, task_instance.max_tries, context["task"].retries or 0)


def launch(
    context: Mapping[str, Any],
    client: CloudHPCClient,
    request: LaunchRequest,
    *,
    adopt: Any = None,
    on_conflict: Any = OnConflict.FAIL,
    on_ambiguous: Any = OnAmbiguous.FAIL,
    settle: float,
    preflight: str = Preflight.OFF.value,
    prepare: Callable[[], None],
    judge: Callable[[Simulation], LaunchRequest | None] | None = None,
    stop_signal: StopSignal,
) -> Launched:
    """
    Launch in this try of a task, or go on with what an earlier one launched.

    :param preflight: what a storage folder with which the run is known to fail does
    :param judge: decides about a simulation that ended before a retry; None: a retry takes it as it is
    :return: the simulation, with its folder
    :raises AirflowFailException: a person has to look, or an argument is wrong
    :raises CloudHPCError: nothing was started, or nothing could be learned; a retry goes on from here
    """
    store = state_store(context)
    attempt = current_attempt(context)
    with bad_input_fails():
        ownership = ownership_of(request.folder, context)
        machine = LaunchMachine(
            request=request,
            attempt=attempt,
            ownership=ownership,
            remembers=store is not None,
            earlier_folders=earlier_folders_of(request.folder, ownership, context),
            cleared=clear_of(context),
            adopt=read_simulation_id(adopt, "adopt"),
            on_conflict=read_choice(OnConflict, on_conflict, "on_conflict"),
            on_ambiguous=read_choice(OnAmbiguous, on_ambiguous, "on_ambiguous"),
            judges=judge is not None,
            settle=settle,
        )
        if store is None and ownership is Ownership.NAMED:
            log.warning(
                "This version of Airflow keeps nothing between tries: in a folder that was named (%s) a retry sees "
                "an active simulation, but not one that has ended. A folder that an upload mints has no such gap.",
                request.folder,
            )
        # In a folder that this run minted nothing has run before the task's first try.
        record = LaunchRecord(context, is_new=ownership is not Ownership.NAMED and context["ti"].try_number == 1)

        def before_post() -> None:
            prepare()
            check_folder_before(preflight, request, lambda: record.note(client, request.folder))

        def judge_and_note(simulation: Simulation) -> LaunchRequest | None:
            following = None if judge is None else judge(simulation)
            if following is not None:  # a launch without preparation, in a folder that holds the failed run's files
                record.note(client, following.folder)
            return following

        launcher = Launcher(client, store, prepare=before_post, judge=judge_and_note, stop_signal=stop_signal)
        try:
            launched = launcher.run(machine)
            launched = replace(launched, folder=launched.folder or request.folder)
        except CloudHPCLaunchError as error:
            message = str(error)
        else:
            page = client.simulation_page(launched.simulation_id)
            said = {
                How.LAUNCHED: "is started",
                How.REATTACHED: "was started by an earlier try: this one goes on with it",
                How.ADOPTED: "is taken as this task's",
            }[launched.how]
            log.info("Simulation %d %s in folder %s: %s", launched.simulation_id, said, launched.folder, page)
            # After that line: where Airflow takes no XCom the log says what runs.
            record.tell(launched.simulation_id, launched.folder)
            return launched
    raise AirflowFailException(message)
