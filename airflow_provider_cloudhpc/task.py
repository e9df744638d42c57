# SPDX-License-Identifier: Apache-2.0
"""What every task of this provider shares: its client, what it tells of its simulation, how an ending ends it."""

from __future__ import annotations

import logging
import sys
from ast import literal_eval
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)

from airflow_provider_cloudhpc.api.diagnosis.catalogue import Severity
from airflow_provider_cloudhpc.api.diagnosis.examination import MAX_OUTPUT_BYTES, CheckOutput, examine, read_check
from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCValueError
from airflow_provider_cloudhpc.api.lifecycle import Ending, EndingKind
from airflow_provider_cloudhpc.api.models import StopPolicy, to_int
from airflow_provider_cloudhpc.api.waiting.in_process import DEFAULT_QUOTA_WAIT
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import LINK_KEY, SIMULATION_ID_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from enum import StrEnum

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.diagnosis.examination import Examined
    from airflow_provider_cloudhpc.api.diagnosis.solver_logs import LogFinding

    Choice = TypeVar("Choice", bound=StrEnum)

log = logging.getLogger(__name__)

#: Seconds that ``defer(timeout=)`` lies behind the trigger's own deadline, which can still say what is known.
DEFER_MARGIN = 600.0
#: Where the state store of a task (Airflow 3.3) keeps when its wait began.
WAIT_KEY = "cloudhpc_wait"


class CloudHPCLostSightError(CloudHPCError):
    """
    Sight of a simulation was lost; it may still run and bill.

    Deliberately no ``AirflowException``: ``soft_fail`` must not turn it into a skip.
    """

    transient = True


class CloudHPCTaskMixin:
    """
    Gives an operator or sensor its hook and its client, made when the task runs and never at parsing time.

    :param cloudhpc_conn_id: attribute: id of the Airflow connection
    """

    cloudhpc_conn_id: str

    @cached_property
    def hook(self) -> CloudHPCHook:
        """The hook of the task's connection."""
        return CloudHPCHook(self.cloudhpc_conn_id)

    @property
    def client(self) -> CloudHPCClient:
        """The client of the task's account."""
        return self.hook.get_conn()

    def connect(self, anew: bool) -> CloudHPCClient:
        """
        Give the client.

        :param anew: whether to read the connection again, as its key may have been changed
        """
        if anew:
            self.__dict__.pop("hook", None)
        return self.client

    def tell_simulation(self, context: Mapping[str, Any], simulation_id: int, folder: str | None = None) -> None:
        """Push what is known of the task's simulation at once: a task that dies later has told it."""
        task_instance = context["ti"]
        task_instance.xcom_push(key=LINK_KEY, value=self.client.simulation_page(simulation_id))
        task_instance.xcom_push(key=SIMULATION_ID_KEY, value=simulation_id)
        if folder:
            task_instance.xcom_push(key="folder", value=folder)


@contextmanager
def bad_input_fails() -> Iterator[None]:
    """Fail the task for good on bad input: trying again brings the same."""
    try:
        yield
    except CloudHPCValueError as error:
        message = str(error)
    else:
        return
    raise AirflowFailException(message)


def read_simulation_id(value: Any, what: str = SIMULATION_ID_KEY) -> int | None:
    """
    Read a simulation's id as a user may hand it over: int, string, or the XCom of another task of this provider.

    :return: None for None or an empty text: there is no simulation
    :raises CloudHPCValueError: for anything else that is no id
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):  # a template makes a text of a record
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            value = literal_eval(value.strip())
    if isinstance(value, dict) and ("id" in value or SIMULATION_ID_KEY in value):
        value = value.get("id", value.get(SIMULATION_ID_KEY))
    if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
        return None
    number = None if isinstance(value, bool) else to_int(value)
    if number is None or number <= 0:
        raise CloudHPCValueError(f"{what} is {value!r}: the id of a simulation is needed, a whole number above 0.")
    return number


def read_number(value: Any, what: str, *, unit: str = "seconds", zero: bool = False) -> float:
    """
    Read a number as a user may hand it over: a number, its text, for seconds a ``timedelta`` too.

    :param unit: for the message
    :param zero: whether 0 is allowed
    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    number = value.total_seconds() if isinstance(value, timedelta) else None if isinstance(value, bool) else value
    try:
        number = float(number)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not (number >= 0 if zero else number > 0) or number == float("inf"):
        least = "0 or more" if zero else "more than 0"
        raise CloudHPCValueError(f"{what} is {value!r}: a number of {unit} is needed, {least}.")
    return number


