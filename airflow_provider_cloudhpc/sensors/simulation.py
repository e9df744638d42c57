# SPDX-License-Identifier: Apache-2.0
"""Wait until a simulation has ended."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_cloudhpc.api.diagnosis.examination import MAX_OUTPUT_BYTES, CheckOutput, read_check
from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCQuotaError, CloudHPCValueError
from airflow_provider_cloudhpc.api.lifecycle import DEFAULT_PATIENCE, Ending, Watch
from airflow_provider_cloudhpc.api.models import StopPolicy
from airflow_provider_cloudhpc.api.waiting.clock import SteadyClock
from airflow_provider_cloudhpc.api.waiting.in_process import look_once
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import CloudHPCSimulationLink
from airflow_provider_cloudhpc.task import (
    CloudHPCTaskMixin,
    bad_input_fails,
    begin_wait,
    conclude,
    defer_timeout,
    finish,
    read_limits,
    read_number,
    read_policy,
    read_simulation_id,
    read_size,
)
from airflow_provider_cloudhpc.triggers.simulation import CloudHPCSimulationTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: Longest time that a look of the reschedule mode insists on an answer, seconds: it remembers nothing until the next.
RESCHEDULE_PATIENCE = 300.0
#: Seconds between two of its attempts.
RESCHEDULE_PAUSE = 30.0


class CloudHPCSimulationSensor(CloudHPCTaskMixin, BaseSensorOperator):
    """
    Wait until a simulation has ended; COMPLETED succeeds, ERROR and STOPPED fail without retry.

    The service says COMPLETED also where the solver crashed: the output is read once at the end
    (``GET /simulation/view/{id}``), and an error in it fails the task with what it means and what to do.

    The result is the same in every mode: the final record as a plain dict (``id``, ``status``, ``folder``,
    ``script``, ``cpu``, ``ram``, ``cost`` in euro, ``cpu_hours``, ``idate``, ``edate``, ``diagnosis``, ...). Looks by
    ``GET /simulation/view-short/{id}``, in deferrable mode by listings that serve all waits of the account. A look that
    meets the account's quota is a "not yet".

    The deadline is fixed when the wait begins and holds over restarts of the triggerer; over retries of the task in
    reschedule mode, and in every mode where the task has a state store (Airflow 3.3).

    :param simulation_id: the simulation: int, string, or the XCom of a task of this provider (templated)
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :param accept_stopped: whether a simulation that was stopped is a success
    :param on_timeout: what is done about a simulation that still runs at the deadline or at a limit: ``"leave"``,
        ``"soft"`` or ``"hard"`` (which deletes its results) (templated)
    :param max_vcpu_hours: fail, and act as ``on_timeout`` says, when it has run for so many vCPU-hours
    :param max_cost: the same for euro, as far as the service tells the cost of a run before its end
    :param patience: seconds without one answer after which sight is lost (retryable)
    :param deferrable: wait in the triggerer; default: as ``operators.default_deferrable`` says
    :param check_output: True: an error in the output of a COMPLETED run fails the task; ``"warn"``: it is told and put
        into the record; False: the output is not read
    :param max_output_bytes: bytes of the output that are looked at: of a longer one the first and the last half of so
        many, and "not fully checked" is told
    :param follow_output: write the new lines of the simulation's output to the task's log; in deferrable mode only
    :param poke_interval: seconds between two looks: by default 300, and 60 in deferrable mode, where the account's
        calls may make it more
    :param timeout: seconds until the deadline; default: as ``sensors.default_timeout`` says (7 days)
    :raises AirflowFailException: the simulation failed or was stopped, or an argument is wrong
    :raises AirflowSensorTimeout: the deadline passed; unless ``on_timeout`` said otherwise it runs and bills on
    :raises CloudHPCLostSightError: sight was lost; it may still run and bill
    """

    template_fields: Sequence[str] = ("simulation_id", "cloudhpc_conn_id", "on_timeout")
    operator_extra_links = (CloudHPCSimulationLink(),)
    ui_color = "#dceef7"

    def __init__(
        self,
        *,
        simulation_id: Any,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        accept_stopped: bool = False,
        on_timeout: str = StopPolicy.LEAVE.value,
        max_vcpu_hours: float | None = None,
        max_cost: float | None = None,
        patience: float = DEFAULT_PATIENCE,
        deferrable: bool | None = None,
        check_output: bool | str = True,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        follow_output: bool = False,
        poke_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        if poke_interval is None:
            poke_interval = 60.0 if deferrable else 300.0
        self._deadline_given = timeout is not None
        if timeout is not None:
            kwargs["timeout"] = timeout
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.simulation_id = simulation_id
        self.cloudhpc_conn_id = cloudhpc_conn_id
        self.accept_stopped = accept_stopped
        self.on_timeout = on_timeout
        self.max_vcpu_hours = max_vcpu_hours
        self.max_cost = max_cost
        self.patience = patience
        self.deferrable = deferrable
        self.check_output = check_output
        self.max_output_bytes = max_output_bytes
        self.follow_output = follow_output

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Wait in the chosen mode; give the final record."""
        with bad_input_fails():
            simulation_id = read_simulation_id(self.simulation_id)
            if simulation_id is None:
                raise CloudHPCValueError("simulation_id is None: there is no simulation to wait for.")
            policy = read_policy(self.on_timeout, "on_timeout")
            check = read_check(self.check_output)
            read_size(self.max_output_bytes, "max_output_bytes")
            limits: dict[str, Any] = read_limits(self)
            patience = read_number(self.patience, "patience")
            self.tell_simulation(context, simulation_id)
        endless_allowed = self._deadline_given and policy is not StopPolicy.LEAVE
        self._clock = SteadyClock()
        now = self._clock.time()
        started = begin_wait(context, simulation_id, now, goes_on=self.reschedule)
        if self.deferrable:
            self.defer(
                trigger=CloudHPCSimulationTrigger(
                    simulation_id,
                    self.cloudhpc_conn_id,
                    poll_interval=self.poke_interval,
                    started=started,
                    deadline=started + self.timeout,
                    patience=patience,
                    endless_allowed=endless_allowed,
                    follow_output=self.follow_output,
                    reads_output=check is not CheckOutput.OFF,
                    **limits,
                ),
                method_name="execute_complete",
                timeout=defer_timeout(started + self.timeout, now),
            )
        self._watch = Watch(
            simulation_id,
            page=self.client.simulation_page(simulation_id),
            started=started,
            now=now,
            # Airflow 3 counts the time of a rescheduled task from this try; where there is a state store it is older.
            deadline=started + self.timeout if self.reschedule else None,
            patience=min(patience, RESCHEDULE_PATIENCE) if self.reschedule else patience,
            endless_allowed=endless_allowed,
            **limits,
            tell=lambda line: self.log.info("%s", line),
            ahead=self._clock.ahead,
        )
        if not self.reschedule:
            self.timeout = max(0.0, started + self.timeout - now)
        try:
            return super().execute(context)  # type: ignore[arg-type]
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            # The base class ends a wait by its own clock; what conclude() raised has a cause or is told already.
            if not str(error).startswith("Sensor has timed out"):
                raise
        return self._conclude(self._watch.out_of_time())

    def poke(self, context: Mapping[str, Any]) -> bool | PokeReturnValue:
        """Look once; insist a while where nothing would be remembered until the next look."""
        while True:
            now = self._clock.time()
            try:
                ending = look_once(self._watch, self.connect, now)
            except CloudHPCQuotaError as error:
                self.log.warning("Not yet: %s", error)
                return False
            if ending is not None:
                return PokeReturnValue(True, self._conclude(ending))
            if not self.reschedule or self._watch.answered >= now:
                return False
            doubt = self._watch.confirm_at
            time.sleep(RESCHEDULE_PAUSE if doubt is None else max(0.0, doubt - now))

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
        """Take over from the trigger."""
        try:
            ending = Ending.from_dict(event)
        except ValueError as error:
            raise CloudHPCError(f"The trigger's event was not understood. {error}") from None
        return self._conclude(ending)

    def _conclude(self, ending: Ending) -> dict[str, Any]:
        examined = finish(
            self.client,
            ending,
            on_timeout=read_policy(self.on_timeout, "on_timeout"),
            check_output=self.check_output,
            max_output_bytes=self.max_output_bytes,
        )
        return conclude(
            examined, accept_stopped=self.accept_stopped, soft_fail=self.soft_fail, never_fail=self.never_fail
        )
