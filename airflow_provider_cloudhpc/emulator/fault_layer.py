# SPDX-License-Identifier: Apache-2.0
"""Makes things go wrong between the network and the service, so that either half of a call can be lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders

from airflow_provider_cloudhpc.emulator import answers, transport
from airflow_provider_cloudhpc.emulator.layers import (
    CALL,
    USER,
    Account,
    App,
    Message,
    Receive,
    Scope,
    Send,
    retry_after,
)

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.faults import Fault
    from airflow_provider_cloudhpc.emulator.ledger import Call
    from airflow_provider_cloudhpc.emulator.world import World

#: A hash that no object here has.
_WRONG_HASH = "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA=="


class FaultLayer:
    """
    Strikes the calls that the world's fault book picks.

    :param app: what answers where nothing goes wrong
    :param account: whose quota headers an API error carries
    """

    def __init__(self, app: App, world: World, account: Account) -> None:
        self._app, self._world, self._account = app, world, account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Strike or pass on."""
        call: Call = scope[CALL]
        fault = None
        if call.surface in ("api", "store"):
            fault = self._world.faults.pick(call.method, call.endpoint, call.surface, call.user)
        if fault is None:
            await self._app(scope, receive, send)
            return
        call.fault = fault.kind
        answer = self._answer(fault, call)
        if answer is not None:
            if scope[USER]:
                send = self._account.with_quota(scope[USER], send, exhausted=fault.kind == "quota")
            await answer(scope, receive, send)
        else:
            await getattr(self, f"_{fault.kind}")(fault.options, scope, receive, send)

    def _answer(self, fault: Fault, call: Call) -> Any:
        """The answer that stands in for the service's; None for faults that do more than answer."""
        options = fault.options
        headers = None
        if "retry_after" in options:
            headers = retry_after(float(options["retry_after"]), bool(options.get("http_date")))
        store = call.surface == "store"
        statuses = {
            "rate_limit": (429, "API calls limit reached.", "RateLimitExceeded"),
            "quota": (403, "API calls limit reached.", "QuotaExceeded"),
            "server_error": (500, "Internal server error.", "InternalError"),
            "unavailable": (503, "Service unavailable.", "ServiceUnavailable"),
            "forbidden": (403, answers.TECHNICAL_PROBLEM, "AccessDenied"),
            "unauthorized": (403, answers.UNAUTHORIZED, "AccessDenied"),
        }
        if fault.kind == "html":
            return answers.maintenance(int(options.get("status", 200)))
        if fault.kind not in statuses:
            return None
        status, message, code = statuses[fault.kind]
        if not store:
            return answers.errors(message, status, headers)
        answer = answers.store_error(status, code, message)
        answer.headers.update(headers or {})
        return answer

    async def _reset_before(self, options: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        read = 0
        while read < int(options.get("at_bytes", 0)):
            message = await receive()
            read += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await self._reset(scope, receive)

    async def _reset_after(self, options: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, _swallow)
        await self._reset(scope, receive)

    async def _late_effect(self, options: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)

        async def replay() -> Message:
            return {"type": "http.request", "body": b"".join(parts), "more_body": False}

        later = self._world.clock.now() + float(options.get("after", 5.0))
        again = dict(scope)
        self._world.agenda.at(later, lambda when: self._world.spawn(self._app(again, replay, _swallow)))  # type: ignore[arg-type]
        await self._reset(scope, receive)

    async def _reset(self, scope: Scope, receive: Receive) -> None:
        scope[CALL].status = None
        transport.reset(scope)  # type: ignore[arg-type]
        await transport.until_gone(receive)

    async def _slow(self, options: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        pace = float(options.get("bytes_per_second", 0))

        async def slow_receive() -> Message:
            message = await receive()
            await _at_pace(len(message.get("body", b"")), pace)
            return message

        async def slow_send(message: Message) -> None:
            body = message.get("body", b"")
            if not pace or len(body) < 2:
                await send(message)
                return
            step = max(1, int(pace / 10))
            for start in range(0, len(body), step):
                last = start + step >= len(body)
                part = {**message, "body": body[start : start + step]}
                await send({**part, "more_body": message.get("more_body", False) if last else True})
                await _at_pace(len(part["body"]), pace)

        await asyncio.sleep(float(options.get("delay", 0)))
        await self._app(scope, slow_receive, slow_send)

    async def _truncated(self, options: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        left: int | None = options.get("at_bytes")
        cut = False

        async def cutting_send(message: Message) -> None:
            nonlocal left, cut
            if cut:
                return
            if message["type"] == "http.response.start":
                if left is None:
                    left = int(MutableHeaders(scope=message).get("content-length", "2")) // 2
                await send(message)
                return
            body = message.get("body", b"")[:left]
            left -= len(body)  # type: ignore[operator]
            cut = left <= 0 or not message.get("more_body")
            await send({**message, "body": body, "more_body": True})

        await self._app(scope, receive, cutting_send)
        if options.get("reset"):
            await asyncio.sleep(0.05)  # what was sent so far is to arrive
            transport.reset(scope)  # type: ignore[arg-type]
        else:
            transport.close(scope)  # type: ignore[arg-type]
        await transport.until_gone(receive)

    async def _wrong_hash(self, options: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        async def lying_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "x-goog-hash" in headers:
                    headers["x-goog-hash"] = _WRONG_HASH
            await send(message)

        await self._app(scope, receive, lying_send)

    async def _changed(self, options: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        from airflow_provider_cloudhpc.emulator.routes.objects import change_object

        change_object(self._world, scope["path"])
        await self._app(scope, receive, send)


async def _swallow(message: Message) -> None:
    """A ``send`` for an answer that nobody gets."""


async def _at_pace(size: int, pace: float) -> None:
    if pace:
        await asyncio.sleep(size / pace)
