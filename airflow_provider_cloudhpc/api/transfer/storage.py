# SPDX-License-Identifier: Apache-2.0
"""A case goes up, results come down: the calls and transfers of one file in their order."""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCTransferError, CloudHPCValueError
from airflow_provider_cloudhpc.api.names import check_folder, check_name
from airflow_provider_cloudhpc.api.progress import format_bytes
from airflow_provider_cloudhpc.api.transfer.aside import PART_SUFFIX
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.models import StorageItem
    from airflow_provider_cloudhpc.api.transfer.downloading import OnExisting
    from airflow_provider_cloudhpc.api.transfer.sources import Source

log = logging.getLogger(__name__)

#: Longest listing that is read, pages; a guard against a service that never ends one.
MAX_PAGES = 1000


@dataclass(frozen=True)
class UploadedFile:
    """
    A file in the storage.

    :param path: ``folder/filename``
    :param size: bytes
    :param proof: what showed that it is whole: ``"hash"`` (the store's own) or ``"listing"`` (its size there)
    """

    path: str
    folder: str
    filename: str
    size: int
    proof: str

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data for XCom."""
        return {
            "path": self.path,
            "folder": self.folder,
            "filename": self.filename,
            "size": self.size,
            "proof": self.proof,
        }


def check_source(source: Path, what: str = "source") -> int:
    """
    Check that a local file can be sent, before anything is.

    :return: its size in bytes
    :raises CloudHPCValueError: it is missing, no regular file or not readable
    """
    try:
        info = source.stat()
        if stat.S_ISREG(info.st_mode):
            with source.open("rb"):
                return info.st_size
        # Opening a pipe waits for whoever writes to it, perhaps for ever.
        folder = stat.S_ISDIR(info.st_mode)
        problem = "it is a folder; a folder travels as one archive" if folder else "it is no file (a pipe, a device)"
    except FileNotFoundError:
        problem = "there is no such file on this worker"
    except OSError as error:
        problem = f"it cannot be read: {(error.strerror or 'unknown reason').lower()}"
    raise CloudHPCValueError(f"{what} is {str(source)!r}: {problem}.")


def upload_file(
    client: CloudHPCClient, source: Source, folder: str, filename: str, *, maybe_there: bool = False
) -> UploadedFile:
    """
    Put one file into the storage and prove that it is there, whole.

    Two API calls (``POST /storage/upload-url``, ``DELETE /user/delete-cache``), and a third
    (``POST /storage/view-by-path``) only where the store names no hash.

    :param folder: storage folder
    :param maybe_there: an earlier try may have sent it: look first (two API calls), and send nothing where the store's
        own hash of what is there is that of the source
    :raises CloudHPCValueError: a name is unusable; nothing was sent
    :raises CloudHPCTransferError: the file did not arrive
    """
    folder, filename = check_folder(folder), check_name(filename, "filename")
    path = f"{folder}/{filename}"
    transfer = Transfer(client.network)
    if maybe_there and _is_there(client, transfer, path, source):
        log.info("%s is in the storage already, by the store's own hash: not sent again", path)
        return UploadedFile(path, folder, filename, source.size, "hash")
    log.info("Uploading %s (%s) to %s", source.name, format_bytes(source.size), path)
    sent = transfer.upload(lambda: client.upload_url(folder, filename), source)
    try:
        client.delete_cache()
    except CloudHPCError as error:
        log.warning("The file is uploaded, but the storage's cache was not deleted: %s", error)
    if not sent.proven:
        _prove_by_listing(client, path, sent.size)
    return UploadedFile(path, folder, filename, sent.size, "hash" if sent.proven else "listing")


def _is_there(client: CloudHPCClient, transfer: Transfer, path: str, source: Source) -> bool:
    try:
        item = client.view_by_path(path)
        return item.size in (None, source.size) and transfer.holds(client.download_url(item.id), source)
    except CloudHPCError as error:
        log.info("Not known to be in the storage already: %s", error)
        return False


def _prove_by_listing(client: CloudHPCClient, path: str, size: int) -> None:
    item = client.view_by_path(path)
    if item.size is not None and item.size != size:
        raise CloudHPCTransferError(
            f"{path} has {item.size} bytes in the storage where {size} were sent. Run the task again.",
            transient=True,
        )


def list_folder(client: CloudHPCClient, folder: str) -> list[StorageItem]:
    """
    List all items of a storage folder: one ``POST /storage/view-by-path``, then one call a page.

    :raises CloudHPCNotFoundError: there is no such folder
    """
    parent = client.view_by_path(check_folder(folder))
    items: dict[str, StorageItem] = {}
    before = 0
    for number in range(1, MAX_PAGES):
        page = client.list_folder(parent.id, number)
        new = {item.id: item for item in page if item.id not in items}
        items |= new
        # The page size is not documented: only a page shorter than the one before it, or with nothing new, is the last.
        if not new or len(page) < before:
            break
        before = len(page)
    return list(items.values())


@dataclass(frozen=True)
class DownloadedFile:
    """
    A file that was fetched.

    :param path: where it is
    :param was_there: it was there already, the same, and was left as it is
    """

    path: Path
    was_there: bool


def download_item(
    client: CloudHPCClient, item: StorageItem, directory: Path, *, on_existing: OnExisting = "error"
) -> DownloadedFile:
    """
    Fetch one file of the storage into a local directory, under its own basename, when it is whole.

    One API call (``GET /storage/download/{id}``), or two where that gives no link.

    :param on_existing: what to do where another file of that name is; the same one is left as it is
    :raises CloudHPCTransferError: it did not arrive whole, or another file is there
    """
    # The name comes from the server: it is a name, never a path.
    target = directory / check_name(item.basename, "the stored file's name")
    if target.name.endswith(PART_SUFFIX):
        raise CloudHPCValueError(f"The stored file's name {item.basename!r} ends like an unfinished download.")
    problem = ""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    if problem:
        raise CloudHPCTransferError(f"The directory {str(directory)!r} cannot be made: {problem}.")
    log.info("Downloading %s (%s) to %s", item.name, "?" if item.size is None else format_bytes(item.size), target)
    done = Transfer(client.network).download(
        lambda: client.download_url(item.id), target, size=item.size, on_existing=on_existing
    )
    return DownloadedFile(target, done.skipped)
