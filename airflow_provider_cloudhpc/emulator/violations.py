# SPDX-License-Identifier: Apache-2.0
"""What no client should do: it is refused, and the ledger holds it."""

from __future__ import annotations

#: Kind of violation and what the client did.
VIOLATIONS = {
    "missing-key": "an API call without the header X-API-key",
    "unknown-key": "a key that no user ever had (one that was good once is no fault of the client)",
    "unknown-endpoint": "a path or method that the API does not have",
    "bad-body": "a body that is no JSON object, or far too large",
    "missing-field": "a field is missing from the body",
    "unknown-field": "a field that the endpoint does not know",
    "bad-value": "a value of another type, or outside of what is allowed",
    "bad-id": "an id that is no number",
    "bad-page": "a page before the first",
    "bad-sort-field": "a listing sorted by a field that its records do not have",
    "bad-direction": "a listing neither asc nor desc",
    "unknown-cpu": "a number of vCPU that is not offered",
    "unknown-ram": "a memory tier that is not offered",
    "unknown-script": "a solver that is not offered",
    "empty-folder": "a launch without a folder",
    "unknown-folder": "a launch in a folder that the storage does not hold",
    "bad-signal": "a stop with a signal other than SIGTSTP and SIGINT",
    "bad-name": "a file or folder name that the platform does not bear",
    "bad-content-type": "an upload URL asked for without a content type",
    "download-of-folder": "a link asked for to a folder",
    "key-sent-to-store": "the API key was shown to the store, which is another host",
    "credentials-sent-to-store": "cookies (other than a browser's) or an Authorization header were shown to the store",
    "unsigned": "the store was asked without a signature",
    "bad-signature": "a signed URL was changed, or used for another method",
    "wrong-content-type": "an upload with another Content-Type than the signed one",
    "expired-url": "a signed URL used after its time",
    "no-length": "an upload that says neither its length nor that it comes in chunks",
    "chunked-put": "an upload in chunks where the store does not take them",
    "path-conflict": "a file by the name of a folder, or below the name of a file",
    "bad-method": "the store was asked for something else than GET and PUT",
}
