# SPDX-License-Identifier: Apache-2.0
"""What the OpenAPI page says of requests and answers. The handlers read bodies themselves: the service is laxer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

_NUMBER: Schema = {"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "string"}], "nullable": True}
_TEXT: Schema = {"type": "string", "nullable": True}

STRINGS: Schema = {"type": "array", "items": {"type": "string"}}
CPUS: Schema = {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}
ID: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
TRUE: Schema = {"type": "boolean"}
LINK: Schema = {
    "anyOf": [
        _TEXT,
        {"type": "object", "properties": {"url": {"type": "string"}, "mediaLink": _TEXT}},
    ]
}
SIMULATION: Schema = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("id", "user_id", "cpu", "nopre", "clean", "cpu_hrs", "cost", "status"), _NUMBER),
        **dict.fromkeys(("ram", "folder", "mesh", "script", "idate", "edate", "images", "vnc_url"), _TEXT),
        **dict.fromkeys(("ip_address", "output", "logs"), _TEXT),
    },
}
ITEM: Schema = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("id", "size"), _NUMBER),
        **dict.fromkeys(("name", "basename", "dirname", "timeCreated"), _TEXT),
        "type": {"enum": ["dir", "file"]},
    },
}
_ERRORS: Schema = {
    "type": "object",
    "properties": {"errors": {"type": "array", "items": {"type": "string"}}},
    "required": ["errors"],
}


def _object(example: Schema, *optional: str) -> Schema:
    kinds = {str: {"type": "string"}, int: {"anyOf": [{"type": "integer"}, {"type": "string"}]}}
    return {
        "type": "object",
        "properties": {name: kinds[type(value)] for name, value in example.items()},
        "required": [name for name in example if name not in optional],
        "additionalProperties": False,
        "example": example,
    }


ADD = _object(
    {"cpu": 2, "ram": "highcore", "script": "custom-script", "folder": "caseA", "mesh": "", "nopre": 1}, "mesh", "nopre"
)
SIGNAL = _object({"signal": "SIGTSTP"})
UPLOAD = _object({"dirname": "caseA", "filename": "upload.tar.gz", "contentType": "application/octet-stream"})
PATH = _object({"path": "caseA/upload.tar.gz"})


def list_of(item: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": item}


def answer(value: Schema, sort: Sequence[str] = (), body: Schema | None = None) -> dict[str, Any]:
    """
    What a route's decorator takes to describe it.

    :param value: schema of what stands under ``response``
    :param sort: fields that a listing can be sorted by
    :param body: schema of the request's body
    """
    envelope = {"type": "object", "properties": {"response": value}, "required": ["response"]}
    extra: dict[str, Any] = {}
    if body:
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    description = f"Sort by one of: {', '.join(sort)}." if sort else None
    return {
        "description": description,
        "openapi_extra": extra,
        "responses": {
            200: {"description": "The value, under `response`.", "content": {"application/json": {"schema": envelope}}},
            403: {"description": "Refused, whatever the cause.", "content": {"application/json": {"schema": _ERRORS}}},
            429: {"description": "Over the quota.", "content": {"application/json": {"schema": _ERRORS}}},
        },
    }


def call(body: Schema, value: Schema) -> dict[str, Any]:
    """The same for a call with a body."""
    return answer(value, body=body)
