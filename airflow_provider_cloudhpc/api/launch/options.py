# SPDX-License-Identifier: Apache-2.0
"""
What a launch may ask for, checked before anything is billed.

Known values are shipped, so that the usual launch costs no look-up; the account's own lists are asked only for a value
that is not among them.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCRefusedError, CloudHPCValueError
from airflow_provider_cloudhpc.api.models import LaunchRequest, to_int
from airflow_provider_cloudhpc.api.names import check_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_cloudhpc.api.client import CloudHPCClient

CPU_COUNTS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 112, 192, 224)
RAM_TIERS = ("highcpu", "standard", "highmem", "hypercpu", "basegpu", "highcore", "hypercore")
#: Some of the solvers; the account's list has more, and newer ones.
SCRIPTS = (
    "fds6.9.1",
    "openFoam-v2406",
    "snappyHexMesh-v2312",
    "calculiX-2.21-PARDISO",
    "codeAster-17.0_mpi",
    "SU2_8.3",
    "custom-script",
    "ubuntu-2404-static",
)

_SWITCHES = {"true": True, "false": False, "none": None, "": None}


def build_request(
    *, cpu: object, ram: object, script: object, folder: object, mesh: object = None, preemptible: object = None
) -> LaunchRequest:
    """
    Check the form of a launch's values, without asking the service.

    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    count = None if isinstance(cpu, bool) else to_int(cpu)
    if count is None or count <= 0:
        raise CloudHPCValueError(f"cpu is {cpu!r}: a number of vCPUs is needed, one of {_listed(CPU_COUNTS)}.")
    for value, what, known in ((ram, "ram", RAM_TIERS), (script, "script", SCRIPTS)):
        if not isinstance(value, str) or not value.strip():
            raise CloudHPCValueError(f"{what} is {value!r}: a name is needed, such as {_listed(known)}.")
    if isinstance(preemptible, str):  # as a template leaves it
        preemptible = _SWITCHES.get(preemptible.strip().lower(), preemptible)
    if preemptible is not None and not isinstance(preemptible, bool):
        raise CloudHPCValueError(f"preemptible is {preemptible!r}: True, False or None is needed.")
    return LaunchRequest(
        cpu=count,
        ram=str(ram).strip(),
        script=str(script).strip(),
        folder=check_folder(folder),  # type: ignore[arg-type]
        mesh=check_folder(mesh, "mesh") if mesh else None,  # type: ignore[arg-type]
        preemptible=preemptible,
    )


def check_offered(
    client: CloudHPCClient, request: LaunchRequest, *, rungs: Sequence[str] = (), ask_all: bool = False
) -> None:
    """
    Check that the account is offered what a launch asks for.

    Asks ``GET /simulation/view-{cpu,ram,scripts}`` only for a value that is not shipped as known.

    :param rungs: RAM tiers that may be asked for later
    :param ask_all: ask the account for every list, as after a refusal
    :raises CloudHPCValueError: naming the argument, the value and the near ones
    """
    questions: tuple[tuple[str, object, Sequence[object], Callable[[], Sequence[object]]], ...] = (
        ("cpu", request.cpu, CPU_COUNTS, client.view_cpu),
        ("ram", request.ram, RAM_TIERS, client.view_ram),
        ("script", request.script, SCRIPTS, client.view_scripts),
        *(("ram_ladder", rung, RAM_TIERS, client.view_ram) for rung in rungs),
    )
    for what, value, known, ask in questions:
        if value in known and not ask_all:
            continue
        offered = ask()
        if offered and value not in offered:
            raise CloudHPCValueError(f"{what} is {value!r}: this account is not offered it. {_near(value, offered)}")


def explain_refusal(client: CloudHPCClient, request: LaunchRequest, refusal: CloudHPCRefusedError) -> CloudHPCError:
    """Find out whether a refused launch asked for something that is not offered; give the clearer error."""
    try:
        check_offered(client, request, ask_all=True)
    except CloudHPCValueError as error:
        return error
    except CloudHPCError:
        pass
    return refusal


def _listed(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)


def _near(value: object, offered: Sequence[object]) -> str:
    if isinstance(value, int):
        numbers = [number for number in offered if isinstance(number, int)]
        near: Sequence[object] = sorted(sorted(numbers, key=lambda number: abs(number - value))[:3])
    else:
        names = {str(name).lower(): name for name in offered}
        near = [names[name] for name in difflib.get_close_matches(str(value).lower(), list(names), n=5, cutoff=0.4)]
    hint = f"Near: {_listed(near)}. " if near else ""
    return f"{hint}Offered: {_listed(offered)}."
