# SPDX-License-Identifier: Apache-2.0
"""A path as a user may name it: local, or on any object storage that Airflow reaches."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.callbacks import Callback

from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError, CloudHPCValueError
from airflow_provider_cloudhpc.api.progress import ProgressLog, format_bytes
from airflow_provider_cloudhpc.api.transfer.sources import FileSource
from airflow_provider_cloudhpc.api.transfer.storage import check_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cloudhpc.api.transfer.downloading import OnExisting
    from airflow_provider_cloudhpc.api.transfer.sources import Source

log = logging.getLogger(__name__)

#: Bytes compared at once.
_BLOCK = 1 << 20
#: Bytes fetched ahead of what is read, and sent in one part; the 50 MiB that are usual, ten at once, fill a worker.
_PART = 8 << 20
#: Parts that S3 takes of one object.
_MOST_PARTS = 10_000
#: Bytes of a name on the file systems of Linux.
_LONGEST_NAME = 255
#: How storages call what changes with an object.
_VERSIONS = ("ETag", "etag", "VersionId", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
_ANOTHER = "another object is there; choose on_existing='overwrite' or 'keep', or another directory"


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
    if value == "None":
        raise CloudHPCValueError(f"{what} is 'None': a template gave nothing; did the task before push it?")
    if isinstance(value, str) and "://" in value:
        try:
            path = ObjectStoragePath(value)
            _ = path.fs  # Airflow 2 finds out only here that it does not know the storage
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            problem = ""
        if problem:
            raise CloudHPCValueError(
                f"{what} is {_without_secrets(value)!r}: this storage cannot be reached from here. {problem}"
            )
        value = path
    if not isinstance(value, ObjectStoragePath):
        return _read_local(Path(value), what)
    return _read_local(Path(value.path), what) if value.protocol in ("file", "local") else value


def _read_local(path: Path, what: str) -> Path:
    """Give a local path that a file system can hold, ``~`` resolved."""
    problem = ""
    if "\0" in str(path):
        problem = "it holds a NUL character, which no name can"
    elif any(len(os.fsencode(step)) > _LONGEST_NAME for step in path.parts):
        problem = f"a name in it is longer than the {_LONGEST_NAME} bytes that a file's may have"
    try:
        path = path.expanduser()
    except RuntimeError:
        problem = f"this worker knows no home directory {path.parts[0]!r} (a name that begins so is {f'./{path}'!r})"
    if problem:
        raise CloudHPCValueError(f"{what} is {str(path)!r}: {problem}.")
    return path


def _without_secrets(uri: str) -> str:
    """Give a URI as it may be told: the query of a signed link is a credential, as is what stands before its host."""
    scheme, _, rest = uri.partition("://")
    if scheme.lower() not in ("http", "https"):
        return uri
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def is_local(path: Any) -> TypeGuard[Path]:
    """Say which of the two :func:`read_path` gave; in Airflow 2 an ``ObjectStoragePath`` is a ``Path`` as well."""
    return isinstance(path, Path) and not isinstance(path, ObjectStoragePath)


def tell_temporary() -> str:
    """Say where the worker's temporary directory is and what can be done when it is full."""
    temporary = tempfile.gettempdir()
    free = format_bytes(shutil.disk_usage(temporary).free)
    return (
        f"It goes by way of the worker's temporary directory {temporary!r}, which has {free} free without it: make "
        "room there, or set TMPDIR to a larger one."
    )


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
        return cast("BinaryIO", self.path.open("rb", block_size=_PART))

    def stamp(self) -> object:
        """Give what its storage says of its version, its time and its size, asked anew."""
        self.path.fs.invalidate_cache()
        info = self.path.fs.info(self.path.path)
        return info["size"], [info.get(key) for key in _VERSIONS]


def open_source(value: Any, what: str = "source") -> Source:
    """
    Find what is to be uploaded, before anything is sent.

    :raises CloudHPCValueError: it is missing, a folder, or cannot be read
    """
    path = read_path(value, what)
    if is_local(path):
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


def stays(target: Any, size: int | None, on_existing: OnExisting) -> bool:
    """
    Say whether what is at a target stays as it is, as far as that is known before a byte is fetched.

    :param target: the ``ObjectStoragePath`` of the file to be
    :param size: bytes it is to have, None where not known
    :raises CloudHPCTransferError: another object is there, or it cannot be looked at
    """
    if on_existing == "overwrite":
        return False
    with _errors_of(target):
        if not target.exists():
            return False
        if on_existing == "keep":
            log.info("Kept %s, which was there", target)
            return True
        if size is not None and target.stat().st_size != size:
            raise _refusal(target, _ANOTHER)
    return False


def put_object(local: Path, target: Any, on_existing: OnExisting) -> None:
    """
    Put a whole and verified local file onto an object storage.

    By the file system's own way of putting a file: an ``open()`` for writing would leave what had been written under
    the final key when it breaks.

    :param target: the ``ObjectStoragePath`` of the file to be
    :param on_existing: what to do where another object of that name is; the same one is left as it is
    :raises CloudHPCTransferError: it did not arrive, or another object is there
    """
    size = local.stat().st_size
    with _errors_of(target):
        was_there = target.exists()
        if was_there:
            if on_existing == "keep" or _is_same(local, target):
                log.info("Kept %s, which was there", target)
                return
            if on_existing == "error":
                raise _refusal(target, _ANOTHER)
        try:
            progress = ProgressLog(f"Putting {local.name} to {target}", log)
            callback = Callback(size, hooks={"log": lambda total, done, **_: progress(done, total)})
            target.fs.put_file(str(local), target.path, callback=callback, **_put_options(target, size))
            arrived = target.fs.info(target.path)["size"]
            if arrived != size:
                was_there = False
                raise _refusal(target, f"{arrived} of its {size} bytes arrived; they were removed")
        except BaseException:
            # Object stores show nothing of what broke off; file systems that pass for one (SFTP, HDFS) may.
            if not was_there:
                with suppress(Exception):
                    target.unlink()
            raise


@contextmanager
def _errors_of(target: Any) -> Iterator[None]:
    try:
        yield
    except CloudHPCTransferError:
        raise
    except Exception as error:  # each file system has its own
        problem = f"{type(error).__name__}: {error}"
    else:
        return
    raise _refusal(target, problem)


def _refusal(target: Any, problem: str) -> CloudHPCTransferError:
    return CloudHPCTransferError(f"{str(target)!r} could not be written: {problem}.")


def _put_options(target: Any, size: int) -> dict[str, int]:
    if target.protocol not in ("s3", "s3a"):
        return {}
    return {"chunksize": max(_PART, math.ceil(size / _MOST_PARTS)), "max_concurrency": 4}


def _is_same(local: Path, target: Any) -> bool:
    if target.stat().st_size != local.stat().st_size:
        return False
    with local.open("rb") as ours, target.open("rb", block_size=_PART) as theirs:
        while block := ours.read(_BLOCK):
            if theirs.read(len(block)) != block:
                return False
    return True
