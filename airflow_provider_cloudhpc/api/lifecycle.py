# SPDX-License-Identifier: Apache-2.0
"""
Pure decisions about a simulation's life: is it over, how did it end, when is a wait given up.

The sensor in every mode, the trigger and every synchronous wait ask here, so that all of them end alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAuthError,
    CloudHPCError,
    CloudHPCQuotaError,
    CloudHPCRefusedError,
)
from airflow_provider_cloudhpc.api.models import Simulation, SimulationStatus, status_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Ending of the names of scripts that are bare machines: they run, and bill, until they are stopped.
STATIC_SUFFIX = "-static"
#: Seconds after which an answer that may be a hiccup ("unauthorized", "not found") is confirmed by a second call.
CONFIRM_AFTER = 60.0
#: Default for how long a wait goes on without one answer, seconds.
DEFAULT_PATIENCE = 1800.0
#: First and longest time between two lines that say nothing new, seconds; and the first between two complaints.
FIRST_HEARTBEAT, LONGEST_HEARTBEAT, FIRST_COMPLAINT = 300.0, 3600.0, 60.0


class EndingKind(StrEnum):
    """
    How a wait ended.

    The first three are the service's words. ``failed``: it said COMPLETED, and the output says that the solver failed.
    ``deadline``: the time is up and it still runs. ``limit``: it has cost what it may cost and still runs. ``lost``: we
    lost sight of it, or of whether it succeeded.
    ``endless``: it would never end by itself and nothing was said about that.
    """

    COMPLETED = "completed"
    ERROR = "error"
    STOPPED = "stopped"
    FAILED = "failed"
    DEADLINE = "deadline"
    LIMIT = "limit"
    LOST = "lost"
    ENDLESS = "endless"


#: After these a task may still want to read the run's output: the run has ended by itself, as far as is known.
ENDED_KINDS = frozenset({EndingKind.COMPLETED, EndingKind.ERROR, EndingKind.STOPPED})

_KIND_OF_STATUS = {
    SimulationStatus.COMPLETED: EndingKind.COMPLETED,
    SimulationStatus.ERROR: EndingKind.ERROR,
    SimulationStatus.STOPPED: EndingKind.STOPPED,
}


@dataclass(frozen=True)
class Ending:
    """
    The end of a wait, as plain data between trigger and task.

    :param message: for the person who reads the task's log
    :param simulation: the last record seen, None where none was
    """

    kind: EndingKind
    simulation_id: int
    message: str
    simulation: Simulation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "kind": self.kind.value,
            "simulation_id": self.simulation_id,
            "message": self.message,
            "simulation": self.simulation.to_dict() if self.simulation else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ending:
        """
        Read back what :meth:`to_dict` gave.

        :raises ValueError: for anything else: what is not understood is no success
        """
        try:
            record = data["simulation"]
            return cls(
                kind=EndingKind(data["kind"]),
                simulation_id=int(data["simulation_id"]),
                message=str(data["message"]),
                simulation=Simulation.from_dict(record) if record else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"Not the end of a wait: {data!r}") from error


def ending_of(simulation: Simulation) -> Ending | None:
    """Tell how a simulation ended; None while it has not."""
    if not simulation.is_terminal:
        return None
    kind = _KIND_OF_STATUS[SimulationStatus(simulation.status or 0)]
    known = ", ".join(
        text
        for text in (
            f"folder {simulation.folder!r}" if simulation.folder else "",
            f"{simulation.cpu_hours:g} vCPU-hours" if simulation.cpu_hours is not None else "",
            f"{simulation.cost:.2f} EUR" if simulation.cost is not None else "",
        )
        if text
    )
    said = {
        EndingKind.COMPLETED: "has completed",
        EndingKind.ERROR: "ended with an ERROR",
        EndingKind.STOPPED: "was STOPPED by a stop signal before its end",
    }[kind]
    return Ending(
        kind, simulation.id, f"Simulation {simulation.id} {said}{f' ({known})' if known else ''}.", simulation
    )


def is_said(error: CloudHPCError) -> bool:
    """Whether the service itself said no, or answered with something else than what it was asked for."""
    return isinstance(error, CloudHPCRefusedError) or (error.status == 200 and not error.transient)


def is_outage(error: CloudHPCError) -> bool:
    """Whether no answer of the service came: nothing, a server error, or what a proxy or a login page says for it."""
    return not is_said(error) and (error.transient or error.status is not None)


def duration(seconds: float) -> str:
    """Write a duration for people: ``45 s``, ``12 min``, ``3 h 05 min``."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(now: float) -> str:
    """Write a time for people: ``2026-11-24 09:05 UTC``."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")


class Watch:
    """
    The decisions of one wait, fed with what is seen and with the time; it does no I/O and never sleeps.

    Times are seconds since the epoch; those that are passed in have to run evenly, whatever is done to the machine's
    clock. The deadline is a point of the machine's time: it was set by another process perhaps.

    :param simulation_id: what is waited for
    :param page: address of its web page, for messages
    :param started: when the wait began, perhaps in another process
    :param now: when this part of it begins; None where that is the same
    :param deadline: when it is given up; None for never
    :param patience: seconds without one answer after which sight is lost
    :param endless_allowed: whether a ``*-static`` script may be waited for
    :param max_vcpu_hours: vCPU-hours after which it has cost enough; None for no limit. As the service tells them;
        where it tells none before the end, counted from the first sight of RUNNING, or from the beginning of the wait
        where it ran already
    :param max_cost: euro after which it has cost enough; None for no limit. Only as far as the service tells the cost
        of a run that has not ended
    :param tell: takes lines for the task's log
    :param ahead: tells by how many seconds the machine's clock is ahead of the times that are passed in
    """

    def __init__(
        self,
        simulation_id: int,
        *,
        page: str,
        started: float,
        now: float | None = None,
        deadline: float | None = None,
        patience: float = DEFAULT_PATIENCE,
        endless_allowed: bool = False,
        max_vcpu_hours: float | None = None,
        max_cost: float | None = None,
        tell: Callable[[str], None] = lambda line: None,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.simulation_id = simulation_id
        self._deadline = deadline
        self._max_vcpu_hours = max_vcpu_hours
        self._max_cost = max_cost
        self._limit_at: float | None = None
        self._told_limit = math.inf
        self.last: Simulation | None = None
        self.tell = tell
        self._ahead = ahead
        self._page = page
        self._patience = patience
        self._endless_allowed = endless_allowed
        self._started = started
        self._since = started
        # Silence counts from here: nobody looked while the process was down.
        self._answered = started if now is None else now
        self._last_seen = started
        self._doubt: CloudHPCError | None = None
        self._doubted = started
        self._heartbeats = _GrowingPause(FIRST_HEARTBEAT, LONGEST_HEARTBEAT)
        self._complaints = _GrowingPause(FIRST_COMPLAINT, LONGEST_HEARTBEAT)
        self._heartbeats.restart(self._answered)

    def seen(self, simulation: Simulation, now: float, outlook: str = "") -> Ending | None:
        """
        Take in an answer about the simulation; the wait's ending, or None to go on.

        :param outlook: what is planned next, for the log
        """
        before, self.last = self.last, simulation
        self._last_seen = now
        if before is None or before.status != simulation.status:
            self._tell_change(before, simulation, now)
        ending = ending_of(simulation)
        if ending is not None:
            self._limit_at = None  # it costs no more
            self._answered = now
            return ending
        if simulation.script.endswith(STATIC_SUFFIX) and not self._endless_allowed:
            return self._end(
                EndingKind.ENDLESS,
                f"Simulation {simulation.id} runs {simulation.script!r}: a bare machine, which runs and bills until it "
                "is stopped; waiting would never end. Set both `timeout` and a stop policy for it "
                "(`on_timeout='soft'` or 'hard').",
            )
        self._doubt = None
        self._measure(before, simulation, now)
        self.heard(now)
        self.beat(now, outlook)
        return self.check_deadline(now)

    def heard(self, when: float) -> None:
        """Take in that the service answered at a time, about others perhaps: it was reached, and the key was good."""
        if when > self._answered:
            self._answered = when
            self._complaints.restart(-math.inf)
            if isinstance(self._doubt, CloudHPCAuthError):
                self._doubt = None

    @property
    def heartbeat_at(self) -> float:
        """When a line that says nothing new is due."""
        return self._heartbeats.next

    def beat(self, now: float, outlook: str = "") -> None:
        """
        Tell that nothing has changed, if it is time for that.

        :param outlook: what is planned next, for the log
        """
        if self.last is not None and self._heartbeats.is_due(now):
            plan = f"; {outlook}" if outlook else ""
            self.tell(
                f"Simulation {self.simulation_id} is {self.last.status_name} for {duration(now - self._since)}, "
                f"waiting for {duration(now - self._started)}{plan}"
            )

    def missed(self, error: CloudHPCError, now: float) -> Ending | None:
        """Take in that a look at the simulation failed; the wait's ending, or None to look again."""
        expired = self.check_deadline(now)
        if expired is not None:
            return expired
        if isinstance(error, CloudHPCQuotaError):
            return None  # the service is there, and says when to come back
        if is_said(error):
            # It comes wrongly now and then: once is no proof.
            if self._doubt is None:
                self._doubt, self._doubted = error, now
                self.tell(f"{error} Looking again in {CONFIRM_AFTER:.0f} s.")
                return None
            return self._lost(error, now) if now - self._doubted >= CONFIRM_AFTER else None
        if is_outage(error) and now - self._answered < self._patience:
            if self._complaints.is_due(now):
                self.tell(f"{error} Going on: the simulation does not depend on this connection.")
            return None
        return self._lost(error, now)

    @property
    def deadline(self) -> float | None:
        """When it is given up: the deadline, or when its cost is expected to reach its limit; None for never."""
        if self._deadline is None:
            return self._limit_at
        deadline = self._deadline - self._ahead()
        return deadline if self._limit_at is None else min(deadline, self._limit_at)

    def check_deadline(self, now: float) -> Ending | None:
        """Give the ending ``deadline`` once the time is up, ``limit`` once it has cost what it may cost."""
        if self._limit_at is not None and now >= self._limit_at:
            return self._end(
                EndingKind.LIMIT,
                f"Simulation {self.simulation_id} has cost what it may cost ({self._limits()}) and is "
                f"{self.last.status_name if self.last else 'not seen yet'}. Nothing is known to be wrong with it.",
            )
        late = self._deadline is not None and now >= self._deadline - self._ahead()
        return self.out_of_time() if late else None

    def out_of_time(self) -> Ending:
        """Give the ending ``deadline``, for a caller that keeps the time itself; of an ended run, how it ended."""
        if self.last is not None and (ended := ending_of(self.last)) is not None:
            return ended
        state = self.last.status_name if self.last else "not seen yet"
        return self._end(
            EndingKind.DEADLINE,
            f"The deadline passed while simulation {self.simulation_id} was {state}. "
            "Nothing is known to be wrong with it.",
        )

    @property
    def answered(self) -> float:
        """When the service last answered about it."""
        return self._answered

    @property
    def confirm_at(self) -> float | None:
        """When a doubt is to be confirmed by another look; None while there is none."""
        return None if self._doubt is None else self._doubted + CONFIRM_AFTER

    def _measure(self, before: Simulation | None, simulation: Simulation, now: float) -> None:
        """Work out when the limits are reached, from what the service tells and from how long it has been RUNNING."""
        if self._max_cost is not None and simulation.cost is not None and simulation.cost >= self._max_cost:
            self._limit_at = now
        if self._max_vcpu_hours is None or simulation.status == SimulationStatus.PENDING:
            return
        told = simulation.cpu_hours or 0.0
        if told >= self._max_vcpu_hours:
            self._limit_at = now
        elif simulation.cpu and told > 0:
            # What is told may be a while old, which must not postpone the end.
            self._told_limit = min(self._told_limit, now + (self._max_vcpu_hours - told) / simulation.cpu * 3600)
            self._limit_at = self._told_limit
        elif simulation.cpu and self._limit_at is None:
            since = self._started if before is None else now
            self._limit_at = since + self._max_vcpu_hours / simulation.cpu * 3600

    def _limits(self) -> str:
        known = [
            "" if self._max_vcpu_hours is None else f"max_vcpu_hours={self._max_vcpu_hours:g}",
            "" if self._max_cost is None else f"max_cost={self._max_cost:g} EUR",
        ]
        return ", ".join(filter(None, known))

    def _lost(self, error: CloudHPCError, now: float) -> Ending:
        last = self.last
        ago = duration(now - self._last_seen)
        state = f"{last.status_name} at {moment(self._last_seen + self._ahead())}, {ago} ago" if last else "never"
        return self._end(
            EndingKind.LOST,
            f"Lost sight of simulation {self.simulation_id} (last seen: {state}). This says nothing about the "
            f"simulation itself. {error}",
        )

    def _end(self, kind: EndingKind, message: str) -> Ending:
        billing = f" It may still run and BILL: {self._page}. Running the task again looks at it again; "
        stop = "CloudHPCStopSimulationOperator, or the page, stops it."
        return Ending(kind, self.simulation_id, message + billing + stop, self.last)

    def _tell_change(self, before: Simulation | None, now_is: Simulation, now: float) -> None:
        was = f" after {duration(now - self._since)} of {status_name(before.status)}" if before else ""
        self.tell(f"Simulation {now_is.id} is {now_is.status_name}{was}")
        if now_is.status not in list(SimulationStatus):
            self.tell("This status is not known to this version of the provider: waiting on until one that is.")
        if before is not None:
            self._since = now
        self._heartbeats.restart(now)


class _GrowingPause:
    """Something to be said now and then, ever more rarely."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._pause = first
        self.next = -math.inf

    def restart(self, now: float) -> None:
        """Begin with the first pause again."""
        self._pause = self._first
        self.next = now + self._pause

    def is_due(self, now: float) -> bool:
        """Whether it is time; then the next pause is twice as long."""
        if now < self.next:
            return False
        self.next = now + self._pause
        self._pause = min(2 * self._pause, self._longest)
        return True
