# SPDX-License-Identifier: Apache-2.0
"""Signed URLs as Google Cloud Storage has them: method, host, object, content type and expiry are signed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode

_ALGORITHM = "GOOG4-HMAC-SHA256"
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Refusal:
    """Why the store refuses a request: HTTP status, its own code (as in GCS's XML), and our name of the violation."""

    status: int
    code: str
    kind: str
    detail: str


class Signer:
    """
    Writes and checks signed URLs. Stateless but for its secret.

    :param bucket: first part of every path
    """

    def __init__(self, bucket: str = "cloudhpc-storage") -> None:
        self.bucket = bucket
        self._secret = secrets.token_bytes(32)

    def sign(self, origin: str, name: str, method: str, now: float, lifetime: float, content_type: str = "") -> str:
        """
        A URL that allows one method on one object.

        :param origin: scheme, host and port of the store
        :param name: the object's name: owner and full path
        :param method: ``GET`` or ``PUT``
        :param now: virtual seconds since the epoch
        :param lifetime: seconds
        :param content_type: the type that a PUT must have; empty for a GET
        """
        query = {
            "X-Goog-Algorithm": _ALGORITHM,
            "X-Goog-Credential": f"emulator/{datetime.fromtimestamp(now, UTC):%Y%m%d}/auto/storage/goog4_request",
            "X-Goog-Date": datetime.fromtimestamp(now, UTC).strftime(_DATE_FORMAT),
            "X-Goog-Expires": str(int(lifetime)),
            "X-Goog-SignedHeaders": "content-type;host" if content_type else "host",
        }
        host = origin.partition("://")[2]
        query["X-Goog-Signature"] = "".join(self._signatures(method, host, name, query, content_type))
        return f"{origin}/{self.bucket}/{quote(name, safe='/')}?{urlencode(query)}"

    def check(self, method: str, host: str, name: str, query: str, now: float, content_type: str) -> Refusal | None:
        """
        Why a request to a signed URL is refused; None where it is allowed.

        :param method: the request's method
        :param host: the request's ``Host`` header
        :param name: the object's name, decoded
        :param query: the raw query string
        :param now: virtual seconds since the epoch
        :param content_type: the request's ``Content-Type``, empty for none
        """
        values = dict(parse_qsl(query, keep_blank_values=True))
        given = values.pop("X-Goog-Signature", "")
        if not given:
            return Refusal(403, "AccessDenied", "unsigned", "no signature: anonymous access is not allowed")
        allowed, typed = self._signatures(method, host, name, values, content_type)
        if not _same(given[: len(allowed)], allowed):
            return Refusal(403, "SignatureDoesNotMatch", "bad-signature", f"the signature does not allow {method} here")
        if "content-type" in values["X-Goog-SignedHeaders"] and not _same(given[len(allowed) :], typed):
            detail = f"Content-Type {content_type!r} is not the one that was signed"
            return Refusal(403, "SignatureDoesNotMatch", "wrong-content-type", detail)
        start = datetime.strptime(values["X-Goog-Date"], _DATE_FORMAT).replace(tzinfo=UTC).timestamp()
        if now >= start + int(values["X-Goog-Expires"]):
            return Refusal(400, "ExpiredToken", "expired-url", "the signed URL has expired")
        return None

    def _signatures(
        self, method: str, host: str, name: str, query: dict[str, str], content_type: str
    ) -> tuple[str, str]:
        """Two halves, so that a wrong content type can be told from everything else that may be wrong."""
        text = "\n".join([method, host, name, urlencode(sorted(query.items()))])
        return self._hmac(text), self._hmac(f"{text}\n{content_type}")

    def _hmac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())  # of text it only takes ASCII
