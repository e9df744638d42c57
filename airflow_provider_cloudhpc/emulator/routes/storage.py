# SPDX-License-Identifier: Apache-2.0
"""``/api/v2/storage`` and ``/api/v2/user``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse

from airflow_provider_cloudhpc.emulator.answers import TECHNICAL_PROBLEM, Refused, success
from airflow_provider_cloudhpc.emulator.routes import schema
from airflow_provider_cloudhpc.emulator.routes.common import (
    descending,
    json_body,
    known_id,
    on_the_wire,
    page_of,
    text,
    user_of,
)
from airflow_provider_cloudhpc.emulator.storage import SORT_FIELDS, Node, StorageError, check_path

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.world import World

_FOLDER_FIRST = "Name the file: filename must not be empty and hold no slash."


def router(world: World) -> APIRouter:
    """The storage endpoints of a world."""
    routes = APIRouter(tags=["storage"])

    def own(request: Request, id_: str) -> Node:
        return known_id(id_, world.storage(user_of(request).name).by_id)

    def signed(request: Request, name: str, method: str, content_type: str = "") -> str:
        """A URL on the store's port of the host by which the client knows us."""
        origin = f"{request.url.scheme}://{_bare_host(request)}:{request.app.state.store_port}"
        now, lifetime = world.clock.now(), world.settings.url_lifetime
        return world.signer.sign(origin, name, method, now, lifetime, content_type)

    def download_link(request: Request, node: Node) -> str:
        if node.is_dir:
            raise Refused(TECHNICAL_PROBLEM, "download-of-folder")
        return signed(request, f"{user_of(request).name}/{node.name}", "GET")

    @routes.post("/storage/upload-url", summary="Get upload URL", **schema.call(schema.UPLOAD, schema.LINK))
    async def upload_url(request: Request) -> Any:
        body = await json_body(request, ("dirname", "filename", "contentType"))
        dirname, filename, content_type = (text(body, name) for name in ("dirname", "filename", "contentType"))
        if not content_type.isascii() or "/" not in content_type or not content_type.isprintable():
            raise Refused("contentType is needed.", "bad-content-type")
        if not filename or "/" in filename:
            raise Refused(_FOLDER_FIRST, "bad-name")
        try:
            path = f"{check_path(dirname, 'dirname')}/{check_path(filename, 'filename')}".lstrip("/")
        except StorageError as error:
            raise Refused(f"{error}.", "bad-name") from None
        return success({"url": signed(request, f"{user_of(request).name}/{path}", "PUT", content_type)})

    @routes.post("/storage/view-by-path", summary="Get one by path", **schema.call(schema.PATH, schema.ITEM))
    async def view_by_path(request: Request) -> Any:
        path = text(await json_body(request, ("path",)), "path").strip("/")
        node = world.storage(user_of(request).name).find(path)
        if not path or node is None or not node.shown:
            raise Refused(TECHNICAL_PROBLEM)
        return success(on_the_wire(node.record(), world))

    @routes.get("/storage/download/{id}", summary="Download one by id", **schema.answer(schema.LINK))
    async def download(id: str, request: Request) -> Any:
        url, shape = download_link(request, own(request, id)), world.settings.download_shape
        if shape == "redirect":
            return RedirectResponse(url, 302)
        return success({"bare": url, "nothing": None}[shape] if shape in ("bare", "nothing") else {shape: url})

    @routes.get("/storage/view-url/{id}", summary="Get a file's link", **schema.answer(schema.LINK))
    async def view_url(id: str, request: Request) -> Any:
        node, now = own(request, id), world.clock.now()
        url = download_link(request, node)
        if node.asked_url_at is None:
            node.asked_url_at = now
        ready = now >= node.asked_url_at + world.settings.view_url_delay
        empty = None if world.settings.numbers == "strings" else ""
        return success({"mediaLink": url if ready else empty})

    def one_page(request: Request, folder: Node, sort: str, direction: str, page: str) -> Any:
        storage = world.storage(user_of(request).name)
        order = storage.listing(folder, sort, descending(direction, sort, SORT_FIELDS))
        return success([on_the_wire(node.record(), world) for node in page_of(order, page, world)])

    listing = schema.answer(schema.list_of(schema.ITEM), sort=SORT_FIELDS)

    @routes.get("/storage/index/{sort}/{direction}/{page}", summary="A page of the root", **listing)
    async def index(sort: str, direction: str, page: str, request: Request) -> Any:
        return one_page(request, world.storage(user_of(request).name).root, sort, direction, page)

    @routes.get("/storage/index/{sort}/{direction}/parent_id/{id}/{page}", summary="A page of a folder", **listing)
    async def index_of_folder(sort: str, direction: str, id: str, page: str, request: Request) -> Any:
        folder = own(request, id)
        if not folder.is_dir:
            raise Refused(TECHNICAL_PROBLEM)
        return one_page(request, folder, sort, direction, page)

    @routes.delete("/storage/delete/{id}", summary="Delete a file or a folder", **schema.answer(schema.TRUE))
    async def delete(id: str, request: Request) -> Any:
        world.storage(user_of(request).name).delete(own(request, id))
        return success(True)

    @routes.delete("/user/delete-cache", tags=["user"], summary="Delete the cache", **schema.answer(schema.TRUE))
    async def delete_cache(request: Request) -> Any:
        world.delete_cache(user_of(request).name)
        return success(True)

    return routes


def _bare_host(request: Request) -> str:
    """The host name the client used, without port; an IPv6 address in its brackets."""
    name = request.url.hostname or "127.0.0.1"
    return f"[{name}]" if ":" in name else name
