# SPDX-License-Identifier: Apache-2.0
"""
Pages to look at: the overview, one per simulation, and the API page with "Try it out".

A page refreshes itself through ``/live/...``, with a session cookie of its own: looking costs no API call.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

from airflow_provider_cloudhpc.emulator.clock import service_date
from airflow_provider_cloudhpc.emulator.simulations import Simulation

if TYPE_CHECKING:
    from fastapi import FastAPI

    from airflow_provider_cloudhpc.emulator.world import World

_HERE = Path(__file__).parent.parent
_SHOWN = 50
_TAIL = 12_000
_HEADERS = {
    # Swagger UI styles its elements in place and draws its icons from data URLs.
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
}


def router(world: World) -> APIRouter:
    """The pages of a world."""
    routes = APIRouter(include_in_schema=False)
    templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, trim_blocks=True)
    templates.filters["date"] = service_date
    templates.filters["bytes"] = _bytes
    templates.filters["span"] = _span
    templates.filters["euro"] = _euro

    def render(name: str, **values: Any) -> str:
        return templates.get_template(name).render(**values)

    def cookie(request: Request) -> str:
        return f"cloudhpc_emulator_{request.scope['server'][1]}"

    def page(request: Request, name: str, title: str, live: str, **values: Any) -> HTMLResponse:
        content = render(f"_{name}.html", **values)
        answer = HTMLResponse(render("page.html", title=title, live=live, content=content), headers=_HEADERS)
        # Cookies know no ports: not to be shown to the store, nor to be mixed up with another emulator's.
        answer.set_cookie(cookie(request), world.page_session, path="/live", httponly=True, samesite="strict")
        return answer

    def refreshed(request: Request, name: str, **values: Any) -> Response:
        if not secrets.compare_digest(request.cookies.get(cookie(request), "").encode(), world.page_session.encode()):
            return JSONResponse({"errors": ["Reload the page."]}, 401)
        return JSONResponse({"html": render(f"_{name}.html", **values)}, headers={"cache-control": "no-store"})

    def overview_values() -> dict[str, Any]:
        now = world.clock.now()
        every = list(world.scheduler.all.values())
        # The newest, and whatever bills however old it is.
        shown = sorted(every, key=lambda s: (s.status.active, s.id))[-_SHOWN:]
        calls = [call for call in world.ledger.calls if call.surface in ("api", "store")][-30:]
        return {
            "now": now,
            "speed": world.clock.speed,
            "users": [(user, _quota(user, now)) for user in world.accounts],
            "simulations": [(s, s.bill(now)) for s in sorted(shown, key=lambda s: -s.id)],
            "hidden": max(0, len(every) - _SHOWN),
            "active": sum(s.status.active for s in every),
            "total": len(every),
            "cost": sum(s.bill(now).cost for s in every),
            "stored": sum(len(world.storage(user.name)) for user in world.accounts),
            "ledger": world.ledger,
            "calls": calls[::-1],
            "violations": world.ledger.violations[: -_SHOWN - 1 : -1],
            "faults": world.faults.waiting(),
        }

    def simulation_values(simulation: Simulation) -> dict[str, Any]:
        now = world.clock.now()
        folder = world.storage(simulation.user).find(simulation.folder)
        output = simulation.output()
        files = sorted(folder.files(), key=lambda node: node.name) if folder else []
        return {
            "now": now,
            "s": simulation,
            "bill": simulation.bill(now),
            "quota": _quota(world.accounts.get(simulation.user), now),
            "files": files[:200],
            "hidden": max(0, len(files) - 200),
            "output": output[-_TAIL:],
            "cut": len(output) > _TAIL,
        }

    def find(id_: str) -> Simulation | None:
        return world.scheduler.all.get(int(id_)) if id_.isascii() and id_.isdecimal() and len(id_) < 19 else None

    @routes.get("/")
    async def overview(request: Request) -> Response:
        return page(request, "overview", "Overview", "/live/overview", **overview_values())

    @routes.get("/live/overview")
    async def live_overview(request: Request) -> Response:
        return refreshed(request, "overview", **overview_values())

    @routes.get("/en/simulation/view/{id}")
    async def simulation_page(id: str, request: Request) -> Response:
        simulation = find(id)
        if simulation is None:
            content = render("_missing.html", id=id)
            return HTMLResponse(render("page.html", title="Not found", live="", content=content), 404, _HEADERS)
        values = simulation_values(simulation)
        return page(request, "simulation", f"Simulation {id}", f"/live/simulation/{id}", **values)

    @routes.get("/live/simulation/{id}")
    async def live_simulation(id: str, request: Request) -> Response:
        simulation = find(id)
        if simulation is None:
            return JSONResponse({"html": render("_missing.html", id=id)})
        return refreshed(request, "simulation", **simulation_values(simulation))

    @routes.get("/en/catuser/view-api")
    async def api_page() -> Response:
        return HTMLResponse(render("swagger.html"), headers=_HEADERS)

    return routes


def mount_static(app: FastAPI) -> None:
    """Serve the pages' own files and those of Swagger UI: nothing comes from the internet."""
    app.mount("/static/swagger", StaticFiles(directory=swagger_ui_path))
    app.mount("/static", StaticFiles(directory=_HERE / "static"))


def _quota(user: Any, now: float) -> list[dict[str, Any]]:
    parts = []
    for name, window in (("this hour", user.quota.hourly), ("today", user.quota.daily)):
        used = window.used(now)
        share = min(100.0, 100.0 * used / window.limit) if window.limit else 0.0
        parts.append({"name": name, "used": used, "limit": window.limit, "share": share})
    return parts


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _euro(cost: float) -> str:
    return "< € 0.0001" if 0 < cost < 0.00005 else f"€ {cost:.4f}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
