# SPDX-License-Identifier: Apache-2.0
"""The preflight of a task: the machine, a local case, a folder of the storage."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.diagnosis.case import Case, case_in_storage, case_of
from airflow_provider_cloudhpc.api.diagnosis.checks import CASE_CHECKS, check_machine
from airflow_provider_cloudhpc.api.diagnosis.preflight import Preflight, act_on, check_case, read_preflight
from airflow_provider_cloudhpc.neighbours import argument_of, launches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from airflow_provider_cloudhpc.api.models import LaunchRequest, StorageItem

log = logging.getLogger(__name__)

#: Pause before a folder that seems to lack something is listed again, as listings may lag; seconds.
LOOK_AGAIN = 10.0

#: How the codes of problems begin that a file which comes late solves.
_MISSING = ("NO_", "EMPTY_FOLDER", "PYROSIM_FILE")


def check_machine_before(preflight: str, request: LaunchRequest) -> None:
    """
    Look whether the solver is known not to start on the machine, without asking anybody.

    :raises CloudHPCValueError: it is, and that is to fail; nothing was billed
    """
    mode = read_preflight(preflight)
    if mode is not Preflight.OFF:
        case = Case({}, request.script, request.cpu, request.ram)
        act_on(check_machine(case), mode, _warn, undone="sent or billed")


def _warn(line: str) -> None:
    log.warning("Preflight: %s", line)


def check_folder_before(
    preflight: str, request: LaunchRequest, look: Callable[[], Sequence[StorageItem] | None]
) -> None:
    """
    Look at the storage folder right before a launch in it.

    :param look: lists it; None where nothing can be wrong with it
    :raises CloudHPCValueError: the run is known to fail, and that is to fail; nothing was launched
    """
    mode = read_preflight(preflight)
    for is_last in (False, True):
        items = look()
        if items is None or mode is Preflight.OFF:
            return
        case = case_in_storage(items, script=request.script, cpu=request.cpu, ram=request.ram)
        problems = check_case(case, CASE_CHECKS)
        errors = [problem.code for problem in problems if problem.is_error]
        # Only what is missing may still come; nothing else is worth the wait, nor is a warning.
        may_come = bool(errors) and all(code.startswith(_MISSING) for code in errors)
        if is_last or not may_come or mode is Preflight.WARN:
            act_on(problems, mode, _warn, undone="launched or billed")
            return
        log.info("Something seems to be missing in folder %s; looking again in %.0f s.", request.folder, LOOK_AGAIN)
        time.sleep(LOOK_AGAIN)


def check_before(preflight: str, source: Path, **known: Any) -> None:
    """
    Look for what is known to fail in a local case, and act on it.

    :param known: as of :func:`~airflow_provider_cloudhpc.api.diagnosis.case.case_of`
    :raises CloudHPCValueError: there is something, and it is to fail; nothing was sent
    """
    mode = read_preflight(preflight)
    if mode is not Preflight.OFF and source.exists():
        problems = check_case(case_of(source, **known), CASE_CHECKS)
        act_on(problems, mode, _warn)


def script_of_launches(context: Mapping[str, Any]) -> str:
    """
    Give the solver that the folder of this task, an upload, is launched with by the tasks of its DAG.

    Only tasks whose ``folder`` is this task's output count: another one may be the folder of a mesh.

    :return: "" where none is known, or several are
    """
    scripts = set()
    own = context["task"]
    for task in filter(launches, own.dag.tasks if own.has_dag() else ()):
        folder = argument_of(task, "folder")
        if getattr(getattr(folder, "operator", None), "task_id", None) == own.task_id:
            scripts.add(argument_of(task, "script"))
    first, *others = scripts or {""}
    return first if isinstance(first, str) and "{" not in first and not others else ""
