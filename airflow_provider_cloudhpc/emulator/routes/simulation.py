# SPDX-License-Identifier: Apache-2.0
"""``/api/v2/simulation``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from airflow_provider_cloudhpc.emulator.answers import Refused, success
from airflow_provider_cloudhpc.emulator.routes import schema
from airflow_provider_cloudhpc.emulator.routes.common import (
    descending,
    json_body,
    known_id,
    number,
    on_the_wire,
    page_of,
    text,
    user_of,
)
from airflow_provider_cloudhpc.emulator.scheduler import NotPossible
from airflow_provider_cloudhpc.emulator.settings import CPUS, RAMS, SCRIPTS
from airflow_provider_cloudhpc.emulator.simulations import FIELDS, Simulation
from airflow_provider_cloudhpc.emulator.storage import StorageError, check_path

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.world import World


def router(world: World) -> APIRouter:
    """The simulation endpoints of a world."""
    routes = APIRouter(tags=["simulation"])
    orders: dict[tuple[str, str, bool], tuple[int, list[Simulation]]] = {}

    def own(request: Request, id_: str) -> Simulation:
        user = user_of(request).name

        def find(wanted: int) -> Simulation | None:
            simulation = world.scheduler.all.get(wanted)
            return simulation if simulation and simulation.user == user else None

        return known_id(id_, find)

    def ordered(user: str, sort: str, down: bool) -> list[Simulation]:
        """All of a user's simulations that the listing knows, kept until one changes."""
        version, order = orders.get((user, sort, down), (-1, []))
        if version != world.scheduler.version:
            now = world.clock.now()
            order = [s for s in world.scheduler.all.values() if s.user == user and s.listed_at <= now]
            field = FIELDS[sort]
            order.sort(key=lambda s: (*_sort_key(field(s)), s.id), reverse=down)
            orders[(user, sort, down)] = (world.scheduler.version, order)
        return order

    @routes.get("/simulation/view-cpu", summary="vCPU counts on offer", **schema.answer(schema.CPUS))
    async def view_cpu() -> Any:
        return success([str(n) for n in CPUS] if world.settings.numbers == "strings" else list(CPUS))

    @routes.get("/simulation/view-ram", summary="Memory tiers on offer", **schema.answer(schema.STRINGS))
    async def view_ram() -> Any:
        return success(list(RAMS))

    @routes.get("/simulation/view-scripts", summary="Solvers on offer", **schema.answer(schema.STRINGS))
    async def view_scripts() -> Any:
        return success(list(SCRIPTS))

    @routes.post("/simulation/add", summary="Launch a simulation", **schema.call(schema.ADD, schema.ID))
    async def add(request: Request) -> Any:
        body = await json_body(request, ("cpu", "ram", "script", "folder"), ("mesh", "nopre", "clean"))
        user = user_of(request)
        cpu, ram, script = number(body["cpu"], "cpu"), text(body, "ram"), text(body, "script")
        if cpu not in CPUS:
            raise Refused(f"{cpu} vCPU are not available.", "unknown-cpu")
        if ram not in RAMS:
            raise Refused(f"RAM {ram[:50]!r} is not available.", "unknown-ram")
        if script not in SCRIPTS:
            raise Refused(f"Script {script[:80]!r} is not available.", "unknown-script")
        nopre, clean = (number(body.get(name) or 0, name) for name in ("nopre", "clean"))
        if nopre not in (0, 1) or clean not in (0, 1):
            raise Refused("nopre and clean must be 0 or 1.", "bad-value")
        folder, mesh = (_folder(user.name, body, name) for name in ("folder", "mesh"))
        if not folder:
            raise Refused("A folder is needed.", "empty-folder")
        simulation = world.scheduler.launch(
            user, cpu=cpu, ram=ram, script=script, folder=folder, mesh=mesh, nopre=nopre, clean=clean
        )
        return success(str(simulation.id) if world.settings.numbers == "strings" else simulation.id)

    def _folder(user: str, body: dict[str, Any], name: str) -> str:
        try:
            path = check_path(text(body, name), name)
        except StorageError as error:
            raise Refused(f"{error}.", "bad-name") from None
        storage = world.storage(user)
        known = not path or storage.folder(path) or storage.root_archive(path)
        if not known and world.settings.unknown_folder == "refused":
            raise Refused(f"Folder {path!r} does not exist.", "unknown-folder")
        return path

    @routes.get("/simulation/view-short/{id}", summary="One record", **schema.answer(schema.SIMULATION))
    async def view_short(id: str, request: Request) -> Any:
        return success(on_the_wire(own(request, id).record(), world))

    @routes.get("/simulation/view/{id}", summary="One record with its output", **schema.answer(schema.SIMULATION))
    async def view(id: str, request: Request) -> Any:
        simulation = own(request, id)
        record = on_the_wire(simulation.record(), world)
        return success({**record, "logs": "", "output": simulation.output()})

    @routes.get(
        "/simulation/index-short/{sort}/{direction}/{page}",
        summary="A page of records",
        **schema.answer(schema.list_of(schema.SIMULATION), sort=tuple(FIELDS)),
    )
    async def index_short(sort: str, direction: str, page: str, request: Request) -> Any:
        order = ordered(user_of(request).name, sort, descending(direction, sort, tuple(FIELDS)))
        return success([on_the_wire(s.record(), world) for s in page_of(order, page, world)])

    @routes.put("/simulation/stop/{id}", summary="Stop a simulation", **schema.call(schema.SIGNAL, schema.TRUE))
    async def stop(id: str, request: Request) -> Any:
        body = await json_body(request, ("signal",))
        signal = text(body, "signal")
        if signal not in ("SIGTSTP", "SIGINT"):
            raise Refused("The signal is SIGTSTP (soft) or SIGINT (hard).", "bad-signal")
        simulation = own(request, id)
        try:
            world.scheduler.stop(simulation, signal)
        except NotPossible as error:
            raise Refused(f"{error}.") from None
        return success(True)

    @routes.put("/simulation/sync/{id}", summary="Save partial results now", **schema.answer(schema.TRUE))
    async def sync(id: str, request: Request) -> Any:
        try:
            world.scheduler.sync(own(request, id))
        except NotPossible as error:
            raise Refused(f"{error}.") from None
        return success(True)

    return routes


def _sort_key(value: Any) -> tuple[int, float, str]:
    """Empty before numbers before text: a column may hold all of them, and an empty ``edate`` comes first."""
    if value is None or value == "":
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, (int, float)) else (2, 0.0, str(value))
