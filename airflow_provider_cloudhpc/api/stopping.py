# SPDX-License-Identifier: Apache-2.0
"""Stop what is active, touch nothing else."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.launch.machine import pauses
from airflow_provider_cloudhpc.api.lifecycle import ending_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.models import Simulation, StopSignal

log = logging.getLogger(__name__)

#: Longest listing that is read, pages; a guard against a service that never ends one.
MAX_PAGES = 1000


def stop(client: CloudHPCClient, simulation_id: int, signal: StopSignal) -> bool:
    """
    Stop one simulation unless it has ended: ``GET /simulation/view-short/{id}``, ``PUT /simulation/stop/{id}``.

    :return: whether a signal was sent
    :raises CloudHPCError: it did not get through; the message says that the simulation may still bill
    """
    page = client.simulation_page(simulation_id)
    with failing_as(f"Simulation {simulation_id} was NOT stopped and may be STILL BILLING ({page})."):
        simulation = client.view_simulation_short(simulation_id)
        ending = ending_of(simulation)
        if ending is not None:
            log.info("Nothing to stop: %s", ending.message)
            return False
        client.stop_simulation(simulation_id, signal)
    log.info("Sent %s to simulation %d (%s): %s", signal.value, simulation_id, simulation.status_name, page)
    return True


def stop_all(client: CloudHPCClient, simulation_ids: Sequence[int], signal: StopSignal) -> list[int]:
    """
    Stop each of several simulations, whatever becomes of the others.

    :return: those that were sent a signal
    :raises CloudHPCError: some were not stopped; the message names them and says that they may still bill
    """
    stopped: list[int] = []
    failures: list[CloudHPCError] = []
    for simulation_id in simulation_ids:
        try:
            if stop(client, simulation_id, signal):
                stopped.append(simulation_id)
        except CloudHPCError as error:
            log.error("%s", error)
            failures.append(error)
    if not failures:
        return stopped
    if len(failures) > 1:
        more = " ".join(str(error) for error in failures[1:])
        failures[0].message += f" {more}"
    if stopped:
        failures[0].message += f" Stopped: {', '.join(map(str, stopped))}."
    raise failures[0]


def find_active(client: CloudHPCClient, is_wanted: Callable[[str], bool]) -> list[Simulation]:
    """
    Find the active simulations of some folders: ``GET /simulation/index-short/edate/asc/{page}``, active ones first.

    Reads on until a page brings nothing new, or is in the order that was asked for and has no active one.

    :param is_wanted: takes a storage folder, without slashes at its ends
    """
    found: dict[int, Simulation] = {}
    seen: set[int] = set()
    for number in range(1, MAX_PAGES):
        page = client.list_simulations(number, sort="edate", descending=False)
        new = [simulation for simulation in page if simulation.id not in seen]
        active = [simulation for simulation in new if not simulation.is_terminal]
        seen.update(simulation.id for simulation in new)
        found |= {simulation.id: simulation for simulation in active if is_wanted(simulation.folder.strip("/"))}
        ends = [simulation.edate for simulation in page]
        if not new or (not active and ends == sorted(ends)):
            break
    return list(found.values())


def not_listed(where: str) -> str:
    """
    Say what it means that nothing could be listed.

    :param where: the folders that were meant
    """
    return (
        f"Whatever is active in {where} was NOT stopped and may be STILL BILLING: the account's simulations could not "
        "be listed."
    )


def find_settled(
    client: CloudHPCClient,
    is_wanted: Callable[[str], bool],
    *,
    where: str,
    settle: float,
    told: Callable[[], set[int] | None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Simulation]:
    """
    Find active simulations also where one was launched a moment ago: it may come late, the listing may lag.

    Looks again as long as neither an active one nor, among the newest (``GET /simulation/index-short/id/desc/1``), an
    ended one is seen: then nothing is on its way any more, as far as can be known.

    :param is_wanted: as for :func:`find_active`
    :param where: what these folders are, for messages
    :param told: asked where nothing is active: gives the launches whose answers came; an ended one that is none of
        them says nothing about one that is on its way. None: not known, and any will do
    :param settle: seconds to look again at the most
    :raises CloudHPCError: nothing could be listed; the message says that what is there may still bill
    """
    active: list[Simulation] = []
    for pause in pauses(settle):
        if pause:
            log.info("No simulation is seen in %s yet; looking again in %.0f s.", where, pause)
            sleep(pause)
        with failing_as(not_listed(where)):
            active = find_active(client, is_wanted)
            ended = [] if active else client.list_simulations()
        ended = [simulation for simulation in ended if is_wanted(simulation.folder.strip("/"))]
        known = told() if ended else None
        if active or (ended and (known is None or any(simulation.id in known for simulation in ended))):
            break
    return active


def wait_until_over(client: CloudHPCClient, simulation_id: int, *, deadline: float, poll_interval: float) -> None:
    """
    Wait until a simulation that was sent a signal is over.

    :param deadline: ``time.monotonic()`` at which the wait is given up, seconds
    :param poll_interval: seconds between two looks
    :raises CloudHPCError: it is still active at the deadline, or could not be looked at
    """
    while True:
        with failing_as(
            f"Simulation {simulation_id} was sent a stop signal, and whether it is over could not be learned: it may "
            f"be STILL BILLING ({client.simulation_page(simulation_id)})."
        ):
            simulation = client.view_simulation_short(simulation_id)
        ending = ending_of(simulation)
        if ending is not None:
            log.info("%s", ending.message)
            return
        if time.monotonic() >= deadline:
            raise CloudHPCError(
                f"Simulation {simulation_id} was sent a stop signal and is still {simulation.status_name}: STILL "
                f"BILLING ({client.simulation_page(simulation_id)}). A soft stop can take minutes; "
                "stop='hard' ends it at once and deletes its results."
            )
        time.sleep(min(poll_interval, max(0.0, deadline - time.monotonic())))


@contextmanager
def failing_as(meaning: str) -> Iterator[None]:
    """Put before the words of an error what it means for the bill."""
    try:
        yield
    except CloudHPCError as error:
        error.message = f"{meaning} {error.message}"
        raise
