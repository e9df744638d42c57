# SPDX-License-Identifier: Apache-2.0
"""Which endpoint a request is for, as a template: what faults and the ledger speak of."""

from __future__ import annotations

import re

API_PREFIX = "/api/v2"
CONTROL_PREFIX = "/_emulator"
SIGNED_URL = "/signed-url"

API = (
    ("GET", "/simulation/view-cpu"),
    ("GET", "/simulation/view-ram"),
    ("GET", "/simulation/view-scripts"),
    ("POST", "/simulation/add"),
    ("GET", "/simulation/view-short/{id}"),
    ("GET", "/simulation/view/{id}"),
    ("GET", "/simulation/index-short/{sort}/{direction}/{page}"),
    ("PUT", "/simulation/stop/{id}"),
    ("PUT", "/simulation/sync/{id}"),
    ("POST", "/storage/upload-url"),
    ("POST", "/storage/view-by-path"),
    ("GET", "/storage/download/{id}"),
    ("GET", "/storage/view-url/{id}"),
    ("GET", "/storage/index/{sort}/{direction}/{page}"),
    ("GET", "/storage/index/{sort}/{direction}/parent_id/{id}/{page}"),
    ("DELETE", "/storage/delete/{id}"),
    ("DELETE", "/user/delete-cache"),
)

_PATTERNS = [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))), template) for _, template in API]


def plain_path(path: str) -> str:
    """A path as web servers take it: slashes that repeat are one, and one at the end says nothing."""
    return re.sub(r"/{2,}", "/", path).rstrip("/") or "/"


def identify(path: str, store: bool) -> tuple[str, str]:
    """
    Surface (``api``, ``store``, ``control``, ``pages``) and endpoint template of a request.

    :param path: decoded path
    :param store: whether it came to the object store's port
    """
    if store:
        return "store", SIGNED_URL
    if path.startswith(CONTROL_PREFIX):
        return "control", CONTROL_PREFIX
    if path.startswith(f"{API_PREFIX}/"):
        rest = path.removeprefix(API_PREFIX)
        # Made-up paths share one name: whatever a client sends, the counters stay small.
        return "api", next((template for pattern, template in _PATTERNS if pattern.fullmatch(rest)), "/unknown")
    return "pages", "/"
