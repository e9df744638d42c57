# SPDX-License-Identifier: Apache-2.0
"""
The rules every request keeps, to the API and to signed URLs alike.

Proxies and CA bundles come from the connection first and from the environment else (``HTTPS_PROXY``, ``NO_PROXY``,
``REQUESTS_CA_BUNDLE``); ``.netrc`` is never read; plain http is for loopback only unless asked for; what urllib3
logs of a signed URL has no query.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import select_proxy

from airflow_provider_cloudhpc.api.errors import CloudHPCValueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Bytes handed to the socket at once; the default of 16 KiB halves the speed of an upload.
SOCKET_BLOCK = 1 << 20
#: Linux's option that lets full segments leave at once and others wait, 0.2 s at most.
_CORK = getattr(socket, "TCP_CORK", None)

_masking = threading.local()


class _QueryMask(logging.Filter):
    """Take the query, which is a credential, off what urllib3 logs while :func:`masked_queries` is in force."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_masking, "on", False) and isinstance(record.args, tuple):
            record.args = tuple(
                arg.partition("?")[0] + "?***" if isinstance(arg, str) and "?" in arg else arg for arg in record.args
            )
        return True


# A filter holds for its own logger alone, not for those below it.
for _name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_QueryMask())


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
        proxies = dict(self.proxies)
        if "all" in proxies:  # requests prefers the environment's "https" to our "all"
            proxies = {"http": proxies["all"], "https": proxies["all"], **proxies}
        return {
            "timeout": (self.connect_timeout, self.read_timeout),
            "proxies": proxies,
            "verify": self.ca_bundle or True,
            "allow_redirects": False,
        }


class NoAuth(AuthBase):
    """Add nothing; being there keeps requests from reading ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request as it is."""
        return request


class _Flight(threading.local):
    """Whether a byte of this thread's current request was handed to a connection."""

    begun = False


flight = _Flight()


class _Watched:
    """
    A connection that tells when a request's first byte leaves; which exceptions come then or before is no rule.

    Under TLS a long body leaves in full segments: TLS hands over 16 KiB at a time, and a segment for each is work that
    both ends can do without.
    """

    sock: Any

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        finally:
            flight.begun = False  # what was sent until now went to a proxy, or was a handshake

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        flight.begun = True
        if len(data) == SOCKET_BLOCK:
            self._cork(True)
        try:
            super().send(data)  # type: ignore[misc]
        except ssl.SSLEOFError as error:
            # As without TLS, which urllib3 knows: the other side has left, perhaps after an answer that can be read.
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error

    def getresponse(self) -> Any:
        self._cork(False)  # what is left leaves now
        return super().getresponse()  # type: ignore[misc]

    def _cork(self, on: bool) -> None:
        if _CORK is not None and isinstance(self.sock, ssl.SSLSocket):
            self.sock.setsockopt(socket.IPPROTO_TCP, _CORK, int(on))


@cache
def _watched(pool: Any) -> Any:
    """Make the class of a connection pool one whose connections are watched."""
    connection = type(pool.ConnectionCls.__name__, (_Watched, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


def _watch(manager: Any) -> None:
    manager.pool_classes_by_scheme = {name: _watched(pool) for name, pool in manager.pool_classes_by_scheme.items()}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, blocksize=SOCKET_BLOCK, **kwargs)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, blocksize=SOCKET_BLOCK, **kwargs)
        if is_new:
            _watch(manager)
        return manager

    def send(self, request: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        # Plain http is allowed to loopback as it stays on this machine: a proxy elsewhere would carry it off.
        if request.url.startswith("http://") and is_loopback(urlsplit(request.url).hostname):
            proxy = select_proxy(request.url, kwargs.get("proxies"))
            if proxy and not is_loopback(urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname):
                kwargs["proxies"] = {}
        try:
            return super().send(request, **kwargs)
        except requests.RequestException:
            raise
        except (urllib3.exceptions.HTTPError, OSError) as error:  # a CA bundle that is not there; a host that is none
            raise requests.ConnectionError(error, request=request) from error


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


def check_address(url: str, *, allow_http: bool, what: str) -> None:
    """
    Refuse a URL that is none, or would send credentials in the clear.

    :param what: what the URL is, for the message; the URL itself is not repeated beyond its host
    :raises CloudHPCValueError: for anything but https, http to loopback, or http when allowed
    """
    scheme, host, problem = "", None, ""
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
        requests.Request("GET", url).prepare()
    except (ValueError, requests.RequestException):
        problem = "is not a web address"
    else:
        if scheme not in ("https", "http") or not host:
            problem = "is not a web address"
        elif parts.username is not None or parts.password is not None:
            problem = "holds a user name or a password, which it must not"
        elif scheme == "http" and not (allow_http or is_loopback(host)):
            problem = (
                "must be https: over plain http anybody on the way can read the credentials. "
                "Use https, or set allow_http in the connection's extra if you are sure"
            )
    if problem:
        shown = f" ({scheme}://{host})" if host else ""
        raise CloudHPCValueError(f"{what}{shown} {problem}.")
