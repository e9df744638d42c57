# SPDX-License-Identifier: Apache-2.0
"""What broke, in words for a person: requests and urllib3 nest their exceptions, and name what must not be told."""

from __future__ import annotations

import http.client

import requests
import urllib3.exceptions


def _causes(error: BaseException) -> list[BaseException]:
    """Collect an exception and what lies within it, outermost first."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        current = queue.pop(0)
        if isinstance(current, BaseException) and current not in found:
            found.append(current)
            queue += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]
    return found


_Reasons = tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]
#: What is said of the first kind that is found in an exception: these tell more than the system's own words,
_TELLING: _Reasons = (
    (urllib3.exceptions.NameResolutionError, "the host's name cannot be resolved"),
    (urllib3.exceptions.ProxyError, "the proxy cannot be reached or refuses"),
    (
        (urllib3.exceptions.SSLError, requests.exceptions.SSLError),
        "the TLS certificate or handshake was not accepted",
    ),
)
#: and these are what is left where the system has none. (A refused connection is a ConnectTimeoutError too.)
_WORDLESS: _Reasons = (
    (urllib3.exceptions.ConnectTimeoutError, "no connection in time"),
    ((urllib3.exceptions.ReadTimeoutError, requests.exceptions.ReadTimeout), "no answer in time"),
    (requests.exceptions.ContentDecodingError, "its answer cannot be decoded"),
    (http.client.RemoteDisconnected, "the connection was closed without an answer"),
    (http.client.BadStatusLine, "what answers there does not speak HTTP"),
    (
        (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, urllib3.exceptions.LocationValueError),
        "the host's or the proxy's address cannot be used",
    ),
)


def describe(error: BaseException) -> str:
    """Say in a few words what broke, without addresses, URLs or anything that was sent."""
    causes = _causes(error)
    system = [cause.strerror.lower() for cause in causes if isinstance(cause, OSError) and cause.strerror]
    if any(isinstance(cause, OSError) and "CA certificate bundle" in str(cause) for cause in causes):
        system.append("there is no such CA bundle on this machine")
    found = [*_said(causes, _TELLING), *reversed(system), *_said(causes, _WORDLESS)]
    return found[0] if found else "the connection was closed before the answer was complete"


def _said(causes: list[BaseException], reasons: _Reasons) -> list[str]:
    return [words for kind, words in reasons if any(isinstance(cause, kind) for cause in causes)]
