# SPDX-License-Identifier: Apache-2.0
"""The object store behind the signed URLs: another port, no key, bytes only, in constant memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from io import FileIO
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_cloudhpc.emulator.answers import store_error
from airflow_provider_cloudhpc.emulator.blobs import BLOCK, Blob
from airflow_provider_cloudhpc.emulator.storage import Node, StorageError

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.world import World


def store_app(world: World) -> Starlette:
    """The store of a world."""

    async def put(request: Request) -> Response:
        name, refusal = _checked(world, request)
        if refusal:
            return refusal
        headers = request.headers
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return _violation(world, request, 411, "MissingContentLength", "no-length", "a PUT must say its length")
        if "content-length" not in headers and not world.settings.chunked_put:
            return _violation(world, request, 411, "MissingContentLength", "chunked-put", "a chunked PUT is not taken")
        try:
            writer = world.blobs.writer()
            try:
                async for block in request.stream():
                    writer.write(block)
                announced = headers.get("content-length")
                if announced is not None and writer.size != int(announced):
                    raise ClientDisconnect
                blob = writer.finish(world.clock.now(), headers.get("content-type", ""))
            except BaseException:
                writer.discard()
                raise
        except ClientDisconnect:
            return Response(status_code=400)
        except OSError as error:  # a full disk, a reset amid the upload
            return store_error(503, "ServiceUnavailable", f"the emulator could not store this: {error.strerror}")
        user, _, path = name.partition("/")
        try:
            world.store(user, path, blob)
        except StorageError as error:
            writer.discard()
            return _violation(world, request, 409, "Conflict", "path-conflict", str(error))
        world.ledger.bytes_uploaded += blob.size
        return Response(headers=_object_headers(blob))

    async def get(request: Request) -> Response:
        reads = "GET" if world.settings.signed_head else request.method
        name, refusal = _checked(world, request, reads)
        if refusal:
            return refusal
        node = _node(world, name)
        if node is None or node.blob is None:
            return store_error(404, "NoSuchKey", "The specified key does not exist.")
        blob = node.blob
        headers = {
            **_object_headers(blob),
            "accept-ranges": "bytes",
            "content-type": blob.content_type or "application/octet-stream",
            "content-disposition": _disposition(node.basename),
            "last-modified": formatdate(blob.created, usegmt=True),
        }
        start, end = 0, blob.size
        wanted = request.headers.get("range", "")
        condition = request.headers.get("if-range")
        status = 200
        if wanted and condition in (None, blob.etag, headers["last-modified"]):
            span = _range(wanted, blob.size)
            if span == (0, 0):
                answer = store_error(416, "InvalidRange", "The requested range cannot be satisfied.")
                answer.headers["content-range"] = f"bytes */{blob.size}"
                return answer
            if span:
                start, end = span
                status = 206
                headers["content-range"] = f"bytes {start}-{end - 1}/{blob.size}"
        headers["content-length"] = str(end - start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        # Opened at once: the object may be deleted or written anew before its first byte is sent.
        file = blob.path.open("rb", buffering=0)
        return StreamingResponse(_bytes(world, file, start, end), status, headers)

    async def other(request: Request) -> Response:
        return _violation(world, request, 405, "MethodNotAllowed", "bad-method", f"{request.method} is not served here")

    everything = "/{path:path}"
    return Starlette(
        routes=[
            Route(everything, put, methods=["PUT"]),
            Route(everything, get, methods=["GET", "HEAD"]),
            Route(everything, other, methods=["POST", "DELETE", "PATCH", "OPTIONS"]),
        ]
    )


def _object_headers(blob: Blob) -> dict[str, str]:
    return {"etag": blob.etag, "x-goog-hash": blob.goog_hash, "x-goog-generation": str(blob.generation)}


def _disposition(name: str) -> str:
    plain = name.isascii() and "\\" not in name
    return f'attachment; filename="{name}"' if plain else f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _checked(world: World, request: Request, method: str = "PUT") -> tuple[str, Response | None]:
    """The object's name, and the refusal where the request is not allowed."""
    # The server has decoded it already: once more, and a name with a percent sign would be another.
    bucket, _, name = request.scope["path"].lstrip("/").partition("/")
    if "x-api-key" in request.headers:
        detail = "the API key was sent to the store, which is another host"
        return name, _violation(world, request, 400, "InvalidArgument", "key-sent-to-store", detail)
    # A browser sends the cookies of every program on this machine: cookies know no ports.
    cookie = "cookie" in request.headers and "sec-fetch-mode" not in request.headers
    if cookie or "authorization" in request.headers:
        detail = "other credentials came along with a signed URL"
        return name, _violation(world, request, 400, "InvalidArgument", "credentials-sent-to-store", detail)
    refusal = world.signer.check(
        method,
        request.headers.get("host", ""),
        name if bucket == world.signer.bucket else "",
        request.url.query,
        world.clock.now(),
        request.headers.get("content-type", ""),
    )
    if refusal:
        return name, _violation(world, request, refusal.status, refusal.code, refusal.kind, refusal.detail)
    return name, None


def _violation(world: World, request: Request, status: int, code: str, kind: str, detail: str) -> Response:
    world.violation(kind, detail, f"{request.method} /signed-url", None)
    return store_error(status, code, detail)


def _node(world: World, name: str) -> Node | None:
    user, _, path = name.partition("/")
    return world.storage(user).find(path)


def change_object(world: World, path: str) -> None:
    """Give an object other bytes of the same length, as if somebody had uploaded it again just now."""
    node = _node(world, path.lstrip("/").partition("/")[2])
    if node is None or node.blob is None:
        return
    old = node.blob
    writer = world.blobs.writer()
    with old.path.open("rb") as file:
        first = file.read(1)
        writer.write(bytes(255 - b for b in first))
        while block := file.read(BLOCK):
            writer.write(block)
    owner = path.lstrip("/").partition("/")[2].partition("/")[0]
    world.store(owner, node.name, writer.finish(world.clock.now(), old.content_type), listed=True)


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Start and end of a single byte range; ``(0, 0)`` where it cannot be satisfied, None where it is to be ignored."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip())
    if not match or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    return (start, end) if start < end else (0, 0)


async def _bytes(world: World, file: FileIO, start: int, end: int) -> AsyncIterator[bytes]:
    with file:
        file.seek(start)
        while start < end:
            block = file.read(min(BLOCK, end - start))
            if not block:
                return
            start += len(block)
            world.ledger.bytes_downloaded += len(block)
            yield block
