# SPDX-License-Identifier: Apache-2.0
"""Send a request once, and decide when it may be sent again."""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import requests
import tenacity

from airflow_provider_cloudhpc.api.errors import CloudHPCConnectionError, CloudHPCError, CloudHPCQuotaError
from airflow_provider_cloudhpc.api.wire.breaks import describe
from airflow_provider_cloudhpc.api.wire.http import flight

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds of the first pause; each one after it is about twice as long.
FIRST_PAUSE = 0.5


class Resend(Enum):
    """When a call may be sent again."""

    #: Its effect is the same however often it arrives: reads, stops and deletes by id.
    SAFE = "safe"
    #: Each arrival counts: only where no byte of it can have left.
    UNSENT_ONLY = "unsent only"


def send(
    session: requests.Session, method: str, url: str, options: Mapping[str, Any], endpoint: str
) -> requests.Response:
    """
    Send a request once.

    :param endpoint: template of the endpoint, for the error
    :raises CloudHPCConnectionError: no whole answer came; ``sent`` says whether the request may have arrived
    """
    flight.begun = False
    try:
        return session.request(method, url, **options)
    except (requests.RequestException, ValueError) as error:  # a redirect to nonsense is a plain ValueError
        reason = describe(error)
    sent = flight.begun
    known = "whether the request arrived is not known" if sent else "the request did not leave this machine"
    # Raised out of the handler: the foreign exception holds the URL and the request, and must not be chained.
    raise CloudHPCConnectionError(
        f"The service at {urlsplit(url).hostname} could not be reached ({reason}): {known}. "
        "Check the network, the proxy, the CA bundle and the connection's host.",
        sent=sent,
        method=method,
        endpoint=endpoint,
    )


class _Wait(tenacity.wait.wait_base):
    """Backoff with jitter, or what the service's ``Retry-After`` says."""

    def __init__(self, max_pause: float) -> None:
        self._backoff = tenacity.wait_random_exponential(multiplier=FIRST_PAUSE, max=max_pause)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        asked = _asked_pause(retry_state.outcome.exception() if retry_state.outcome else None)
        return asked if asked is not None else self._backoff(retry_state)


def _asked_pause(error: BaseException | None) -> float | None:
    return getattr(error, "retry_after", None)


def retrying(once: Callable[[], T], resend: Resend, *, max_attempts: int, max_pause: float) -> T:
    """
    Make a call, again where its meaning allows it.

    :param once: makes the call once
    :param max_attempts: how often at the most
    :param max_pause: longest pause in seconds; a ``Retry-After`` beyond it ends the attempts
    """

    def may_resend(error: BaseException) -> bool:
        if not isinstance(error, CloudHPCError) or not error.transient:
            return False
        if resend is Resend.UNSENT_ONLY:
            return isinstance(error, CloudHPCConnectionError) and not error.sent
        if isinstance(error, CloudHPCQuotaError) and error.status != 429:
            return False  # counted out: nothing frees up within a pause
        return (_asked_pause(error) or 0.0) <= max_pause

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        log.warning("%s Attempt %d of %d; again in %.1f s.", error, state.attempt_number, max_attempts, pause)

    caller = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_resend),
        stop=tenacity.stop_after_attempt(max_attempts),
        wait=_Wait(max_pause),
        before_sleep=say,
        reraise=True,
    )
    return caller(once)
