# SPDX-License-Identifier: Apache-2.0
"""A path as a user may name it: local, or on any object storage that Airflow reaches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError, CloudHPCValueError
from airflow_provider_cloudhpc.api.sources import FileSource
from airflow_provider_cloudhpc.api.storage import check_source

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.api.downloading import OnExisting
    from airflow_provider_cloudhpc.api.sources import Source

#: Bytes compared at once.
_BLOCK = 1 << 20


def read_path(value: Any, what: str) -> Path | Any:
    """
    Read a path: a local one, an ``ObjectStoragePath``, or a URI such as ``s3://my_conn@bucket/key``.

    :return: a :class:`~pathlib.Path` for everything local, ``file://`` included, else an ``ObjectStoragePath``
    :raises CloudHPCValueError: it is none of these
    """
    if not value or not isinstance(value, str | Path | ObjectStoragePath):
        raise CloudHPCValueError(
            f"{what} is {value!r}: a local path or a URI such as s3://my_conn@bucket/key is needed."
        )
    if isinstance(value, str) and "://" in value:
        value = ObjectStoragePath(value)
    if not isinstance(value, ObjectStoragePath):
        return Path(value).expanduser()
    return Path(value.path) if value.protocol == "file" else value


@dataclass(frozen=True)
class ObjectSource:
    """An object on a storage that Airflow reaches; streamed, never read whole."""

    path: Any

    @property
    def name(self) -> str:
        """Its URI."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Its bytes, now."""
        return int(self.path.stat().st_size)

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return cast("BinaryIO", self.path.open("rb"))


def open_source(value: Any, what: str = "source") -> Source:
    """
    Find what is to be uploaded, before anything is sent.

    :raises CloudHPCValueError: it is missing, a folder, or cannot be read
    """
    path = read_path(value, what)
    if isinstance(path, Path):
        check_source(path, what)
        return FileSource(path)
    problem = ""
    try:
        if path.is_dir():
            problem = "it is a folder; a folder travels as one archive (CloudHPCUploadFolderOperator)"
        elif not path.exists():
            problem = "there is no such object"
    except Exception as error:  # each file system has its own
        problem = f"it cannot be looked at: {type(error).__name__}: {error}"
    if problem:
        raise CloudHPCValueError(f"{what} is {str(path)!r}: {problem}.")
    return ObjectSource(path)


def put_object(local: Path, target: Any, on_existing: OnExisting) -> None:
    """
    Put a whole and verified local file onto an object storage.

    By the file system's own way of putting a file: an ``open()`` for writing would leave what had been written under
    the final key when it breaks.

    :param target: the ``ObjectStoragePath`` of the file to be
    :param on_existing: what to do where another object of that name is; the same one is left as it is
    :raises CloudHPCTransferError: it did not arrive, or another object is there
    """
    problem = ""
    try:
        if target.exists():
            if on_existing == "keep" or _is_same(local, target):
                return
            if on_existing == "error":
                problem = "another object is there; choose on_existing='overwrite' or 'keep', or another directory"
        if not problem:
            target.fs.put_file(str(local), target.path)
            size = target.fs.info(target.path)["size"]
            if size != local.stat().st_size:
                target.unlink()
                problem = f"{size} of its {local.stat().st_size} bytes arrived; they were removed"
    except Exception as error:  # each file system has its own
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise CloudHPCTransferError(f"{str(target)!r} could not be written: {problem}.")


def _is_same(local: Path, target: Any) -> bool:
    if target.stat().st_size != local.stat().st_size:
        return False
    with local.open("rb") as ours, target.open("rb") as theirs:
        while block := ours.read(_BLOCK):
            if theirs.read(len(block)) != block:
                return False
    return True
