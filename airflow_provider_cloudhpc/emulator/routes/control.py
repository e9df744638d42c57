# SPDX-License-Identifier: Apache-2.0
"""``/_emulator``: the control desk over HTTP."""

from __future__ import annotations

import base64
import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from airflow_provider_cloudhpc.emulator.control import Control, call
from airflow_provider_cloudhpc.emulator.endpoints import CONTROL_PREFIX
from airflow_provider_cloudhpc.emulator.scheduler import NotPossible
from airflow_provider_cloudhpc.emulator.storage import StorageError

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.world import World

TOKEN_HEADER = "X-Emulator-Token"  # noqa: S105 (the header's name)


def router(world: World, control: Control) -> APIRouter:
    """The control endpoints of a world."""
    routes = APIRouter(prefix=CONTROL_PREFIX, include_in_schema=False)

    def refusal(request: Request) -> JSONResponse | None:
        given = request.headers.get(TOKEN_HEADER, "")
        if secrets.compare_digest(given.encode(), world.control_token.encode()):
            return None
        return JSONResponse({"errors": [f"The control needs its token in the header {TOKEN_HEADER}."]}, 401)

    @routes.get("/ledger")
    async def ledger(request: Request) -> Any:
        if refused := refusal(request):
            return refused
        await world.settle()
        current = world.current_ledger()
        return {
            "launches": [asdict(launch) for launch in current.launches],
            "stops": [asdict(stop) for stop in current.stops],
            "calls": current.by_endpoint("*"),
            "calls_by_user": {user.name: current.count(user=user.name) for user in world.accounts},
            "bills": {id_: asdict(bill) for id_, bill in current.bills.items()},
            "violations": [asdict(violation) for violation in current.violations],
            "bytes_uploaded": current.bytes_uploaded,
            "bytes_downloaded": current.bytes_downloaded,
        }

    @routes.post("/{name}")
    async def do(name: str, request: Request) -> Any:
        if refused := refusal(request):
            return refused
        raw = await request.body()
        try:
            arguments = await request.json() if raw else {}
            if not isinstance(arguments, dict):
                raise ValueError("the arguments must be a JSON object")
            value = call(control, name, arguments)
        except (ValueError, TypeError, NotPossible, StorageError) as error:
            return JSONResponse({"errors": [str(error)]}, 400)
        await world.settle()
        return {"response": base64.b64encode(value).decode() if isinstance(value, bytes) else value}

    return routes
