# SPDX-License-Identifier: Apache-2.0
"""
One tree of exceptions: what went wrong, told apart by what the caller can do about it.

No message, attribute or chained traceback here holds an API key, a signed URL's query or a ``vnc_url``:
endpoints are kept as templates (``/simulation/view/{id}``) and foreign exceptions are never chained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_cloudhpc.api.models import Quota


class CloudHPCError(Exception):
    """
    Root of everything that this package raises about the service.

    :param message: what happened, what is known, what to do next
    :param status: HTTP status code of the answer, None where none came
    :param method: HTTP method of the call, None where no call was made
    :param endpoint: template of the endpoint, e.g. ``/simulation/view/{id}``; never filled in
    """

    #: Whether the same call may succeed later without anybody changing anything.
    transient: bool = False

    def __init__(
        self, message: str, *, status: int | None = None, method: str | None = None, endpoint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.method = method
        self.endpoint = endpoint

    def __str__(self) -> str:
        if self.endpoint is None:
            return self.message
        where = f"{self.method} {self.endpoint}"
        code = f", HTTP {self.status}" if self.status is not None else ""
        return f"{self.message} [{where}{code}]"


class CloudHPCValueError(CloudHPCError, ValueError):
    """An argument is wrong; found before anything was sent or billed."""


class CloudHPCRefusedError(CloudHPCError):
    """
    The service answered, and said no.

    :param errors: the service's own words, one string a reason
    """

    def __init__(
        self,
        message: str,
        *,
        errors: Sequence[str] = (),
        status: int | None = None,
        method: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, status=status, method=method, endpoint=endpoint)
        self.errors = tuple(errors)

    @property
    def says_nothing(self) -> bool:
        """Whether the service's words are those that it has for whatever it has a problem with."""
        return is_technical(self.errors)


def is_technical(errors: Sequence[str]) -> bool:
    """Whether the service speaks of a technical problem, which may be anything."""
    return any("technical problem" in error.lower() for error in errors)


class CloudHPCAuthError(CloudHPCRefusedError):
    """The API key is missing, wrong or revoked."""


class CloudHPCNotFoundError(CloudHPCRefusedError):
    """
    The simulation or file is unknown or gone.

    The service answers this with words that sound transient ("A technical problem has occurred, try again later."),
    so the message says both possibilities.
    """


class CloudHPCQuotaError(CloudHPCRefusedError):
    """
    The account's calls of this hour or day are used up.

    :param retry_after: seconds to wait as the service says, None where it does not
    :param quota: the counters that came with the refusal, None where none did
    """

    transient = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        quota: Quota | None = None,
        errors: Sequence[str] = (),
        status: int | None = None,
        method: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, errors=errors, status=status, method=method, endpoint=endpoint)
        self.retry_after = retry_after
        self.quota = quota


class CloudHPCConnectionError(CloudHPCError):
    """
    The service could not be reached, or the connection was lost before the whole answer came.

    :param sent: False only where no byte of the request can have left this machine
    """

    transient = True

    def __init__(
        self, message: str, *, sent: bool = True, method: str | None = None, endpoint: str | None = None
    ) -> None:
        super().__init__(message, method=method, endpoint=endpoint)
        self.sent = sent


class CloudHPCAnswerError(CloudHPCError):
    """Something answered that does not speak the API: an HTML page, a broken body, a 5xx, a redirect."""

    def __init__(
        self,
        message: str,
        *,
        transient: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
        method: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, status=status, method=method, endpoint=endpoint)
        self.transient = transient
        self.retry_after = retry_after


class CloudHPCTransferError(CloudHPCError):
    """
    Bytes to or from a signed URL were lost, cut, changed or refused.

    :param transient: True where sending or fetching again may help
    :param expired: True where the signed URL is no longer valid and a new one has to be asked for
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool = False,
        expired: bool = False,
        status: int | None = None,
        method: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message, status=status, method=method, endpoint=endpoint)
        self.transient = transient
        self.expired = expired


class CloudHPCArchiveError(CloudHPCError):
    """An archive is damaged or would write where it must not; nothing of it was kept."""
