# SPDX-License-Identifier: Apache-2.0
"""Carry out a launch: what the state machine asks for, done with a client and a store."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCConnectionError,
    CloudHPCError,
    CloudHPCNotFoundError,
    CloudHPCQuotaError,
    CloudHPCRefusedError,
)
from airflow_provider_cloudhpc.api.launch import types as steps
from airflow_provider_cloudhpc.api.launch.options import explain_refusal
from airflow_provider_cloudhpc.api.models import LaunchRequest, Simulation, StopSignal
from airflow_provider_cloudhpc.api.stopping import find_active, stop, wait_until_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.launch.machine import LaunchMachine

log = logging.getLogger(__name__)

#: Seconds that the stop of a cleared task's simulation may take, and between two looks at it.
STOP_TIMEOUT, STOP_POLL = 1800.0, 10.0


class StateStore(Protocol):
    """Where a launch's state is kept between tries."""

    def load(self) -> steps.LaunchState | None:
        """Give what was saved last, None where nothing was."""

    def save(self, state: steps.LaunchState) -> None:
        """Keep a state; returns when it is kept."""


class Launcher:
    """
    Carries out one launch.

    :param store: None where nothing can be kept
    :param prepare: does what comes before a post
    :param judge: decides about a simulation that ended before a retry; see :class:`~.launch_types.Judge`
    :param stop_signal: how the simulation of a cleared task is stopped
    """

    def __init__(
        self,
        client: CloudHPCClient,
        store: StateStore | None,
        *,
        prepare: Callable[[], None] = lambda: None,
        judge: Callable[[Simulation], LaunchRequest | None] = lambda simulation: None,
        stop_signal: StopSignal = StopSignal.SOFT,
        stop_timeout: float = STOP_TIMEOUT,
        stop_poll: float = STOP_POLL,
    ) -> None:
        self._client = client
        self._store = store
        self._prepare = prepare
        self._judge = judge
        self._stop_signal = stop_signal
        self._stop_timeout = stop_timeout
        self._stop_poll = stop_poll

    def run(self, machine: LaunchMachine) -> steps.Launched:
        """
        Carry out the launch to its end.

        :raises CloudHPCLaunchError: going on might bill twice; a person has to look
        :raises CloudHPCError: nothing was started, or nothing could be learned; another try goes on from here
        """
        # With `adopt` nothing that was kept counts: it is the way out where that cannot be read.
        running = machine.steps(self._store.load() if self._store and machine.adopt is None else None)
        outcome: Any = None
        while True:
            try:
                action = running.send(outcome)
            except StopIteration as end:
                launched: steps.Launched = end.value
                break
            outcome = self._do(action)
        for other in launched.others:
            log.error(
                "Simulation %d in the same folder is this task's too and BILLS beside %d: stop it (%s).",
                other,
                launched.simulation_id,
                self._client.simulation_page(other),
            )
        return launched

    def _do(self, action: steps.Action) -> Any:
        match action:
            case steps.Save():
                return self._save(action)
            case steps.Find():
                return self._find(action)
            case steps.Look(simulation_id):
                return self._look(simulation_id)
            case steps.Stop(simulation_id):
                return self._stop(simulation_id)
            case steps.Prepare():
                return self._prepare()
            case steps.Post(request):
                return self._post(request)
            case steps.Judge(simulation):
                return self._judge(simulation)
            case steps.Tell(text):
                log.warning("%s", text)
                return None
            case steps.Pause(seconds):
                log.info("The launch is not in the listing; looking again in %.0f s.", seconds)
                time.sleep(seconds)
                return None

    def _save(self, action: steps.Save) -> None:
        if self._store is None:
            return
        try:
            self._store.save(action.state)
        except Exception as error:
            if action.vital:
                raise
            # What is kept says "posting": another try would look for the simulation and find it.
            log.warning("The state of the launch (%s) could not be kept: %s", action.state.to_dict(), error)

    def _find(self, action: steps.Find) -> steps.Listing:
        found: dict[int, Simulation] = {}
        newest = 0
        seen: set[int] = set()
        try:
            for number in range(1, action.pages + 1):
                page = self._client.list_simulations(number)
                fresh = [simulation for simulation in page if simulation.id not in seen]
                seen.update(simulation.id for simulation in fresh)
                newest = max([newest, *(simulation.id for simulation in fresh)])
                found |= {
                    simulation.id: simulation
                    for simulation in fresh
                    if simulation.id > action.after and simulation.folder.strip("/") in action.folders
                }
                if not fresh or found or min(simulation.id for simulation in fresh) <= action.after:
                    break
        except CloudHPCError as error:
            if not error.transient:
                raise
            log.warning("%s", error)
            return steps.Listing(error=error)
        return steps.Listing(tuple(sorted(found.values(), key=lambda item: item.id, reverse=True)), newest)

    def _look(self, simulation_id: int) -> Simulation | None:
        try:
            return self._client.view_simulation_short(simulation_id)
        except CloudHPCNotFoundError:
            # The service says so now and then of one that is there: the listing confirms it.
            newest = self._client.list_simulations()
            listed = {simulation.id: simulation for simulation in newest}
            if simulation_id not in listed and newest and min(listed) > simulation_id:
                # It is too old for the newest ones; were it active, it would be among these.
                listed = {simulation.id: simulation for simulation in find_active(self._client, lambda folder: True)}
            return listed.get(simulation_id)

    def _stop(self, simulation_id: int) -> None:
        log.info("Simulation %d is from before this task was cleared: stopping it first.", simulation_id)
        if stop(self._client, simulation_id, self._stop_signal):
            deadline = time.monotonic() + self._stop_timeout
            wait_until_over(self._client, simulation_id, deadline=deadline, poll_interval=self._stop_poll)

    def _post(self, request: LaunchRequest) -> steps.Answer:
        try:
            return steps.Answer(self._client.add_simulation(request))
        except CloudHPCRefusedError as refusal:
            known = isinstance(refusal, CloudHPCAuthError | CloudHPCQuotaError)
            explained = refusal if known else explain_refusal(self._client, request, refusal)
            # A "technical problem" may have come after the start; with the counters at their end too, as the launch
            # itself may have been the last call.
            if isinstance(explained, CloudHPCNotFoundError) or getattr(explained, "says_nothing", False):
                log.warning("The answer does not say whether the launch began: the listing decides. %s", explained)
                return steps.Answer(started=None, error=explained)
            return steps.Answer(started=False, error=explained)
        except (CloudHPCConnectionError, CloudHPCAnswerError) as error:
            if isinstance(error, CloudHPCConnectionError) and not error.sent:
                return steps.Answer(started=False, error=error)
            log.warning("The launch's answer was lost: the listing decides whether it runs. %s", error)
            return steps.Answer(started=None, error=error)
