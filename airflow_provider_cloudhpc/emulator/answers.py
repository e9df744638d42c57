# SPDX-License-Identifier: Apache-2.0
"""How the service answers: the envelope, errors under 403, the store's XML, and a page that is no JSON at all."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from starlette.responses import HTMLResponse, JSONResponse, Response

TECHNICAL_PROBLEM = "A technical problem has occurred, try again later."
UNAUTHORIZED = "Unauthorized."


class Refused(Exception):
    """
    The service says no.

    :param message: its words
    :param violation: kind of violation to take down, None where the client did nothing wrong
    :param status: HTTP status, 403 as the service has it whatever the cause
    """

    def __init__(self, message: str, violation: str | None = None, status: int = 403) -> None:
        super().__init__(message)
        self.message, self.violation, self.status = message, violation, status


def success(value: Any) -> JSONResponse:
    """``{"response": value}``."""
    return JSONResponse({"response": value})


def errors(message: str, status: int = 403, headers: dict[str, str] | None = None) -> JSONResponse:
    """``{"errors": [message]}``."""
    return JSONResponse({"errors": [message]}, status, headers)


def store_error(status: int, code: str, message: str) -> Response:
    """An error as the object store writes it."""
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status, media_type="application/xml; charset=UTF-8")


def maintenance(status: int) -> Response:
    """What a proxy puts in place of an answer."""
    return HTMLResponse("<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>", status)
