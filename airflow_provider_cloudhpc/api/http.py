# SPDX-License-Identifier: Apache-2.0
"""
The rules every request keeps, to the API and to signed URLs alike.

Proxies and CA bundles come from the connection first and from the environment else (``HTTPS_PROXY``, ``NO_PROXY``,
``REQUESTS_CA_BUNDLE``); ``.netrc`` is never read; plain http is for loopback only unless asked for; what urllib3
logs of a signed URL has no query.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from airflow_provider_cloudhpc.api.errors import CloudHPCValueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Bytes handed to the socket at once; the default of 16 KiB halves the speed of an upload.
SOCKET_BLOCK = 1 << 20

_masking = threading.local()


class _QueryMask(logging.Filter):
    """Take the query, which is a credential, off what urllib3 logs while :func:`masked_queries` is in force."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_masking, "on", False) and isinstance(record.args, tuple):
            record.args = tuple(
                arg.partition("?")[0] + "?***" if isinstance(arg, str) and "?" in arg else arg for arg in record.args
            )
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_QueryMask())


@contextmanager
def masked_queries() -> Iterator[None]:
    """Keep queries out of urllib3's debug log, in this thread, as long as the block runs."""
    before = getattr(_masking, "on", False)
    _masking.on = True
    try:
        yield
    finally:
        _masking.on = before


@dataclass(frozen=True)
class NetworkOptions:
    """
    How the network is reached.

    :param connect_timeout: seconds to wait for a connection
    :param read_timeout: seconds to wait for the next bytes of an answer
    :param proxies: ``{"https": "http://proxy:3128"}``; empty: as the environment says
    :param ca_bundle: path of a file with the CA certificates to trust; None: as the environment says
    :param allow_http: allow plain http to hosts other than loopback
    """

    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_bundle: str | None = None
    allow_http: bool = False

    def request_options(self) -> dict[str, Any]:
        """
        Give the keyword arguments for one request.

        Per request and not on the session: there the environment would win over them.
        """
        return {
            "timeout": (self.connect_timeout, self.read_timeout),
            "proxies": dict(self.proxies),
            "verify": self.ca_bundle or True,
            "allow_redirects": False,
        }


class NoAuth(AuthBase):
    """Add nothing; being there keeps requests from reading ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request as it is."""
        return request


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, blocksize=SOCKET_BLOCK, **kwargs)


def new_session(auth: AuthBase | None = None) -> requests.Session:
    """Make a session that never reads ``.netrc`` and never retries by itself."""
    session = requests.Session()
    session.auth = auth or NoAuth()
    session.mount("https://", _Adapter(max_retries=0))
    session.mount("http://", _Adapter(max_retries=0))
    return session


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine itself."""
    if not host:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_scheme(url: str, *, allow_http: bool, what: str) -> None:
    """
    Refuse a URL that would send credentials in the clear.

    :param what: what the URL is, for the message; the URL itself is not repeated beyond its host
    :raises CloudHPCValueError: for anything but https, http to loopback, or http when allowed
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and (allow_http or is_loopback(parts.hostname)):
        return
    shown = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "not a web address"
    raise CloudHPCValueError(
        f"{what} must be https (it is {shown}): over plain http anybody on the way can read the credentials. "
        "Use https, or set allow_http in the connection's extra if you are sure."
    )
