# SPDX-License-Identifier: Apache-2.0
"""A case goes up, results come down: the calls and transfers of one file in their order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.aside import PART_SUFFIX
from airflow_provider_cloudhpc.api.errors import (
    CloudHPCError,
    CloudHPCNotFoundError,
    CloudHPCTransferError,
    CloudHPCValueError,
)
from airflow_provider_cloudhpc.api.names import check_folder, check_name, is_result
from airflow_provider_cloudhpc.api.sources import FileSource
from airflow_provider_cloudhpc.api.transfer import Transfer

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.downloading import OnExisting
    from airflow_provider_cloudhpc.api.models import StorageItem

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
        with source.open("rb"):
            return source.stat().st_size
    except IsADirectoryError:
        problem = "it is a folder; a folder travels as one archive"
    except FileNotFoundError:
        problem = "there is no such file on this worker"
    except OSError as error:
        problem = f"it cannot be read: {(error.strerror or 'unknown reason').lower()}"
    raise CloudHPCValueError(f"{what} is {str(source)!r}: {problem}.")


def upload_file(client: CloudHPCClient, source: Path, folder: str, filename: str) -> UploadedFile:
    """
    Put one local file into the storage and prove that it is there, whole.

    Two API calls (``POST /storage/upload-url``, ``DELETE /user/delete-cache``), and a third
    (``POST /storage/view-by-path``) only where the store names no hash.

    :param folder: storage folder
    :raises CloudHPCValueError: the file or a name is unusable; nothing was sent
    :raises CloudHPCTransferError: the file did not arrive
    """
    size = check_source(source)
    folder, filename = check_folder(folder), check_name(filename, "filename")
    path = f"{folder}/{filename}"
    transfer = Transfer(client.network)
    log.info("Uploading %s (%d bytes) to %s", source, size, path)
    sent = transfer.upload(lambda: client.upload_url(folder, filename), FileSource(source))
    try:
        client.delete_cache()
    except CloudHPCError as error:
        log.warning("The file is uploaded, but the storage's cache was not deleted: %s", error)
    if not sent.proven:
        _prove_by_listing(client, path, sent.size)
    return UploadedFile(path, folder, filename, sent.size, "hash" if sent.proven else "listing")


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


def result_items(client: CloudHPCClient, folder: str) -> list[StorageItem]:
    """
    Find the result archives of a folder.

    :raises CloudHPCNotFoundError: there are none; the message names what is there
    """
    items = list_folder(client, folder)
    results = [item for item in items if not item.is_folder and is_result(item.basename)]
    if not results:
        names = ", ".join(sorted(item.basename for item in items)[:20]) or "nothing"
        raise CloudHPCNotFoundError(
            f"No result archives in the storage folder {folder!r}; it holds {names}. Results appear when a run has "
            "ended (also every 10 hours, and after a sync), and the service deletes files 60 days after their creation."
        )
    return results


def download_item(
    client: CloudHPCClient, item: StorageItem, directory: Path, *, on_existing: OnExisting = "error"
) -> Path:
    """
    Fetch one file of the storage into a local directory, under its own basename, when it is whole.

    One API call (``GET /storage/download/{id}``), or two where that gives no link.

    :param on_existing: what to do where another file of that name is; the same one is left as it is
    :return: the file's path
    :raises CloudHPCTransferError: it did not arrive whole, or another file is there
    """
    # The name comes from the server: it is a name, never a path.
    target = directory / check_name(item.basename, "the stored file's name")
    if target.name.endswith(PART_SUFFIX):
        raise CloudHPCValueError(f"The stored file's name {item.basename!r} ends like an unfinished download.")
    directory.mkdir(parents=True, exist_ok=True)
    transfer = Transfer(client.network)
    log.info("Downloading %s (%s bytes) to %s", item.name, item.size if item.size is not None else "?", target)
    transfer.download(lambda: client.download_url(item.id), target, size=item.size, on_existing=on_existing)
    return target
