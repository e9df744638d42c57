# SPDX-License-Identifier: Apache-2.0
"""Start and stop simulations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_cloudhpc.api.diagnosis.preflight import Preflight
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.launch.options import build_request, check_offered
from airflow_provider_cloudhpc.api.launch.types import DEFAULT_SETTLE, OnAmbiguous, OnConflict
from airflow_provider_cloudhpc.api.lifecycle import STATIC_SUFFIX
from airflow_provider_cloudhpc.api.models import StopPolicy, StopSignal
from airflow_provider_cloudhpc.api.names import check_folder
from airflow_provider_cloudhpc.api.stopping import find_settled, stop_all, wait_until_over
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import CloudHPCSimulationLink
from airflow_provider_cloudhpc.operators.checking import check_machine_before
from airflow_provider_cloudhpc.operators.launch_record import told_simulations
from airflow_provider_cloudhpc.operators.launching import launch
from airflow_provider_cloudhpc.operators.running import CloudHPCRunSimulationOperator
from airflow_provider_cloudhpc.task import (
    CloudHPCTaskMixin,
    bad_input_fails,
    read_number,
    read_policy,
    read_simulation_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CloudHPCAddSimulationOperator", "CloudHPCRunSimulationOperator", "CloudHPCStopSimulationOperator"]


class CloudHPCAddSimulationOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Start a simulation, and with it the bill: ``POST /simulation/add``.

    The values are checked before anything is billed; the account's own lists are asked only for a value that is not
    known here, or after a refusal. The result is the simulation's id (int), pushed at once also as ``simulation_id``,
    with ``folder`` and the link.

    It bills once: a retry goes on with what an earlier try launched, a Clear stops that (softly) if it still runs and
    launches again. Where an answer is lost ``GET /simulation/index-short/...`` decides. In a folder that an upload
    minted that holds on every version of Airflow; what is weaker in a folder that you name, before Airflow 3.3, is
    told in the documentation (launching).

    :param cpu: vCPUs: 1, 2, 4, 8, 16, 32, ... (templated)
    :param ram: RAM tier: ``highcpu``, ``standard``, ``highmem``, ... (templated)
    :param script: solver: ``fds6.9.1``, ``openFoam-v2406``, ``custom-script``, ... (templated). A ``*-static`` script
        is a bare machine that runs and bills until it is stopped.
    :param folder: storage folder of the case (templated)
    :param mesh: storage folder of a mesh (templated)
    :param preemptible: True for a spot machine, False for a regular one, None to leave the choice to the account
        (templated)
    :param adopt: id of a simulation in this folder to take in place of a launch (templated): the answer to an error
        that lists candidates
    :param on_conflict: what is done about a simulation that is active in a folder that you named: ``"fail"``,
        ``"adopt_active"`` (take it, if it is the only one) or ``"launch"`` (beside it) (templated)
    :param on_ambiguous: what is done where the launch's answer was lost and the listing shows none after ``settle``
        seconds: ``"fail"``, or ``"relaunch"``, which may bill twice (templated)
    :param settle: seconds to look for a launch whose answer was lost; it may come late, the listing may lag
    :param preflight: what a machine or a folder with which the run is known to fail does: ``"error"`` (nothing is
        billed), ``"warn"`` or ``"off"``. The folder is looked at where it was named, by the listing that is asked for
        anyway; of an archive in it only the name is known.
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong (nothing was sent), or going on might bill twice
    :raises CloudHPCRefusedError: the service refused the launch; nothing was started
    """

    template_fields: Sequence[str] = (
        "cpu",
        "ram",
        "script",
        "folder",
        "mesh",
        "preemptible",
        "adopt",
        "on_conflict",
        "on_ambiguous",
        "cloudhpc_conn_id",
    )
    #: Tells a task that launches from others, also where it is mapped.
    launches_simulations = True
    operator_extra_links = (CloudHPCSimulationLink(),)
    ui_color = "#fbe9d0"

    def __init__(
        self,
        *,
        cpu: int | str,
        ram: str,
        script: str,
        folder: str,
        mesh: str | None = None,
        preemptible: bool | None = None,
        adopt: Any = None,
        on_conflict: str = OnConflict.FAIL.value,
        on_ambiguous: str = OnAmbiguous.FAIL.value,
        settle: float = DEFAULT_SETTLE,
        preflight: str = Preflight.ERROR.value,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cpu = cpu
        self.ram = ram
        self.script = script
        self.folder = folder
        self.mesh = mesh
        self.preemptible = preemptible
        self.adopt = adopt
        self.on_conflict = on_conflict
        self.on_ambiguous = on_ambiguous
        self.settle = settle
        self.preflight = preflight
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> int:
        """Start the simulation; give its id."""
        with bad_input_fails():
            request = build_request(
                cpu=self.cpu,
                ram=self.ram,
                script=self.script,
                folder=self.folder,
                mesh=self.mesh,
                preemptible=self.preemptible,
            )
            check_machine_before(self.preflight, request)
            settle = read_number(self.settle, "settle", zero=True)
            client = self.client
        if request.script.endswith(STATIC_SUFFIX):
            self.log.warning(
                "%s is a bare machine: it runs and BILLS until it is stopped. Make CloudHPCStopSimulationOperator "
                "its teardown.",
                request.script,
            )
        launched = launch(
            context,
            client,
            request,
            adopt=self.adopt,
            on_conflict=self.on_conflict,
            on_ambiguous=self.on_ambiguous,
            settle=settle,
            preflight=self.preflight,
            prepare=lambda: check_offered(client, request),
            stop_signal=StopSignal.SOFT,
        )
        self.tell_simulation(context, launched.simulation_id, launched.folder)
        return launched.simulation_id


class CloudHPCStopSimulationOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Stop a simulation, or all active ones of a folder: ``PUT /simulation/stop/{id}``.

    One that has ended already is a success with a message, and so is an id of None (the launch never happened): it
    serves as a teardown. Best by ``folder`` and with the upload as its setup: that finds also what a launch left that
    was killed before it told an id. By ``folder`` the active ones are found by ``GET /simulation/index-short/...``.
    The result is the list of ids that were sent a signal.

    :param simulation_id: int, string, or the XCom of a task of this provider (templated)
    :param folder: storage folder: all active simulations in it are stopped (templated)
    :param stop: ``"soft"`` (the solver ends its iteration, results are saved, can take minutes) or ``"hard"``
        (killed at once, its **results are deleted for good**) (templated)
    :param wait: whether to wait until they have stopped
    :param wait_timeout: seconds to wait at the most
    :param poll_interval: seconds between two looks while waiting
    :param settle: with ``folder``: seconds to look again as long as the listing shows no active simulation in it, and
        no ended one that a task of this DAG run has told of: a launch of a moment ago may come late. 0: look once
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong; nothing was sent
    :raises CloudHPCError: a stop did not get through: STILL BILLING
    """

    template_fields: Sequence[str] = ("simulation_id", "folder", "stop", "cloudhpc_conn_id")
    operator_extra_links = (CloudHPCSimulationLink(),)
    ui_color = "#f6d9d5"

    def __init__(
        self,
        *,
        simulation_id: Any = None,
        folder: str | None = None,
        stop: str = StopPolicy.SOFT.value,
        wait: bool = False,
        wait_timeout: float = 1800.0,
        poll_interval: float = 30.0,
        settle: float = DEFAULT_SETTLE,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.simulation_id = simulation_id
        self.folder = folder
        self.stop = stop
        self.wait = wait
        self.wait_timeout = wait_timeout
        self.poll_interval = poll_interval
        self.settle = settle
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> list[int]:
        """Stop what is active; give the ids that were sent a signal."""
        with bad_input_fails():
            policy = read_policy(self.stop, "stop")
            if policy.signal is None:
                raise CloudHPCValueError("stop is 'leave': 'soft' or 'hard' is needed to stop something.")
            if self.folder is not None and self.simulation_id is not None:
                raise CloudHPCValueError("Only one of simulation_id and folder can be given.")
            folder = None if self.folder is None else check_folder(self.folder)
            simulation_id = read_simulation_id(self.simulation_id)
            wait_timeout = read_number(self.wait_timeout, "wait_timeout", zero=True)
            poll_interval = read_number(self.poll_interval, "poll_interval")
            settle = read_number(self.settle, "settle", zero=True)
            client = self.client
        if folder is None and simulation_id is None:
            self.log.info("There is no simulation to stop: the launch never happened.")
            return []
        if policy is StopPolicy.HARD:
            self.log.warning("A hard stop DELETES the results of the simulation for good.")
        if simulation_id is not None:
            self.tell_simulation(context, simulation_id)
            candidates = [simulation_id]
        else:
            where = f"folder {folder!r}"
            active = find_settled(
                client, (folder or "").__eq__, where=where, settle=settle, told=lambda: told_simulations(context)
            )
            candidates = [simulation.id for simulation in active]
            self.log.info("Active simulations in folder %s: %s", folder, candidates or "none")
        stopped = stop_all(client, candidates, policy.signal)
        if self.wait and stopped:
            deadline = time.monotonic() + wait_timeout
            for candidate in stopped:
                wait_until_over(client, candidate, deadline=deadline, poll_interval=poll_interval)
        return stopped
