# SPDX-License-Identifier: Apache-2.0
"""Wait for a simulation in the triggerer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.lifecycle import CONFIRM_AFTER, DEFAULT_PATIENCE, Ending, EndingKind, Watch
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_cloudhpc.api.client import CloudHPCClient


class CloudHPCSimulationTrigger(BaseTrigger):
    """
    Fire when a simulation has ended, when the deadline has passed or when sight of it is lost.

    It always yields exactly one event, an :class:`~airflow_provider_cloudhpc.api.lifecycle.Ending` as plain data, and
    never raises. Looks by ``GET /simulation/view-short/{id}``.

    :param simulation_id: the simulation
    :param cloudhpc_conn_id: id of the Airflow connection
    :param poll_interval: seconds between two looks
    :param started: when the wait began, seconds since the epoch
    :param deadline: when it is given up, seconds since the epoch, fixed before the first deferral; None for never
    :param patience: seconds without one answer after which sight is lost
    :param endless_allowed: whether a ``*-static`` script may be waited for
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.simulation_id = simulation_id
        self.cloudhpc_conn_id = cloudhpc_conn_id
        self.poll_interval = poll_interval
        self.started = started
        self.deadline = deadline
        self.patience = patience
        self.endless_allowed = endless_allowed

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
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        try:
            ending = await self._wait()
        except Exception as error:
            # A trigger that raises never reaches the task, and before Airflow 3 runs it again from the start.
            self.log.exception("The wait for simulation %s broke", self.simulation_id)
            ending = Ending(
                EndingKind.LOST,
                self.simulation_id,
                f"The wait for simulation {self.simulation_id} broke ({type(error).__name__}: {error}). "
                "It may still run and BILL; running the task again looks at it again.",
            )
        yield TriggerEvent(ending.to_dict())  # type: ignore[no-untyped-call]

    async def _wait(self) -> Ending:
        # In a thread: a connection's look-up and every call are blocking, and must not hold up other triggers.
        client = await asyncio.to_thread(self._connect)
        watch = Watch(
            self.simulation_id,
            page=client.simulation_page(self.simulation_id),
            started=self.started or time.time(),
            deadline=self.deadline,
            patience=self.patience,
            endless_allowed=self.endless_allowed,
            tell=self.log.info,
        )
        while True:
            try:
                simulation = await asyncio.to_thread(client.view_simulation_short, self.simulation_id)
                ending = watch.seen(simulation, time.time())
            except CloudHPCError as error:
                ending = watch.missed(error, time.time())
            if ending is not None:
                return ending
            await asyncio.sleep(self._pause(watch))

    def _pause(self, watch: Watch) -> float:
        pause = max(self.poll_interval, CONFIRM_AFTER) if watch.doubting else self.poll_interval
        return pause if self.deadline is None else max(0.0, min(pause, self.deadline - time.time()))

    def _connect(self) -> CloudHPCClient:
        return CloudHPCHook(self.cloudhpc_conn_id).get_conn()
