# SPDX-License-Identifier: Apache-2.0
"""After the end of a wait: read the run's output once, judge it, tell it in a short report."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.diagnosis.catalogue import Kind
from airflow_provider_cloudhpc.api.diagnosis.scanner import diagnose
from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCError,
    CloudHPCQuotaError,
    CloudHPCValueError,
)
from airflow_provider_cloudhpc.api.lifecycle import ENDED_KINDS, Ending, EndingKind, duration, ending_of
from airflow_provider_cloudhpc.api.models import ACTIVE_STATUSES
from airflow_provider_cloudhpc.api.waiting.in_process import DEFAULT_QUOTA_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.diagnosis.verdict import Diagnosis
    from airflow_provider_cloudhpc.api.models import Simulation

log = logging.getLogger(__name__)

#: Default for how much of an output is read, bytes.
MAX_OUTPUT_BYTES = 32_000_000
#: Pause before a refused call is made again where the service names none, seconds.
_QUOTA_PAUSE = 60.0
#: How often a record is read that is older than the ending, and the pause between two reads, seconds.
_OLD_READS, _OLD_PAUSE = 4, 15.0
_DATE = "%Y-%m-%d %H:%M:%S"


class CheckOutput(StrEnum):
    """What an error in the output of a COMPLETED run does: fail the task, be told, or not be looked for."""

    FAIL = "fail"
    WARN = "warn"
    OFF = "off"


def read_check(value: Any, what: str = "check_output") -> CheckOutput:
    """
    Read ``True``, ``"warn"`` or ``False``.

    :raises CloudHPCValueError: for anything else
    """
    if isinstance(value, bool):
        return CheckOutput.FAIL if value else CheckOutput.OFF
    if value == CheckOutput.WARN:
        return CheckOutput.WARN
    raise CloudHPCValueError(f"{what} is {value!r}: one of True, 'warn', False is needed.")


@dataclass(frozen=True)
class Examined:
    """
    The end of a wait with what the output says.

    :param ending: ``failed`` in place of ``completed`` where the solver failed; its message says all that matters
    :param diagnosis: None where the output was not looked at
    :param page: address of the simulation's page
    :param unchecked: why the output was not looked at
    """

    ending: Ending
    diagnosis: Diagnosis | None
    page: str
    unchecked: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """The final record as plain data, with ``diagnosis`` (None where the output was not looked at)."""
        simulation = self.ending.simulation
        return {
            **(simulation.to_dict() if simulation else {"id": self.ending.simulation_id}),
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis else None,
        }

    def report_lines(self) -> list[str]:
        """Give the short report that a task's log ends with."""
        simulation = self.ending.simulation
        if simulation is None:
            return [f"Simulation {self.ending.simulation_id}: {self.page}"]
        status = simulation.status_name
        if self.ending.kind is EndingKind.FAILED:
            status += " says the service, but the solver FAILED"
        elif self.ending.kind is EndingKind.COMPLETED and self.diagnosis is not None and self.diagnosis.errors:
            status += " says the service, but its output holds an error: taken as it is (check_output='warn')"
        wall, queued = times_of(simulation)
        rows = {
            "Status": status,
            "Wall time": "" if wall is None else duration(wall),
            "Queue time": "" if queued is None else duration(queued),
            "Billed": ", ".join(
                text
                for text in (
                    "" if simulation.cpu_hours is None else f"{simulation.cpu_hours:g} vCPU-hours",
                    "" if simulation.cost is None else f"{simulation.cost:.2f} EUR",
                )
                if text
            ),
            "Diagnosis": self._summary(),
            "Page": self.page,
        }
        machine = f"{simulation.script} on {simulation.cpu} x {simulation.ram}" if simulation.script else ""
        lines = [f"Simulation {simulation.id} {machine and f'({machine}) '}in folder {simulation.folder}"]
        return lines + [f"    {name:<11}{text}" for name, text in rows.items() if text]

    def _summary(self) -> str:
        if self.diagnosis is None:
            return self.unchecked and f"not checked: {self.unchecked}"
        if self.diagnosis.is_clean:  # whether such a run proves its success is no question
            if self.ending.kind is EndingKind.STOPPED:
                return "no error in its output"
            if self.ending.kind is EndingKind.ERROR:
                return "no line of its output is known to explain it: read the last ones, above"
        return self.diagnosis.summary


def times_of(simulation: Simulation) -> tuple[float | None, float | None]:
    """
    Give the wall time of an ended run and how long of it no machine was billed, both in seconds; None where unknown.

    Both dates are the server's own, so their difference holds whatever its time zone.
    """
    try:
        begun, ended = (datetime.strptime(text, _DATE) for text in (simulation.idate, simulation.edate))
    except ValueError:
        return None, None
    wall = (ended - begun) / timedelta(seconds=1)
    if wall < 0:
        return None, None
    if simulation.cpu_hours is None or not simulation.cpu:
        return wall, None
    return wall, max(0.0, wall - simulation.cpu_hours / simulation.cpu * 3600)


