# SPDX-License-Identifier: Apache-2.0
"""
Find secrets in whatever a run wrote: logs, standard output, XComs, rendered fields, trigger rows, the database.

A secret is looked for as it is, URL-encoded, JSON-escaped, in base64 at any offset within something longer;
a signed URL by its signature, whatever its value.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

from tests.e2e.airflow_home import AirflowHome

#: The query parameters that make a signed URL a credential, as Google Cloud Storage and its like name them; a
#: placeholder such as ``***`` is no signature.
SIGNED_QUERY = re.compile(rb"(?i)x-(?:goog|amz)-signature(?:=|%3D|\\u003d)[0-9a-z%+/_-]{6,}")


@dataclass(frozen=True)
class Finding:
    """A secret found: which, where, and how it was written."""

    secret: str
    place: str
    form: str


def forms(secret: str) -> dict[str, bytes]:
    """
    Give the ways in which a secret may be written.

    :return: name of the form -> what to look for
    """
    raw = secret.encode()
    found = {
        "raw": raw,
        "url": quote(secret, safe="").encode(),
        "url, path": quote(secret).encode(),
        "url, plus": quote_plus(secret).encode(),
        "json": json.dumps(secret)[1:-1].encode(),
        "repr": repr(secret)[1:-1].encode(),
    }
    for offset in range(3):
        # Within something longer a secret starts at any of three offsets; its edges mix with what is beside it.
        encoded = base64.b64encode(b"\0" * offset + raw)
        last = len(encoded) - (4 if (len(raw) + offset) % 3 else 0)
        whole = encoded[(0, 2, 3)[offset] : last]
        found[f"base64 at {offset}"] = whole
        found[f"base64, url-safe, at {offset}"] = whole.replace(b"+", b"-").replace(b"/", b"_")
    return {name: text for name, text in found.items() if len(text) >= 6}


def scan_bytes(data: bytes, secrets: Iterable[str], place: str) -> list[Finding]:
    """
    Look for secrets and signed queries in bytes, also in compressed ones.
    """
    found = []
    for secret in secrets:
        found += [Finding(secret, place, form) for form, text in forms(secret).items() if text in data]
    signed = SIGNED_QUERY.search(data)
    if signed:
        found.append(Finding(signed[0].decode(errors="replace")[:24] + "...", place, "signed query"))
    if data[:2] == b"\x1f\x8b":
        found += scan_bytes(gzip.decompress(data), secrets, f"{place} (gzip)")
    elif data[:2] in (b"x\x9c", b"x\x01", b"x\xda"):
        found += scan_bytes(zlib.decompress(data), secrets, f"{place} (zlib)")
    return found


def scan_airflow(airflow: AirflowHome, secrets: Iterable[str]) -> list[Finding]:
    """
    Look through everything that an Airflow wrote: all files of its home, every cell of its database, and the trigger
    rows that were seen while they were there, in the clear.
    """
    secrets = list(secrets)
    found = []
    for path in airflow.written_files():
        found += scan_bytes(path.read_bytes(), secrets, str(path.relative_to(airflow.home)))
    for place, value in airflow.table_cells():
        found += scan_bytes(value if isinstance(value, bytes) else value.encode(), secrets, f"database {place}")
    for classpath, kwargs in airflow.seen_triggers:
        found += scan_bytes(kwargs.encode(), secrets, f"trigger {classpath}")
    return found
