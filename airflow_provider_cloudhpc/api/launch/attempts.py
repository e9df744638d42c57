# SPDX-License-Identifier: Apache-2.0
"""
Tell a retry from a Clear: a retry goes on with what was launched, a Clear launches again.

Airflow does not say which of the two a try is. Its counters do, most of the time: ``max_tries`` stays the same over
retries, and a Clear sets it to ``try_number + retries``; so an edited ``retries`` can make both look alike.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(Enum):
    """What a try is, seen from an earlier one; ``UNSURE`` where the counters fit both a retry and a Clear."""

    NEW = "new"
    RETRY = "retry"
    CLEAR = "clear"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Attempt:
    """
    Airflow's counters of one try of a task.

    :param try_number: from 1 on, over all Clears
    :param max_tries: the last ``try_number`` after which a retry may follow
    :param retries: the task's own setting, as it is in the DAG at this try
    """

    try_number: int
    max_tries: int
    retries: int

    def to_dict(self) -> dict[str, int]:
        """Give it as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Attempt:
        """Read back what :meth:`to_dict` gave."""
        return cls(int(data["try_number"]), int(data["max_tries"]), int(data["retries"]))


@dataclass(frozen=True)
class Cleared:
    """
    What is known of a Clear of a task that ran, where Airflow's counters do not show it.

    :param simulation_id: what the task stopped then
    :param try_number: of the try that was cleared
    """

    simulation_id: int
    try_number: int


def compare(before: Attempt, now: Attempt) -> Verdict:
    """
    Tell what a try is, from the counters of an earlier try that were kept.

    A Clear with ``retries`` edited before *and* after it may pass for a retry: that one launches nothing.
    """
    if now.max_tries != before.max_tries:
        return Verdict.CLEAR
    if now.try_number > before.max_tries + 1:
        return Verdict.CLEAR  # no retry goes beyond max_tries: it was cleared while it ran
    if now.retries == before.retries:
        return Verdict.RETRY
    # A Clear together with the edit may have set max_tries to the very number that it had.
    cleared_at = now.max_tries - now.retries
    return Verdict.UNSURE if before.try_number <= cleared_at < now.try_number else Verdict.RETRY


def guess(now: Attempt) -> Verdict:
    """
    Tell what a try is, where nothing of earlier tries was kept.

    It takes ``retries`` for unedited. A retry after a Clear is ``UNSURE``: what is found may be from before the Clear.
    """
    if now.try_number <= 1:
        return Verdict.NEW
    if now.try_number == now.max_tries - now.retries + 1:
        return Verdict.CLEAR
    return Verdict.RETRY if now.max_tries == now.retries else Verdict.UNSURE
