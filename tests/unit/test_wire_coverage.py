# SPDX-License-Identifier: Apache-2.0
"""No row of what is known of the wire is without a transcript; the rows are copied by hand from its description."""

from __future__ import annotations

import pytest

from tests.wire.matching import transcripts

#: What is known -> transcripts that show it: of the server, and of what a client makes of it.
ROWS: dict[str, list[str]] = {
    "success is under 200 and 'response'": ["server-view-ram", "client-view-ram"],
    "failure is 'errors', often under 403": ["server-refuses-a-launch-with-a-wrong-value",
        "client-errors-under-403-keep-the-service-s-words"],
    "'errors' is a failure even under 200": ["client-errors-under-200", "client-unauthorized-under-200"],
    "a bad or missing key": ["server-missing-key", "server-wrong-key", "client-unauthorized-under-403"],
    "header names are case-insensitive": ["server-header-names-are-case-insensitive"],
    "an unknown simulation, a file that is gone": ["server-unknown-simulation", "server-file-gone",
        "client-unknown-simulation", "client-file-gone"],
    "proxies and maintenance answer with no JSON": ["client-html-under-200", "client-html-under-503-that-stays"],
    "quota headers on every answer": ["server-quota-headers-on-every-answer", "client-quota-headers-with-nonsense"],
    "a limit of 0 is unlimited": ["client-limit-of-zero-is-unlimited"],
    "a refused call: 429, or 403 with used >= limit": ["server-quota-counts-and-refuses",
        "client-quota-429-html", "client-quota-403-with-used-at-the-limit", "client-quota-403-of-the-day"],
    "Retry-After in seconds or as a date": ["server-a-call-over-the-quota-may-say-when-to-come-back",
        "client-quota-429-with-retry-after-seconds", "client-quota-429-with-retry-after-date"],
    "transfers by signed URL are no API calls": ["server-signed-transfers-are-no-api-calls"],
    "GET simulation/view-cpu, ints or strings": ["server-view-cpu", "client-view-cpu-ints", "client-view-cpu-strings"],
    "GET simulation/view-ram": ["server-view-ram", "client-view-ram"],
    "GET simulation/view-scripts": ["server-view-scripts", "client-view-scripts"],
    "POST simulation/add answers a bare id": ["server-add-with-numbers", "client-add-answers-an-int",
        "client-add-answers-a-string", "client-add-answers-no-id"],
    "add takes strings and an empty mesh": ["server-add-as-the-vendor-s-client-sends-it"],
    "add on a regular machine, with a mesh": ["server-add-regular-machine",
        "client-add-with-mesh-on-a-regular-machine", "client-add-preemptible"],
    "add is not idempotent": ["server-add-is-not-idempotent", "client-lost-answer-to-a-launch-is-never-sent-again",
        "client-html-under-502-on-a-launch-is-never-sent-again"],
    "GET simulation/view-short": ["server-add-with-numbers", "client-record-with-numbers"],
    "GET simulation/view brings the output": ["server-add-with-numbers", "client-record-with-output",
        "client-record-without-output"],
    "the listing sorts by any field; active ones first by edate": ["server-listing-sorts-and-pages",
        "client-listing-page"],
    "pages of 20, from 1, empty past the end": ["server-pages-of-twenty", "client-listing-page-past-the-end"],
    "some servers repeat the last page": ["server-a-page-past-the-end-repeats-the-last"],
    "a soft stop saves the results": ["server-soft-stop-keeps-results", "server-soft-stop-saves-results",
        "client-stop-soft"],
    "a hard stop deletes them": ["server-hard-stop", "server-sync-brings-results-and-a-hard-stop-deletes-them",
        "client-stop-hard"],
    "sync brings partial results": ["server-sync-a-running-one", "client-sync",
        "server-sync-brings-results-and-a-hard-stop-deletes-them"],
    "numbers may be strings": ["server-numbers-as-strings", "client-record-with-strings",
        "client-item-with-strings-and-no-size"],
    "nothing yet is empty or null": ["client-record-with-nothing-yet-as-empty-text",
        "client-record-with-nothing-yet-as-null"],
    "fields may be missing or new": ["client-record-with-few-fields-and-a-new-one"],
    "COMPLETED though the solver failed": ["server-completed-though-the-solver-failed"],
    "ERROR": ["server-ends-with-an-error"],
    "STOPPED": ["server-soft-stop-keeps-results", "client-record-stopped"],
    "a status added later": ["client-record-with-a-status-added-later"],
    "results appear at the end": ["server-results-appear-in-the-folder"],
    "results appear every ten hours": ["server-results-appear-every-ten-hours"],
    "POST storage/upload-url": ["server-upload-then-download", "client-upload-url", "client-upload-url-that-is-none"],
    "an empty dirname is the root": ["server-upload-to-the-root", "client-upload-url-of-the-root"],
    "PUT takes the signed type alone and answers hashes": ["server-upload-then-download",
        "server-put-with-another-content-type-is-refused", "server-signed-url-with-a-broken-signature-is-refused"],
    "signed URLs expire": ["server-a-link-expires"],
    "DELETE user/delete-cache makes listings see an upload": ["server-listings-are-cached", "client-delete-cache"],
    "POST storage/view-by-path": ["server-upload-then-download", "client-view-by-path"],
    "GET storage/download answers a bare string": ["server-download-answers-bare",
        "client-download-answers-a-bare-string"],
    "GET storage/download answers {url}": ["server-download-answers-url", "client-download-answers-a-url-object"],
    "GET storage/download answers {mediaLink}": ["server-download-answers-mediaLink",
        "client-download-answers-a-media-link"],
    "GET storage/download redirects": ["server-download-answers-a-redirect", "client-download-answers-a-redirect"],
    "GET storage/view-url, empty at first": ["server-view-url-is-empty-at-first",
        "client-download-falls-back-to-view-url"],
    "GET <mediaLink> honours Range, sends hash, ETag, length": ["server-upload-then-download",
        "server-a-read-is-taken-up-again"],
    "GET storage/index": ["server-folders-and-deletes", "server-storage-sorted-by-size"],
    "GET storage/index/.../parent_id": ["server-folders-and-deletes", "client-folder-listing"],
    "DELETE storage/delete, a file or a folder": ["server-folders-and-deletes", "client-delete"],
    "files go after 60 days": ["server-files-are-deleted-after-60-days", "client-download-of-a-file-that-is-gone"],
}  # fmt: skip

IDS = {entry["id"] for side in ("server", "client") for entry in transcripts(side)}


@pytest.mark.parametrize("row", ROWS)
def test_the_row_has_its_transcripts(row: str) -> None:
    assert [name for name in ROWS[row] if name not in IDS] == []
