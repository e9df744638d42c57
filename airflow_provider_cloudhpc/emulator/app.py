# SPDX-License-Identifier: Apache-2.0
"""Puts the service together: API, store, pages and control behind the layers that every request passes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from airflow_provider_cloudhpc.emulator import answers
from airflow_provider_cloudhpc.emulator.control import Control
from airflow_provider_cloudhpc.emulator.endpoints import API_PREFIX
from airflow_provider_cloudhpc.emulator.fault_layer import FaultLayer
from airflow_provider_cloudhpc.emulator.layers import CALL, USER, Account, App, Guard, Receive, Recorder, Scope, Send
from airflow_provider_cloudhpc.emulator.routes import control as control_routes
from airflow_provider_cloudhpc.emulator.routes import pages, simulation, storage
from airflow_provider_cloudhpc.emulator.routes.objects import store_app
from airflow_provider_cloudhpc.emulator.world import World

_KEY_HELP = "The account's API key; the emulator printed it at its start."
_KEY_SCHEME = APIKeyHeader(name="X-API-key", auto_error=False, description=_KEY_HELP)


def service_app(world: World, control: Control, store_port: int) -> FastAPI:
    """API, pages and control."""
    app = FastAPI(
        title="cloudHPC API v2 (emulated)",
        version="2",
        docs_url=None,
        redoc_url=None,
        openapi_url="/en/catuser/openapi.json",
        redirect_slashes=False,
    )
    app.openapi_version = "3.0.3"  # the newest that the bundled Swagger UI shows
    app.state.store_port = store_port
    api = APIRouter(prefix=API_PREFIX, dependencies=[Depends(_KEY_SCHEME)])
    api.include_router(simulation.router(world))
    api.include_router(storage.router(world))
    app.include_router(api)
    app.include_router(control_routes.router(world, control))
    app.include_router(pages.router(world))
    pages.mount_static(app)

    async def refused(request: Request, error: Exception) -> Any:
        assert isinstance(error, answers.Refused)
        if error.violation:
            call = request.scope[CALL]
            world.violation(error.violation, error.message, f"{call.method} {call.endpoint}", request.scope[USER])
        return answers.errors(error.message, error.status)

    async def no_such_route(request: Request, error: Exception) -> Any:
        assert isinstance(error, HTTPException)
        call = request.scope[CALL]
        if call.surface != "api":
            return answers.errors(str(error.detail), error.status_code)
        detail = f"{request.method} is not served there" if error.status_code == 405 else "no such endpoint"
        world.violation("unknown-endpoint", detail, f"{call.method} {call.endpoint}", request.scope[USER])
        return answers.errors(answers.TECHNICAL_PROBLEM)

    app.add_exception_handler(answers.Refused, refused)
    app.add_exception_handler(HTTPException, no_such_route)
    return app


def build(world: World, control: Control, store_port: int, allowed_hosts: Iterable[str]) -> App:
    """The whole ASGI application, for both ports."""
    service, store = service_app(world, control, store_port), store_app(world)

    def is_store(scope: Scope) -> bool:
        return bool(scope["server"][1] == store_port)

    async def by_port(scope: Scope, receive: Receive, send: Send) -> None:
        if is_store(scope):
            await store(scope, receive, send)
        else:
            # The server leaves the body out.
            await service({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, send)

    account = Account(by_port, world)
    http = Guard(Recorder(FaultLayer(account, world, account), world, is_store), allowed_hosts)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await (_lifespan(world, receive, send) if scope["type"] == "lifespan" else http(scope, receive, send))

    return application


async def _lifespan(world: World, receive: Receive, send: Send) -> None:
    """Keep the world's time from start-up to shutdown."""
    await receive()
    ticker = asyncio.get_running_loop().create_task(world.tick())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    ticker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ticker
    await world.close()
    await send({"type": "lifespan.shutdown.complete"})
