# SPDX-License-Identifier: Apache-2.0
"""Upload, launch and wait in one task, which stops its simulation when it is killed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, conf

from airflow_provider_cloudhpc.api.diagnosis.examination import MAX_OUTPUT_BYTES, CheckOutput, examine
from airflow_provider_cloudhpc.api.diagnosis.preflight import Preflight
from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.launch.options import check_offered
from airflow_provider_cloudhpc.api.launch.types import DEFAULT_SETTLE, How, OnAmbiguous, OnConflict
from airflow_provider_cloudhpc.api.lifecycle import (
    DEFAULT_PATIENCE,
    Ending,
    EndingKind,
    Watch,
    ending_of,
)
from airflow_provider_cloudhpc.api.models import StopPolicy, StopSignal
from airflow_provider_cloudhpc.api.transfer.storage import upload_file
from airflow_provider_cloudhpc.api.waiting.clock import SteadyClock
from airflow_provider_cloudhpc.api.waiting.in_process import DEFAULT_QUOTA_WAIT, wait_for_end
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.killing import (
    TaskKey,
    remember_stop,
    stop_killed,
    stop_launching,
    told_of_own_stop,
    was_killed,
)
from airflow_provider_cloudhpc.links import CloudHPCSimulationLink
from airflow_provider_cloudhpc.operators.checking import check_before
from airflow_provider_cloudhpc.operators.launching import launch
from airflow_provider_cloudhpc.operators.relaunching import CloudHPCSimulationFailedError, Relaunch
from airflow_provider_cloudhpc.operators.run_arguments import RunArguments
from airflow_provider_cloudhpc.operators.uploading import is_retry, upload_folder
from airflow_provider_cloudhpc.paths import is_local, open_source
from airflow_provider_cloudhpc.task import (
    CloudHPCTaskMixin,
    bad_input_fails,
    begin_wait,
    conclude,
    defer_timeout,
    finish,
    read_policy,
    read_simulation_id,
)
from airflow_provider_cloudhpc.triggers.simulation import CloudHPCSimulationTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.models import LaunchRequest, Simulation


class CloudHPCRunSimulationOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Upload a case if there is one, start a simulation once, wait for its end, and stop it when the task is killed.

    The calls and guarantees are those of :class:`CloudHPCUploadFolderOperator`,
    :class:`CloudHPCAddSimulationOperator` and :class:`CloudHPCSimulationSensor` together; the result is the final
    record as a plain dict. ``simulation_id``, ``folder`` and the link are pushed before the wait. A retry goes on with
    what an earlier try launched, a Clear launches again.

    Killed (marked, cleared, its run failed, ``execution_timeout``), in the worker or in the triggerer, the task stops
    its simulation as ``stop_on_kill`` says. When only its process ends (a pod moves, a triggerer restarts) it does not:
    the next try goes on. What a worker that is killed with SIGKILL on the last try leaves, only a teardown task or the
    DAG's ``on_failure_callback`` can stop: :func:`~airflow_provider_cloudhpc.callbacks.stop_simulations`.

    :param cpu: vCPUs (templated)
    :param ram: RAM tier (templated)
    :param script: solver (templated). A ``*-static`` script needs ``timeout`` and an ``on_timeout`` that stops it.
    :param source: file or folder of the case on the worker, or an ``ObjectStoragePath`` or URI of a file (templated);
        sent before the launch, never by a try that goes on with one. None: the case is in ``folder`` already
    :param folder: storage folder (templated); None: one is minted for this task of this run (needs ``source``)
    :param mesh: storage folder of a mesh (templated)
    :param preemptible: True for a spot machine, False for a regular one, None to leave the choice to the account
        (templated)
    :param exclude: shell patterns of what is left out of a source folder (templated)
    :param preflight: what a case or machine that is known to fail does: ``"error"`` (nothing is sent or billed),
        ``"warn"`` or ``"off"``
    :param adopt: id of a simulation in this folder to take in place of a launch (templated)
    :param on_conflict: as of :class:`CloudHPCAddSimulationOperator` (templated)
    :param on_ambiguous: as of :class:`CloudHPCAddSimulationOperator` (templated)
    :param settle: seconds to look for a launch whose answer was lost
    :param relaunch_on_failure: whether a retry launches again after a simulation that failed
    :param ram_ladder: RAM tiers in growing order: after a run that was out of memory a retry takes the next one
    :param deferrable: wait in the triggerer; default: as ``operators.default_deferrable`` says
    :param poll_interval: seconds between two looks at the least
    :param timeout: seconds until the wait is given up, counted from its start, over retries where the task has a state
        store (Airflow 3.3); None: never
    :param on_timeout: what is done about a simulation that still runs then, or at a limit: ``"leave"``, ``"soft"`` or
        ``"hard"`` (which deletes its results) (templated)
    :param stop_on_kill: the same for a task that is killed (templated)
    :param max_vcpu_hours: fail, and act as ``on_timeout`` says, when it has run for so many vCPU-hours
    :param max_cost: the same for euro, as far as the service tells the cost of a run before its end
    :param patience: seconds without one answer after which sight is lost (retryable)
    :param quota_wait: seconds that a worker's slot is spent on waiting for calls to be free; not in deferrable mode
    :param check_output: True: an error in the output of a COMPLETED run fails the task; ``"warn"``: it is told and put
        into the record; False: the output is not read
    :param max_output_bytes: bytes of the output that are looked at: of a longer one the first and the last half of so
        many, and "not fully checked" is told
    :param follow_output: write the new lines of the output to the task's log; in deferrable mode only
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong (nothing was sent), the simulation failed, or going on might bill
        twice
    :raises AirflowSensorTimeout: ``timeout`` passed
    :raises CloudHPCSimulationFailedError: the simulation failed, and a retry launches another
    :raises CloudHPCLostSightError: sight was lost; it may still run and bill
    """

    template_fields: Sequence[str] = (
        "cpu",
        "ram",
        "script",
        "source",
        "folder",
        "mesh",
        "preemptible",
        "exclude",
        "adopt",
        "on_conflict",
        "on_ambiguous",
        "on_timeout",
        "stop_on_kill",
        "cloudhpc_conn_id",
    )
    launches_simulations = True
    operator_extra_links = (CloudHPCSimulationLink(),)
    ui_color = "#fbe9d0"

    def __init__(
        self,
        *,
        cpu: int | str,
        ram: str,
        script: str,
        source: Any = None,
        folder: str | None = None,
        mesh: str | None = None,
        preemptible: bool | None = None,
        exclude: str | Sequence[str] = (),
        preflight: str = Preflight.ERROR.value,
        adopt: Any = None,
        on_conflict: str = OnConflict.FAIL.value,
        on_ambiguous: str = OnAmbiguous.FAIL.value,
        settle: float = DEFAULT_SETTLE,
        relaunch_on_failure: bool = False,
        ram_ladder: Sequence[str] = (),
        deferrable: bool | None = None,
        poll_interval: float = 60.0,
        timeout: float | timedelta | None = None,
        on_timeout: str = StopPolicy.LEAVE.value,
        stop_on_kill: str = StopPolicy.SOFT.value,
        max_vcpu_hours: float | None = None,
        max_cost: float | None = None,
        patience: float = DEFAULT_PATIENCE,
        quota_wait: float = DEFAULT_QUOTA_WAIT,
        check_output: bool | str = True,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        follow_output: bool = False,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.cpu = cpu
        self.ram = ram
        self.script = script
        self.source = source
        self.folder = folder
        self.mesh = mesh
        self.preemptible = preemptible
        self.exclude = exclude
        self.preflight = preflight
        self.adopt = adopt
        self.on_conflict = on_conflict
        self.on_ambiguous = on_ambiguous
        self.settle = settle
        self.relaunch_on_failure = relaunch_on_failure
        self.ram_ladder = ram_ladder
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.on_timeout = on_timeout
        self.stop_on_kill = stop_on_kill
        self.max_vcpu_hours = max_vcpu_hours
        self.max_cost = max_cost
        self.patience = patience
        self.quota_wait = quota_wait
        self.check_output = check_output
        self.max_output_bytes = max_output_bytes
        self.follow_output = follow_output
        self.cloudhpc_conn_id = cloudhpc_conn_id
        self._context: Mapping[str, Any] | None = None
        self._simulation_id: int | None = None
        self._launching_in: str | None = None

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Upload, launch and wait; give the final record."""
        self._context = context
        with bad_input_fails():
            given = RunArguments.read(self, context)
            request, limits = given.request, given.limits
            client = self.client
        # What an earlier try posted may be on its way; else there is nothing before the post.
        self._launching_in = request.folder if is_retry(context) else None
        launched = launch(
            context,
            client,
            request,
            adopt=self.adopt,
            on_conflict=self.on_conflict,
            on_ambiguous=self.on_ambiguous,
            settle=given.settle,
            preflight=self.preflight,
            prepare=lambda: self._prepare(context, client, given),
            judge=lambda simulation: self._judge(given, simulation),
            stop_signal=given.stop_on_kill.signal or StopSignal.SOFT,
        )
        simulation_id = self._simulation_id = launched.simulation_id
        self.tell_simulation(context, simulation_id, launched.folder)
        now = time.time()
        started = begin_wait(context, simulation_id, now)
        deadline = None if given.timeout is None else started + given.timeout
        limits |= {"started": started, "deadline": deadline, "endless_allowed": given.endless_allowed}
        if self.deferrable:
            ended = None if launched.how is How.LAUNCHED else self._ended_already(client, simulation_id)
            if ended is not None:
                return self._conclude(context, ended)
            self.defer(
                trigger=CloudHPCSimulationTrigger(
                    simulation_id,
                    self.cloudhpc_conn_id,
                    poll_interval=given.poll_interval,
                    follow_output=self.follow_output,
                    stop_on_kill=given.stop_on_kill.value,
                    reads_output=given.check_output is not CheckOutput.OFF,
                    **limits,
                ),
                method_name="execute_complete",
                timeout=defer_timeout(deadline, now),
            )
        clock = SteadyClock()
        watch = Watch(
            simulation_id,
            page=client.simulation_page(simulation_id),
            now=now,
            tell=lambda line: self.log.info("%s", line),
            ahead=clock.ahead,
            **limits,
        )
        ending = wait_for_end(
            watch,
            self.connect,
            clock,
            poll_interval=given.poll_interval,
            quota_share=self.hook.quota_share,
            quota_wait=given.quota_wait,
        )
        return self._conclude(context, ending)

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
        """Take over from the trigger."""
        self._context = context
        try:
            ending = Ending.from_dict(event)
        except ValueError as error:
            raise CloudHPCError(f"The trigger's event was not understood. {error}") from None
        self._simulation_id = ending.simulation_id
        self.tell_simulation(context, ending.simulation_id, ending.simulation.folder if ending.simulation else None)
        return self._conclude(context, ending)

    def on_kill(self) -> None:
        """Stop the simulation if the task was killed, and not only its process."""
        if self._context is None or (self._simulation_id is None and self._launching_in is None):
            return
        policy = read_policy(self.stop_on_kill, "stop_on_kill")
        if policy.signal is None:
            return
        killed = was_killed(TaskKey.of(self._context["ti"]))
        if self._simulation_id is None:
            stopped = stop_launching(
                killed, policy, self._launching_in or "", lambda: self.client, own=self.folder is None
            )
        else:
            sent = stop_killed(killed, policy, self._simulation_id, lambda: self.client)
            stopped = [self._simulation_id] if sent else []
        for simulation_id in stopped:
            remember_stop(self._context, simulation_id)

    # -- before the launch ----------------------------------------------------------------------------------------

    def _prepare(self, context: Mapping[str, Any], client: CloudHPCClient, given: RunArguments) -> None:
        """Check the case and the values, and send the case; called right before a first post."""
        source, request, retried = given.source, given.request, is_retry(context)
        is_folder = source is not None and is_local(source) and source.is_dir()
        if source is not None and is_local(source):
            machine = {"script": request.script, "cpu": request.cpu, "ram": request.ram}
            check_before(self.preflight, source, **machine, exclude=given.exclude)
        check_offered(client, request, rungs=given.relaunch.ladder)
        if is_folder:
            upload_folder(client, source, request.folder, exclude=given.exclude, maybe_there=retried)
        elif source is not None:
            file = open_source(source)
            upload_file(client, file, request.folder, file.name.rpartition("/")[2], maybe_there=retried)
        self._launching_in = request.folder

    def _ended_already(self, client: CloudHPCClient, simulation_id: int) -> Ending | None:
        """Look once before a deferral: what an earlier try launched may be over, and a trigger would be for nothing."""
        try:
            return ending_of(client.view_simulation_short(simulation_id))
        except CloudHPCError as error:
            self.log.info("The trigger looks again: %s", error)
            return None

    # -- after the end --------------------------------------------------------------------------------------------

    def _judge(self, given: RunArguments, simulation: Simulation) -> LaunchRequest | None:
        """Decide about what an earlier try launched and what has ended since; None to take it as it is."""
        ending = ending_of(simulation)
        if ending is None:
            return None
        examined = examine(
            self.client,
            ending,
            check=given.check_output,
            max_output_bytes=given.max_output_bytes,
            quota_wait=given.quota_wait,
        )
        ram = given.relaunch.next_ram(examined)
        if ram is None:
            return None
        self.log.warning("%s Launching again, on %r.", examined.ending.message, ram)
        return replace(given.request, ram=ram, folder=simulation.folder.strip("/"))

    def _conclude(self, context: Mapping[str, Any], ending: Ending) -> dict[str, Any]:
        if ending.kind is EndingKind.STOPPED and (why := told_of_own_stop(context, ending.simulation_id)):
            ending = replace(ending, message=f"{ending.message} {why}")
        examined = finish(
            self.client,
            ending,
            on_timeout=read_policy(self.on_timeout, "on_timeout"),
            check_output=self.check_output,
            max_output_bytes=self.max_output_bytes,
            quota_wait=self.quota_wait,
        )
        ram = Relaunch.read(self.ram, self.ram_ladder, self.relaunch_on_failure).next_ram(examined)
        if ram is not None and read_simulation_id(self.adopt, "adopt") is not None:
            raise AirflowFailException(
                f"{examined.ending.message} It was taken by adopt={self.adopt}, which a retry would take again: remove "
                f"that and clear this task to launch another."
            )
        if ram is not None:
            raise CloudHPCSimulationFailedError(
                f"{examined.ending.message} If a retry is left, it launches again, on {ram!r}."
            )
        return conclude(examined)
