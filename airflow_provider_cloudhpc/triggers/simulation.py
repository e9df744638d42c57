# SPDX-License-Identifier: Apache-2.0
"""Wait for a simulation in the triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.lifecycle import DEFAULT_PATIENCE, Ending, EndingKind, Watch, duration
from airflow_provider_cloudhpc.api.models import StopPolicy
from airflow_provider_cloudhpc.api.waiting.following import OutputFollower
from airflow_provider_cloudhpc.api.waiting.pacing import FIRST_BACKOFF
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.killing import TaskKey, stop_killed, was_killed_async
from airflow_provider_cloudhpc.triggers.pollers import current_pollers
from airflow_provider_cloudhpc.triggers.waits import Wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_cloudhpc.triggers.accounts import Account
    from airflow_provider_cloudhpc.triggers.pollers import Pollers

#: A trigger that begins so many seconds after its wait did is not the first of this wait.
RESTART_AFTER = 60.0
#: Stops that are being sent: the loop itself keeps no reference to them.
_STOPPING: set[asyncio.Task[None]] = set()


def _deferral_known_after() -> float:
    """
    Give the seconds after which Airflow's scheduler surely knows that a task was deferred.

    From Airflow 3 on the process beside a task looks so often whether it ended. A task that is back before that is
    failed by the scheduler ("finished with state success, but the task instance's state attribute is queued").
    """
    return 1.2 * float(conf.getfloat("workers", "min_heartbeat_interval", fallback=0.0))


class CloudHPCSimulationTrigger(BaseTrigger):
    """
    Fire when a simulation has ended, when the deadline has passed or when sight of it is lost.

    It always yields exactly one event, an :class:`~airflow_provider_cloudhpc.api.lifecycle.Ending` as plain data, and
    never raises. All triggers of one account share one poller, which looks by pages of
    ``GET /simulation/index-short/...`` and by ``GET /simulation/view-short/{id}``, as the account's counters allow.

    :param simulation_id: the simulation
    :param cloudhpc_conn_id: id of the Airflow connection
    :param poll_interval: seconds between two looks at the least; the poller takes the smallest of all its waits,
        never less than 30, and more where the account's calls ask for it
    :param started: when the wait began, seconds since the epoch
    :param deadline: when it is given up, seconds since the epoch, fixed before the first deferral; None for never
    :param patience: seconds without one answer after which sight is lost
    :param endless_allowed: whether a ``*-static`` script may be waited for
    :param follow_output: write the new lines of the simulation's output to the task's log; costs a call of its own
        for each look
    :param max_vcpu_hours: the wait ends when it has run for so many vCPU-hours; None for no limit
    :param max_cost: the same for euro, as far as the service tells the cost of a run before its end
    :param stop_on_kill: what is done about the simulation when the task is killed, marked, cleared or its run failed
        (and not when the triggerer ends or the trigger moves): ``"soft"``, ``"hard"`` or ``"leave"``
    :param reads_output: whether the task reads the run's output at the end: then the event of a run that has ended
        waits, until the deadline at the latest, while the account has no call left for that
    """

    def __init__(
        self,
        simulation_id: int,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        *,
        poll_interval: float = 60.0,
        started: float | None = None,
        deadline: float | None = None,
        patience: float = DEFAULT_PATIENCE,
        endless_allowed: bool = False,
        follow_output: bool = False,
        max_vcpu_hours: float | None = None,
        max_cost: float | None = None,
        stop_on_kill: str = StopPolicy.LEAVE.value,
        reads_output: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.simulation_id = simulation_id
        self.cloudhpc_conn_id = cloudhpc_conn_id
        self.poll_interval = poll_interval
        self.started = started
        self.deadline = deadline
        self.patience = patience
        self.endless_allowed = endless_allowed
        self.follow_output = follow_output
        self.max_vcpu_hours = max_vcpu_hours
        self.max_cost = max_cost
        self.stop_on_kill = stop_on_kill
        self.reads_output = reads_output
        self._account: Account | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class and its arguments: plain data without secrets, they are stored in the database."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "simulation_id": self.simulation_id,
                "cloudhpc_conn_id": self.cloudhpc_conn_id,
                "poll_interval": self.poll_interval,
                "started": self.started,
                "deadline": self.deadline,
                "patience": self.patience,
                "endless_allowed": self.endless_allowed,
                "follow_output": self.follow_output,
                "max_vcpu_hours": self.max_vcpu_hours,
                "max_cost": self.max_cost,
                "stop_on_kill": self.stop_on_kill,
                "reads_output": self.reads_output,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        clock = current_pollers().clock
        earliest = clock.time() + _deferral_known_after()
        try:
            ending = await self._look()
            await clock.pause(earliest - clock.time(), asyncio.Event())
        except asyncio.CancelledError:
            # Before Airflow 3.3 a killed task is told by nothing else; a triggerer that ends looks the same.
            if not hasattr(BaseTrigger, "on_kill"):
                await self._shielded_stop()
            raise
        yield TriggerEvent(ending.to_dict())  # type: ignore[no-untyped-call]

    async def _look(self) -> Ending:
        try:
            return await self._wait()
        except Exception as error:
            # A trigger that raises never reaches the task, and before Airflow 3 runs it again from the start.
            self.log.exception("The wait for simulation %s broke", self.simulation_id)
            return Ending(
                EndingKind.LOST,
                self.simulation_id,
                f"The wait for simulation {self.simulation_id} broke ({type(error).__name__}: {error}). "
                "It may still run and BILL; running the task again looks at it again.",
            )

    async def on_kill(self) -> None:
        """Stop the simulation if the task was killed; Airflow calls this when the trigger moves, too."""
        await self._shielded_stop()

    async def _shielded_stop(self) -> None:
        policy = StopPolicy(self.stop_on_kill)
        if policy.signal is None:
            return
        # Airflow cancels again every second: what is begun goes on in a task of its own.
        stopping = asyncio.get_running_loop().create_task(self._stop_if_killed(policy))
        _STOPPING.add(stopping)
        stopping.add_done_callback(_STOPPING.discard)
        with contextlib.suppress(Exception):
            await asyncio.shield(stopping)

    async def _stop_if_killed(self, policy: StopPolicy) -> None:
        killed = await was_killed_async(TaskKey.of(self.task_instance))
        account = self._account or await current_pollers().connect(self.cloudhpc_conn_id)
        await asyncio.to_thread(stop_killed, killed, policy, self.simulation_id, lambda: account.client)

    async def _wait(self) -> Ending:
        pollers = current_pollers()
        now = pollers.clock.time()
        started = now if self.started is None else self.started - pollers.clock.ahead()
        account = self._account = await self._connect(pollers, now)
        # Lines are told in this trigger's context, whoever tells them: by it they find the task's log.
        context = contextvars.copy_context()

        def tell(line: str) -> None:
            with contextlib.suppress(Exception):  # a log that cannot be written ends no wait
                context.run(self.log.info, "%s", line)

        resumed = now - started > RESTART_AFTER
        watch = Watch(
            self.simulation_id,
            page=account.client.simulation_page(self.simulation_id),
            started=started,
            now=now,
            deadline=self.deadline,
            patience=self.patience,
            endless_allowed=self.endless_allowed,
            max_vcpu_hours=self.max_vcpu_hours,
            max_cost=self.max_cost,
            tell=tell,
            ahead=pollers.clock.ahead,
        )
        if resumed:
            self.log.info(
                "The wait for simulation %d goes on in this triggerer; it began %s ago",
                self.simulation_id,
                duration(now - started),
            )
        follower = OutputFollower(resumed=resumed) if self.follow_output else None
        wait = Wait(watch, self.cloudhpc_conn_id, self.poll_interval, follower, reads=self.reads_output)
        return await pollers.wait(wait, account)

    async def _connect(self, pollers: Pollers, begun: float) -> Account:
        while True:
            try:
                return await pollers.connect(self.cloudhpc_conn_id)
            except (AirflowNotFoundException, CloudHPCError):
                raise
            except Exception as error:
                # Airflow's own database or API is down: that says nothing about the simulation.
                if pollers.clock.time() - begun > self.patience:
                    raise
                self.log.warning("Connection %s cannot be read now: %s", self.cloudhpc_conn_id, error)
            await pollers.clock.pause(FIRST_BACKOFF, asyncio.Event())
