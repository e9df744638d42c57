# SPDX-License-Identifier: Apache-2.0
"""What every request passes before it reaches its handler: the guard, the ledger, the account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

from airflow_provider_cloudhpc.emulator import answers
from airflow_provider_cloudhpc.emulator.endpoints import identify, plain_path
from airflow_provider_cloudhpc.emulator.ledger import Call

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.accounts import User
    from airflow_provider_cloudhpc.emulator.world import World

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CALL = "cloudhpc.call"
USER = "cloudhpc.user"


class Guard:
    """
    Refuses requests that name another host: a web page elsewhere must not reach what runs scripts here (DNS rebinding).

    :param app: what it protects
    :param allowed: further host names
    """

    def __init__(self, app: App, allowed: Iterable[str] = ()) -> None:
        self._app = app
        self._allowed = LOOPBACK | {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in or not."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        hosts = headers.getlist("host")
        # HTTP/1.0 knows no Host; a browser always sends one.
        if len(hosts) > 1 or not (self._known(hosts[0]) if hosts else scope["http_version"] == "1.0"):
            await answers.errors("This host name is not served here (see --allow-host).", 421)(scope, receive, send)
            return
        # "null" is what sandboxed pages and local files send.
        if origin is not None and not self._known(origin.partition("://")[2]):
            await answers.errors("Pages of other sites may not call this server.", 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _known(self, authority: str) -> bool:
        name = authority.lower().rpartition(":")[0] if _has_port(authority) else authority.lower()
        return name.strip("[]").rstrip(".") in self._allowed


def _has_port(authority: str) -> bool:
    return authority.rpartition(":")[2].isdigit() and (authority.count(":") == 1 or "]:" in authority)


class Recorder:
    """Takes down every request in the ledger: as it arrives, so that a test that has its answer finds it there."""

    def __init__(self, app: App, world: World, is_store: Callable[[Scope], bool]) -> None:
        self._app, self._world, self._is_store = app, world, is_store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record and pass on."""
        world = self._world
        world.pump()
        store = self._is_store(scope)
        if not store:
            scope["path"] = plain_path(scope["path"])
        surface, template = identify(scope["path"], store)
        user = world.accounts.by_key(Headers(scope=scope).get("x-api-key", "")) if surface == "api" else None
        call = Call(world.clock.now(), user.name if user else None, scope["method"], template, surface)
        scope[CALL], scope[USER] = call, user
        world.ledger.arrive(call)

        async def counted_receive() -> Message:
            message = await receive()
            call.received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            else:
                call.sent += len(message.get("body", b""))
            await send(message)

        await self._app(scope, counted_receive, counted_send)


class Account:
    """Checks the key of an API call and counts it against the quota; every answer carries the quota's headers."""

    def __init__(self, app: App, world: World) -> None:
        self._app, self._world = app, world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a call in or not."""
        call: Call = scope[CALL]
        if call.surface != "api":
            await self._app(scope, receive, send)
            return
        world, user = self._world, scope[USER]
        if user is None:
            self._record_bad_key(scope, call)
            await answers.errors(answers.UNAUTHORIZED)(scope, receive, send)
            return
        wait = user.quota.take(world.clock.now())
        send = self.with_quota(user, send)
        if wait:
            await self._refusal(wait)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def with_quota(self, user: User, send: Send, exhausted: bool = False) -> Send:
        """A ``send`` that adds the quota's headers."""

        async def send_with_quota(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(user.quota.headers(self._world.clock.now(), exhausted))
            await send(message)

        return send_with_quota

    def _refusal(self, wait: float) -> Any:
        kind = self._world.settings.quota_refusal
        real = wait / (self._world.clock.speed or 1.0)
        headers = retry_after(real, kind == "429-date") if kind in ("429-seconds", "429-date") else None
        return answers.errors("API calls limit reached.", 403 if kind == "403" else 429, headers)

    def _record_bad_key(self, scope: Scope, call: Call) -> None:
        keys = Headers(scope=scope).getlist("x-api-key")
        endpoint = f"{call.method} {call.endpoint}"
        if not keys or not keys[0]:
            self._world.violation("missing-key", "no X-API-key header", endpoint, None)
        elif not self._world.accounts.was_valid(keys[0]):
            self._world.violation("unknown-key", "a key that no user ever had", endpoint, None)


def retry_after(seconds: float, as_date: bool) -> dict[str, str]:
    """The ``Retry-After`` header, in real time, in one of its two forms."""
    if as_date:
        return {"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)}
    return {"retry-after": str(max(1, round(seconds)))}
