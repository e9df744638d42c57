# SPDX-License-Identifier: Apache-2.0
"""
Bytes to and from signed URLs, as often as it takes, until they are proven whole.

The URLs are credentials of another host: no API key goes there, no message holds their query, no redirect is
followed. Everything is streamed. A broken download goes on where it broke if the object is still the same; an upload
begins again. What the store says of the object, its length and hash, decides whether it arrived.
"""

from __future__ import annotations

import filecmp
import logging
import random
import stat
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError
from airflow_provider_cloudhpc.api.progress import ProgressCallback, ProgressLog, format_bytes, format_seconds
from airflow_provider_cloudhpc.api.transfer.aside import file_aside, put_in_place
from airflow_provider_cloudhpc.api.transfer.checksums import Checksum, cheapest, hash_of, named_hashes, usable
from airflow_provider_cloudhpc.api.transfer.downloading import Download, OnExisting
from airflow_provider_cloudhpc.api.transfer.stores import Transferred, check_status, object_length, request, store_error
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_cloudhpc.api.transfer.sources import Source

log = logging.getLogger(__name__)
T = TypeVar("T")

CONTENT_TYPE = "application/octet-stream"
#: Bytes by which a download must get on for its failures to be counted anew.
_HEADWAY = 1 << 20


class Transfer:
    """
    Sends to signed URLs and fetches from there.

    :param network: timeouts, proxies, CA bundle: the same as for the API
    :param attempts: how often to try without getting on
    :param first_pause: seconds to wait after the first failure; about twice as long after each next one
    :param longest_pause: seconds to wait at most
    """

    def __init__(
        self,
        network: NetworkOptions | None = None,
        *,
        attempts: int = 5,
        first_pause: float = 1.0,
        longest_pause: float = 60.0,
    ) -> None:
        self._network = network or NetworkOptions()
        self._attempts = attempts
        self._first_pause = first_pause
        self._longest_pause = longest_pause

    def upload(
        self, ask_url: Callable[[], str], source: Source, *, progress: ProgressCallback | None = None
    ) -> Transferred:
        """
        Send an object, from its beginning and with a new URL each time, until the store has it whole.

        :param ask_url: gives a signed URL for a PUT of ``application/octet-stream``
        :param source: what to send
        :param progress: called with the bytes sent and those in all; default: lines in the log
        :raises CloudHPCTransferError: the store refused, the connection broke too often, the store holds other bytes
            than were sent, or the source changed meanwhile
        """
        progress = progress or ProgressLog(f"Uploading {source.name}", log)
        begun = time.monotonic()
        done = self._persist(f"The upload of {source.name}", lambda: self._put(ask_url(), source, progress))
        _say_total("Uploaded", source.name, done, done.size, time.monotonic() - begun)
        return done

    def download(
        self,
        ask_url: Callable[[], str],
        target: Path,
        *,
        size: int | None = None,
        on_existing: OnExisting = "error",
        progress: ProgressCallback | None = None,
    ) -> Transferred:
        """
        Fetch an object into a file, which gets its name when it is whole.

        A broken connection is taken up again at the byte where it broke if the store proves that the object is the
        same (``If-Range`` with its ETag); else it begins again. An expired URL is asked for again.

        :param ask_url: gives a signed URL for a GET; asked again only when the one it gave is refused
        :param target: the file; its folder must be there
        :param size: bytes it must have, None where not known
        :param on_existing: what to do with a file of that name that differs; one with the same length and hash is
            left as it is, and with ``keep`` any
        :param progress: called with the bytes received and those in all; default: lines in the log
        :raises CloudHPCTransferError: the store refused, the connection broke too often, the bytes are not the
            object's, another file is there, or the disk is full; nothing of it was kept
        """
        progress = progress or ProgressLog(f"Downloading {target.name}", log)
        begun = time.monotonic()
        try:
            if _is_there(target, on_existing) and on_existing == "keep":
                return _kept(target, "was there")
            with file_aside(target) as part:
                download = Download(self._network, ask_url, target, part, size, on_existing, progress)
                done = self._persist(f"The download of {target.name}", download.attempt, lambda: download.received)
                if done.skipped:
                    log.info("%s is there already, with the same length and hash", target)
                else:
                    done = _place(part, target, on_existing, done)
        except OSError as error:
            problem = error.strerror
        else:
            if not done.skipped:
                _say_total("Downloaded", target.name, done, download.fetched, time.monotonic() - begun)
            return done
        raise store_error(f"{str(target)!r} could not be written: {problem}. Nothing of it was kept.", "GET")

    def holds(self, url: str, source: Source) -> bool:
        """
        Say whether the object at a signed URL for a GET is the same as a source, by length and the store's own hash.

        Only the head of the answer is read. No hash, an unreachable store, a refusal: not known to be the same.
        """
        try:
            with request(self._network, "GET", url, stream=True, headers={"Accept-Encoding": "identity"}) as response:
                headers = response.headers if response.status_code == 200 else {}
        except CloudHPCTransferError:
            return False
        named = named_hashes(headers)
        kind = usable(named)
        if kind is None or object_length(headers) != source.size:
            return False
        with source.open() as file:
            return hash_of(file, kind) == named[kind]

    def _put(self, url: str, source: Source, progress: ProgressCallback) -> Transferred:
        with _source_errors():
            before, size = source.stamp(), source.size
            opened = source.open()
        with opened as file:
            body = _Body(file, size, progress)
            # What is sent may stall as long as what is received: urllib3 sends with the time for connecting.
            patience = self._network.read_timeout
            response = request(
                self._network,
                "PUT",
                url,
                data=body if size else b"",
                headers={"Content-Type": CONTENT_TYPE},
                timeout=(patience, patience),
            )
            with response:
                check_status(response, "PUT")
                headers = response.headers
        if body.sent != size:
            raise store_error("The store answered before it had all bytes.", "PUT", transient=True)
        with _source_errors():
            after = source.stamp()
        if after != before:
            raise _changed()
        named, proven = named_hashes(headers), None
        if body.checksum.kind in named:
            proven = named[body.checksum.kind] == body.checksum.value
        elif kind := usable(named):
            with source.open() as file:
                proven = named[kind] == hash_of(file, kind)
        stored = headers.get("x-goog-stored-content-length", "")
        if proven is False or (stored.isdigit() and int(stored) != size):
            raise store_error("The store holds other bytes than were sent.", "PUT", transient=True)
        return Transferred(size, proven)

    def _persist(self, what: str, once: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Try, with pauses and a line in the log, until it worked or failed too often without getting on."""
        failures, best = 0, 0
        while True:
            try:
                return once()
            except CloudHPCTransferError as error:
                failure = error
            if reached() >= best + _HEADWAY:
                failures, best = 0, reached()
            failures += 1
            if not failure.transient or failures >= self._attempts:
                break
            pause = min(self._longest_pause, self._first_pause * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)  # noqa: S311
            log.warning(
                "%s failed: %s Trying again in %.1f s (attempt %d of %d).",
                what,
                failure.message,
                pause,
                failures + 1,
                self._attempts,
            )
            time.sleep(pause)
        if failure.transient:
            failure.message = f"{what} was given up after {failures} attempts: {failure.message}"
        raise failure


def _is_there(target: Path, on_existing: OnExisting) -> bool:
    """Say whether something is at a target; refuse what can be neither replaced nor kept, before a byte is fetched."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        what = "a link to nothing" if target.is_symlink() and on_existing == "keep" else ""
    else:
        if stat.S_ISREG(mode):
            return True
        what = "a folder" if stat.S_ISDIR(mode) else "no file"
    if what:
        raise store_error(f"{str(target)!r} is there and is {what}. Remove it, or download elsewhere.", "GET")
    return False


def _kept(target: Path, why: str) -> Transferred:
    log.info("Kept %s, which %s", target, why)
    return Transferred(target.stat().st_size, None, skipped=True)


def _place(part: BinaryIO, target: Path, on_existing: OnExisting, done: Transferred) -> Transferred:
    """Give a whole file its name; what another task put there meanwhile stays, unless it is to be overwritten."""
    try:
        put_in_place(part, target, replace=on_existing == "overwrite")
        return done
    except FileExistsError:
        if _is_there(target, on_existing) and on_existing == "keep":
            return _kept(target, "came there meanwhile")
        if filecmp.cmp(part.name, target, shallow=False):
            return replace(_kept(target, "came there meanwhile and is the same"), proven=done.proven)
    raise store_error(
        f"{str(target)!r} could not be written: another file came there meanwhile, as if another task downloaded into "
        "this directory. Nothing of ours was kept.",
        "GET",
    )


class _Body:
    """A source as a request's body: it has a length (else it would go chunked), and hashes what is read."""

    def __init__(self, file: BinaryIO, size: int, progress: ProgressCallback) -> None:
        self.checksum = Checksum(cheapest())
        self._file, self._size, self._progress = file, size, progress
        self.sent = 0

    def __len__(self) -> int:
        return self._size

    def read(self, amount: int = -1) -> bytes:
        """Give the next bytes, never more than were announced."""
        left = self._size - self.sent
        with _source_errors():
            block = self._file.read(left if amount < 0 else min(amount, left))
        if left and not block:
            raise _changed()
        self.checksum.update(block)
        self.sent += len(block)
        self._progress(self.sent, self._size)
        return block


@contextmanager
def _source_errors() -> Iterator[None]:
    """A source on another storage breaks like any connection, in the words of whoever reads it."""
    try:
        yield
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    else:
        return
    raise store_error(f"What is to be sent could not be read ({problem}).", "PUT", transient=True)


def _say_total(verb: str, name: str, done: Transferred, moved: int, seconds: float) -> None:
    proof = "the store's hash is the same" if done.proven else "the store names no hash"
    log.info(
        "%s %s: %s in %s (%s/s); %s",
        verb,
        name,
        format_bytes(done.size),
        format_seconds(seconds),
        format_bytes(moved / max(seconds, 1e-3)),
        proof,
    )


def _changed() -> CloudHPCTransferError:
    return store_error("The file changed while it was sent. Upload it when nothing writes to it any more.", "PUT")
