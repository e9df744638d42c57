# SPDX-License-Identifier: Apache-2.0
"""An HTTP protocol whose requests know their TCP connection, for faults that no well-behaved server can produce."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Scope = dict[str, Any]

_KEY = "cloudhpc.transport"


class KnownTransportProtocol(H11Protocol):
    """uvicorn's own protocol; it only adds the transport to each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the application for this connection."""
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Scope, receive: Any, send: Any) -> None:
            scope[_KEY] = transport
            await app(scope, receive, send)

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
