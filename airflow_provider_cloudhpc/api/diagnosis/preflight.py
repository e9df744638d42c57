# SPDX-License-Identifier: Apache-2.0
"""What is known to fail, found in a case before it is sent or billed, and what is done about it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.diagnosis.checks import CHECKS, Check, Problem
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_cloudhpc.api.diagnosis.case import Case


class Preflight(StrEnum):
    """What a problem does: fail the task before anything is sent, be told, or not be looked for."""

    ERROR = "error"
    WARN = "warn"
    OFF = "off"


def check_case(case: Case, checks: Sequence[Check] = CHECKS) -> list[Problem]:
    """Find what is known to fail in a case; errors first."""
    problems = [problem for check in checks for problem in check(case)]
    return sorted(problems, key=lambda problem: not problem.is_error)


def act_on(problems: Iterable[Problem], mode: Preflight, warn: Callable[[str], None], *, undone: str = "sent") -> None:
    """
    Tell the problems; with mode ``error`` the errors among them are raised.

    :param undone: what does not happen then, for the message
    :raises CloudHPCValueError: naming all of them
    """
    errors = []
    for problem in problems:
        if problem.is_error and mode is Preflight.ERROR:
            errors.append(problem)
        else:
            warn(str(problem))
    if errors:
        raise CloudHPCValueError(
            f"The case would fail on the machine, so nothing was {undone}. "
            + " ".join(map(str, errors))
            + " (preflight='warn' goes on all the same.)"
        )


def read_preflight(value: object) -> Preflight:
    """
    Read ``"error"``, ``"warn"`` or ``"off"``.

    :raises CloudHPCValueError: for anything else
    """
    try:
        return Preflight(str(value))
    except ValueError:
        pass
    raise CloudHPCValueError(f"preflight is {value!r}: one of 'error', 'warn', 'off' is needed.")
