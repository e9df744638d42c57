# SPDX-License-Identifier: Apache-2.0
"""What the API's handlers share: reading what the client sent as strictly as the service does, and no stricter."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from airflow_provider_cloudhpc.emulator.answers import TECHNICAL_PROBLEM, Refused
from airflow_provider_cloudhpc.emulator.layers import USER

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.accounts import User
    from airflow_provider_cloudhpc.emulator.world import World

_T = TypeVar("_T")
_MAX_BODY = 1 << 20


def user_of(request: Request) -> User:
    """Whose key came with a request (the account layer has checked it)."""
    user: User = request.scope[USER]
    return user


async def json_body(request: Request, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """
    The JSON object that was sent, whatever its content type says.

    :param required: fields that must be there
    :param optional: fields that may be there
    :raises Refused: for anything else
    """
    raw = b""
    async for block in request.stream():
        raw += block
        if len(raw) > _MAX_BODY:
            raise Refused("The request is too large.", "bad-body")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused("The request's body is not JSON.", "bad-body") from None
    if not isinstance(body, dict):
        raise Refused("The request's body is not a JSON object.", "bad-body")
    if unknown := [name for name in body if name not in required and name not in optional]:
        # As literals: they are a stranger's words, and go into the log.
        raise Refused(f"Unknown field: {', '.join(map(repr, unknown))[:200]}.", "unknown-field")
    if missing := [name for name in required if body.get(name) is None]:
        raise Refused(f"Missing field: {', '.join(missing)}.", "missing-field")
    return body


def text(body: dict[str, Any], name: str) -> str:
    """A field that must be a string; empty where it is absent."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(f"{name} must be a string.", "bad-value")
    return value


def number(value: Any, name: str) -> int:
    """A whole number, as a number or as a string of digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    raise Refused(f"{name} must be a number.", "bad-value")


def known_id(value: str, find: Callable[[int], _T | None]) -> _T:
    """What has this id; anything else is a 'technical problem', as on the service."""
    found = find(int(value)) if value.isascii() and value.isdecimal() and len(value) < 19 else None
    if found is None:
        raise Refused(TECHNICAL_PROBLEM, None if value.isascii() and value.isdecimal() else "bad-id")
    return found


def page_of(items: Sequence[_T], page: str, world: World) -> Sequence[_T]:
    """
    One page of a listing; pages start at 1.

    :param items: all of them, in order
    :param page: as it stands in the path
    """
    wanted, size = number(page, "page"), world.settings.page_size
    if wanted < 1:
        raise Refused("Pages start at 1.", "bad-page")
    if world.settings.repeat_last_page:
        wanted = min(wanted, max(1, -(-len(items) // size)))
    return items[(wanted - 1) * size : wanted * size]


def descending(direction: str, sort: str, fields: Sequence[str]) -> bool:
    """Whether a listing runs downwards; refuses a field or a direction that there is not."""
    if sort not in fields:
        raise Refused(f"Cannot sort by {sort[:50]!r}.", "bad-sort-field")
    if direction not in ("asc", "desc"):
        raise Refused("The direction is asc or desc.", "bad-direction")
    return direction == "desc"


def on_the_wire(record: dict[str, Any], world: World) -> dict[str, Any]:
    """A record in the form that the settings ask for."""
    if world.settings.numbers == "plain":
        return record
    # Dates stay empty strings while there are none: clients tell by that.
    return {
        name: str(value) if isinstance(value, (int, float)) else None if value == "" and name != "edate" else value
        for name, value in record.items()
    }