def read_size(value: Any, what: str) -> int:
    """
    Read a number of bytes as a user may hand it over, its text too.

    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    return int(read_number(value, what, unit="bytes"))


def read_texts(value: Any, what: str) -> list[str]:
    """
    Read one text or several; the result of an upload stands for its path.

    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    if isinstance(value, dict):
        value = value.get("path", value)
    values = [value] if isinstance(value, str) else value or ()
    if not isinstance(values, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in values):
        raise CloudHPCValueError(f"{what} is {value!r}: a text or a list of texts is needed.")
    return list(values)


def read_limits(task: Any) -> dict[str, float | None]:
    """
    Read the limits of a wait, ``max_vcpu_hours`` and ``max_cost``, of a task that has both.

    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    units = {"max_vcpu_hours": "vCPU-hours", "max_cost": "euro"}
    given = {name: getattr(task, name) for name in units}
    return {
        name: None if value is None else read_number(value, name, unit=units[name]) for name, value in given.items()
    }


def read_choice(kind: type[Choice], value: Any, what: str) -> Choice:
    """
    Read one of an enum's values.

    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    try:
        return kind(value)
    except ValueError:
        pass
    raise CloudHPCValueError(f"{what} is {value!r}: one of {', '.join(repr(one.value) for one in kind)} is needed.")


def read_policy(value: Any, what: str) -> StopPolicy:
    """
    Read a stop policy: ``"soft"``, ``"hard"`` or ``"leave"``.

    :raises CloudHPCValueError: for anything else
    """
    return read_choice(StopPolicy, value, what)


def begin_wait(context: Mapping[str, Any], simulation_id: int, now: float, *, goes_on: bool = False) -> float:
    """
    Give when this task's wait began: now, or in an earlier try or look where Airflow keeps that.

    It does where the task has a state store (Airflow 3.3), and in reschedule mode.

    :param goes_on: whether this try may have waited before, as in the sensor's reschedule mode
    :return: seconds since the epoch
    """
    store = context.get("task_state_store")
    if store is None:
        return (_first_rescheduled(context) or now) if goes_on else now
    task_instance = context["ti"]
    # A Clear moves max_tries, a retry does not: only a retry goes on with the wait of the try before it.
    wait = {"simulation_id": simulation_id, "max_tries": task_instance.max_tries}
    try:
        before = store.get(WAIT_KEY)
        same = isinstance(before, dict) and wait.items() <= before.items()
        if same and (goes_on or before["try_number"] < task_instance.try_number):
            return float(before["started"])
        store.set(WAIT_KEY, {**wait, "started": now, "try_number": task_instance.try_number})
    except Exception as error:
        log.warning("The task's state store cannot be used (%s): the deadline counts from this try", error)
    return now


def _first_rescheduled(context: Mapping[str, Any]) -> float | None:
    """Tell when a task in reschedule mode began first, as Airflow keeps it for the timeout; None where it has not."""
    task, task_instance = context["task"], context["ti"]
    if hasattr(task_instance, "get_first_reschedule_date"):
        begun = task_instance.get_first_reschedule_date(context)
    else:  # before Airflow 3
        begun = sys.modules[BaseSensorOperator.__module__]._orig_start_date(
            dag_id=task_instance.dag_id,
            task_id=task_instance.task_id,
            run_id=task_instance.run_id,
            map_index=task_instance.map_index,
            try_number=(task_instance.max_tries or 0) - (task.retries or 0) + 1,
        )
    return begun.timestamp() if begun else None


def defer_timeout(deadline: float | None, now: float) -> timedelta | None:
    """Give the ``timeout`` of a deferral that the trigger, which keeps the deadline itself, never meets."""
    return None if deadline is None else timedelta(seconds=max(0.0, deadline - now) + DEFER_MARGIN)


