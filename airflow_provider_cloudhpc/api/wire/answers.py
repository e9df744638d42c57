# SPDX-License-Identifier: Apache-2.0
"""
What an answer of the API means.

The service's envelope is ``{"response": value}`` or ``{"errors": [words]}``. Its HTTP codes cannot be relied on:
failures of any cause come as 403, a body with ``errors`` is a failure even under 200, and whatever stands between
us and the service answers in HTML.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCNotFoundError,
    CloudHPCQuotaError,
    CloudHPCRefusedError,
    is_technical,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from airflow_provider_cloudhpc.api.models import Quota

#: Longest piece of the service's own words to repeat, characters.
MAX_WORDS = 500
#: The query of a URL in the service's words: it may be a signature.
_QUERY = re.compile(r"(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """
    Read the ``Retry-After`` header of an answer: seconds, or an HTTP date, which counts from the answer's own ``Date``.

    :return: seconds, never negative; None where there is none or it cannot be read
    """
    value = headers.get("Retry-After")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = _http_date(value)
        if until is None:
            return None
        now = _http_date(headers.get("Date"))
        seconds = until.timestamp() - (time.time() if now is None else now.timestamp())
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _http_date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def read_answer(
    response: requests.Response,
    method: str,
    endpoint: str,
    quota: Quota | None,
    *,
    location: bool = False,
    clean: Callable[[str], str] = str,
) -> Any:
    """
    Give the value of an answer, or raise what it means.

    :param endpoint: template of the endpoint, for the error
    :param quota: the counters that came with the answer
    :param location: a redirect's target is the value
    :param clean: takes secrets out of the service's words
    """
    where: dict[str, Any] = {"status": response.status_code, "method": method, "endpoint": endpoint}
    after = retry_after(response.headers)
    if response.is_redirect or 300 <= response.status_code < 400:
        target = response.headers.get("Location")
        if location and target:
            return urljoin(response.url, target)
        raise CloudHPCAnswerError(
            "The API's address answers with a redirect, which is not followed: the key goes to the configured host "
            "only. Check the host of the connection.",
            **where,
        )
    is_json, body = _json(response)
    errors = tuple(_QUERY.sub(r"\1?***", clean(error)) for error in _errors(body))
    # The words are read before the code is believed.
    counted_out = response.status_code == 403 and quota is not None and quota.is_exhausted
    if (response.status_code == 429 or counted_out) and not _is_auth(errors):
        message = _quota_message(after, quota, errors)
        raise CloudHPCQuotaError(message, retry_after=after, quota=quota, errors=errors, **where)
    if response.status_code >= 500:
        raise CloudHPCAnswerError(
            f"The service, or a proxy before it, answered with a server error.{_said(errors)}",
            transient=True,
            retry_after=after,
            **where,
        )
    if response.status_code == 401 or _is_auth(errors):
        raise CloudHPCAuthError(
            "The service does not accept the API key (missing, wrong or revoked). "
            "Put the key from your cloudHPC profile page into the connection's password.",
            errors=errors,
            **where,
        )
    if errors:
        if is_technical(errors):
            raise CloudHPCNotFoundError(
                f"The service says: {_words(errors)} It says so for ids and files that do not exist or are gone "
                "(then trying again never helps), and when it has a problem itself (then it may).",
                errors=errors,
                **where,
            )
        if response.status_code in (404, 410):
            raise CloudHPCNotFoundError(f"It does not exist or is gone.{_said(errors)}", errors=errors, **where)
        raise CloudHPCRefusedError(f"The service refused: {_words(errors)}", errors=errors, **where)
    if not is_json:
        if response.ok and method in ("PUT", "DELETE") and not response.content.strip():
            return None  # these have no value to give; an empty answer to a question is none
        raise CloudHPCAnswerError(
            f"Not the API answered but something that sends {_kind(response)}: a proxy, a login page or a "
            "maintenance page. Check the connection's host and the proxy.",
            transient=response.ok,
            retry_after=after,
            **where,
        )
    if not response.ok:
        raise CloudHPCRefusedError("The service refused without giving a reason.", **where)
    return body["response"] if isinstance(body, dict) and "response" in body else body


def _json(response: requests.Response) -> tuple[bool, Any]:
    try:
        return True, response.json()
    except (ValueError, RecursionError):
        return False, None


def _errors(body: object) -> tuple[str, ...]:
    errors = body.get("errors") if isinstance(body, dict) else None
    if not errors:
        return ()
    if isinstance(errors, dict):
        errors = list(errors.values())
    return tuple(str(error) for error in errors) if isinstance(errors, list) else (str(errors),)


def _words(errors: tuple[str, ...]) -> str:
    return "; ".join(errors)[:MAX_WORDS]


def _said(errors: tuple[str, ...]) -> str:
    return f" It says: {_words(errors)}" if errors else ""


def _is_auth(errors: tuple[str, ...]) -> bool:
    return any(error.strip().lower().startswith(("unauthorized", "unauthorised")) for error in errors)


def _kind(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()[:60] or "no known type"


def _quota_message(after: float | None, quota: Quota | None, errors: tuple[str, ...]) -> str:
    wait = f"; it asks to wait {after:.0f} s" if after is not None else ""
    counters = f" ({quota})" if quota is not None else ""
    daily = quota is not None and quota.daily_left == 0
    free = "daily window frees calls again within a day" if daily else "hourly window frees calls again within the hour"
    return (
        f"The account's API calls are used up{counters}{wait}. All programs that use this account count together; "
        f"the {free}.{_said(errors)}"
    )