def examine(
    client: CloudHPCClient,
    ending: Ending,
    *,
    check: CheckOutput = CheckOutput.FAIL,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    quota_wait: float = DEFAULT_QUOTA_WAIT,
    sleep: Callable[[float], None] = time.sleep,
) -> Examined:
    """
    Read the output of a run that has ended, and judge: one ``GET /simulation/view/{id}``.

    The ending stays as it is where the run is not known to have ended. One whose output could not be read is ``lost``
    if it is to be checked: nothing says that it succeeded.

    :param max_output_bytes: bytes of the output that are looked at: of a longer one its beginning and its end
    :param quota_wait: seconds that are waited for the account's calls to be free
    """
    page = client.simulation_page(ending.simulation_id)
    if ending.kind not in ENDED_KINDS:
        return Examined(ending, None, page)
    if check is CheckOutput.OFF:
        return Examined(ending, None, page, "check_output=False")
    try:
        record = _view(client, ending.simulation_id, max_output_bytes, quota_wait, sleep)
    except CloudHPCError as error:
        return Examined(_unread(ending, error, check, page), None, page, "the output could not be read")
    ending = _completed_by(ending, record)
    diagnosis = diagnose(
        record.output,
        script=record.script,
        ram=record.ram,
        complete=record.output_is_whole,
        tail=record.output_tail,
    )
    if ending.kind is EndingKind.STOPPED:  # that it did not finish is no finding then, and what ended it is known
        found = [one for one in diagnosis.findings if one.kind is not Kind.NOT_FINISHED and one.code != "TERMINATED"]
        diagnosis = replace(diagnosis, findings=tuple(found))
    return Examined(_judge(ending, diagnosis, check, page), diagnosis, page)


def _view(
    client: CloudHPCClient, simulation_id: int, max_bytes: int, quota_wait: float, sleep: Callable[[float], None]
) -> Simulation:
    waited, reads = 0.0, 0
    while True:
        try:
            record = client.view_simulation(simulation_id, max_bytes=max_bytes)
        except CloudHPCQuotaError as error:
            pause = max(1.0, error.retry_after or _QUOTA_PAUSE)
            waited += pause
            if waited > quota_wait:
                raise
            log.info("%s The output is read in %s.", error, duration(pause))
        else:
            if record.status not in ACTIVE_STATUSES:
                return record
            reads += 1
            if reads == _OLD_READS:
                raise CloudHPCAnswerError(
                    f"The service gave an output of when it was {record.status_name}, {reads} times.",
                    transient=True, status=200, method="GET", endpoint="/simulation/view/{id}",
                )  # fmt: skip
            pause = _OLD_PAUSE
        sleep(pause)


def _completed_by(ending: Ending, record: Simulation) -> Ending:
    """Take over the final record: it was read last, so its word counts; a long answer is cut, so it may say none."""
    known = ending.simulation
    if known is not None:
        gaps = {name for name, value in vars(record).items() if value in (None, "")} - {"output"}
        record = replace(record, **{name: getattr(known, name) for name in gaps})
        if not record.is_terminal:
            record = known
    ending = ending if known is not None and record.status == known.status else ending_of(record) or ending
    return replace(ending, simulation=replace(record, output=None, output_tail=None))


def _unread(ending: Ending, error: CloudHPCError, check: CheckOutput, page: str) -> Ending:
    if ending.kind is EndingKind.COMPLETED and check is CheckOutput.FAIL:
        return replace(
            ending,
            kind=EndingKind.LOST,
            message=f"{ending.message} But its output could not be read, so whether its solver succeeded is NOT known: "
            f"{error} It bills no longer. Running the task again reads the output again. ({page})",
        )
    return replace(ending, message=f"{ending.message} Its output was not checked: {error} ({page})")


def _judge(ending: Ending, diagnosis: Diagnosis, check: CheckOutput, page: str) -> Ending:
    if ending.kind is not EndingKind.COMPLETED:
        return replace(ending, message=f"{ending.message}{_tail(diagnosis)} ({page})")
    if not diagnosis.errors or check is not CheckOutput.FAIL:
        return ending
    return replace(
        ending,
        kind=EndingKind.FAILED,
        message=f"Simulation {ending.simulation_id} is COMPLETED for the service, but its solver FAILED."
        f"{_tail(diagnosis)} ({page})",
    )


def _tail(diagnosis: Diagnosis) -> str:
    error = diagnosis.main_error
    if error is None:
        return ""
    # The platform's own words say that it failed; how the solver ended says more.
    ends = [check.detail for check in diagnosis.checks if check.finished is False and error.kind is Kind.PLATFORM]
    ended = f" In the output {'; '.join(ends)}." if ends else ""
    more = f" ({len(diagnosis.errors) - 1} more: see the log.)" if len(diagnosis.errors) > 1 else ""
    ram = f" The next RAM tier is {diagnosis.next_ram!r}." if diagnosis.next_ram else ""
    return f" {error.in_a_sentence}{ended}{ram}{more}"
