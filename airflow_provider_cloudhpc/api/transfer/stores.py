# SPDX-License-Identifier: Apache-2.0
"""One request to the object store behind a signed URL, and what its answer says of the object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError
from airflow_provider_cloudhpc.api.wire.breaks import describe
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions, masked_queries, new_session

if TYPE_CHECKING:
    from collections.abc import Mapping


_PROXY_REFUSES = (
    "The proxy on the way to the object store refused (HTTP 407): it wants another user name and password. Give them "
    "in the connection's proxies (percent-encoded), as in http://user:p%40ss@proxy:3128."
)


@dataclass(frozen=True)
class Transferred:
    """
    What went over the wire.

    :param size: bytes of the object
    :param proven: whether the store's own hash equals that of the bytes; None where it names none
    :param skipped: whether the bytes were there already, and nothing had to be sent or fetched
    """

    size: int
    proven: bool | None
    skipped: bool = False


def request(network: NetworkOptions, method: str, url: str, **options: Any) -> requests.Response:
    """
    Make one request in a session of its own: nothing of the API's, its key least of all, may reach the store.

    :param options: what :meth:`requests.Session.request` takes
    :raises CloudHPCTransferError: no answer came
    """
    options = network.request_options() | options
    try:
        with masked_queries(), new_session() as session:
            return session.request(method, url, **options)
    except (requests.RequestException, ValueError) as error:  # a redirect to nonsense is a plain ValueError
        reason, words = describe(error), str(error)
    if "Tunnel connection failed: 407" in words:
        raise store_error(_PROXY_REFUSES, method, status=407)
    distrusted = "CERTIFICATE_VERIFY_FAILED" in words
    advice = " Set the connection's CA bundle to the one of your network." if distrusted else ""
    raise store_error(
        f"The connection to the object store failed ({reason}).{advice}", method, transient=not distrusted
    )


def object_length(headers: Mapping[str, str]) -> int | None:
    """Read ``Content-Length``; None where there is none, or none that a file can have."""
    length = headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


def check_status(response: requests.Response, method: str) -> None:
    """
    Refuse an answer that is none of success.

    :raises CloudHPCTransferError: ``expired`` where a new URL may help, ``transient`` where another try may
    """
    status = response.status_code
    if status in ((200, 206) if method == "GET" else (200, 201, 204)):
        return
    # The store answers 400 or 403 to a signed URL that has expired, and its words need not say which.
    expired = status in (400, 401, 403)
    message = f"The object store answered with HTTP {status}."
    if expired:
        message = f"The object store refused the signed URL with HTTP {status} (expired, or it does not fit)."
    elif status == 404:
        message = "The object store has no such object (HTTP 404): it was deleted, or replaced meanwhile."
    elif status == 407:
        message = _PROXY_REFUSES
    transient = expired or status < 300 or status >= 500 or status in (408, 416, 429)
    raise store_error(message, method, status=status, expired=expired, transient=transient)


def store_error(message: str, method: str, **details: Any) -> CloudHPCTransferError:
    """Make the exception for a message; where it happened is not said, since the URL is a credential."""
    return CloudHPCTransferError(message, method=method, endpoint="<signed URL>", **details)
