# SPDX-License-Identifier: Apache-2.0
"""An HTTP protocol whose requests know their TCP connection, for faults that no well-behaved server can produce."""

from __future__ import annotations

import asyncio
import socket
import struct
from email.utils import formatdate
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Scope = dict[str, Any]

_KEY = "cloudhpc.transport"


def _spelled(name: bytes) -> bytes:
    """A header's name as it is documented: there are programs that look for it with ``grep``."""
    if name.startswith(b"x-goog-"):
        return name
    return {b"etag": b"ETag"}.get(name) or name.title().replace(b"-Ratelimit-", b"-RateLimit-")


class KnownTransportProtocol(H11Protocol):
    """uvicorn's own protocol; it adds the transport to each request's scope, and spells headers as the service does."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the application for this connection."""
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Scope, receive: Any, send: Any) -> None:
            async def spelling_send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    headers = [(b"date", formatdate(usegmt=True).encode()), *message.get("headers", [])]
                    message = {**message, "headers": [(_spelled(name), value) for name, value in headers]}
                await send(message)

            scope[_KEY] = transport
            await app(scope, receive, spelling_send)

        self.app = with_transport


def reset(scope: Scope) -> None:
    """Break the connection with a TCP RST: what was not yet sent is lost."""
    transport = scope[_KEY]
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def close(scope: Scope) -> None:
    """Close the connection in the ordinary way, once what was written has been sent."""
    scope[_KEY].close()


async def until_gone(receive: Any) -> None:
    """Wait until the server has noticed that the connection is gone; it then asks for no answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