def act_on_deadline(ending: Ending, policy: StopPolicy, client: Callable[[], CloudHPCClient]) -> Ending:
    """
    Do what the policy says about a simulation that still runs at its deadline or limit, and tell it in the message.

    :param client: makes the client; not called where nothing is to be done
    """
    if ending.kind not in (EndingKind.DEADLINE, EndingKind.LIMIT) or policy.signal is None:
        return ending
    try:
        client().stop_simulation(ending.simulation_id, policy.signal)
    except Exception as error:
        note = f"The {policy.value} stop that was to follow FAILED, it is STILL BILLING: {error}"
    else:
        note = f"A {policy.value} stop was sent now (on_timeout={policy.value!r}): " + (
            "its results are saved, which can take minutes, and then it bills no longer."
            if policy is StopPolicy.SOFT
            else "its results are deleted, and it bills no longer."
        )
    return replace(ending, message=f"{ending.message} {note}")


def finish(
    client: CloudHPCClient,
    ending: Ending,
    *,
    on_timeout: StopPolicy = StopPolicy.LEAVE,
    check_output: Any = True,
    max_output_bytes: Any = MAX_OUTPUT_BYTES,
    quota_wait: float = DEFAULT_QUOTA_WAIT,
) -> Examined:
    """
    Do what is left to do at the end of a wait, the same for every mode, and tell it in the task's log.

    The stop policy acts at a deadline; the output is read and judged (``GET /simulation/view/{id}``); a report closes
    the log.

    :param check_output: True: an error in the output of a COMPLETED run makes it ``failed``; ``"warn"``: it is told;
        False: the output is not read
    :param max_output_bytes: bytes of it that are looked at: of a longer one the first and the last half of so many
    :param quota_wait: seconds that are waited for the account's calls to be free
    """
    ending = act_on_deadline(ending, on_timeout, lambda: client)
    examined = examine(
        client,
        ending,
        check=read_check(check_output),
        max_output_bytes=read_size(max_output_bytes, "max_output_bytes"),
        quota_wait=quota_wait,
    )
    good = examined.ending.kind is EndingKind.COMPLETED
    if examined.diagnosis is not None and not (good and examined.diagnosis.is_clean):
        for line in examined.diagnosis.report_lines(last_lines=not good):
            log.warning("%s", line)
    for line in examined.report_lines():
        log.info("%s", line)
    return examined


def conclude(
    examined: Examined, *, accept_stopped: bool = False, soft_fail: bool = False, never_fail: bool = False
) -> dict[str, Any]:
    """
    End a task as its wait ended; the same for every mode.

    :param accept_stopped: whether a simulation that was stopped is a success
    :param soft_fail: skip where the simulation failed or the deadline passed; never where sight was lost
    :param never_fail: skip instead of any failure
    :return: the final record
    :raises AirflowFailException: the simulation failed: waiting again changes nothing
    :raises AirflowSensorTimeout: the deadline passed; it still runs
    :raises CloudHPCLostSightError: sight was lost; running the task again looks again
    """
    ending = examined.ending
    good = {EndingKind.COMPLETED, EndingKind.STOPPED} if accept_stopped else {EndingKind.COMPLETED}
    if ending.kind in good and ending.simulation is not None:
        return examined.record
    if never_fail or (soft_fail and ending.kind is not EndingKind.LOST):
        raise AirflowSkipException(ending.message)
    if ending.kind is EndingKind.LOST:
        raise CloudHPCLostSightError(ending.message)
    if ending.kind is EndingKind.DEADLINE:
        raise AirflowSensorTimeout(ending.message)
    raise AirflowFailException(ending.message)


def conclude_logs(found: Sequence[LogFinding], check: CheckOutput) -> None:
    """
    Tell what solver logs among results say, and end the task by it.

    :raises AirflowFailException: one of them holds an error, and that is to fail: fetching again changes nothing
    """
    for finding in found:
        for line in finding.report_lines():
            log.warning("%s", line)
    errors = [one for one in found if one.finding.severity is Severity.ERROR]
    if errors and check is CheckOutput.FAIL:
        first = errors[0]
        more = f" ({len(errors) - 1} more: see the log.)" if len(errors) > 1 else ""
        raise AirflowFailException(
            f"The results are downloaded and stay, but the solver FAILED, says {first.where}. "
            f"{first.finding.in_a_sentence}{more} check_output='warn' takes them as they are."
        )
