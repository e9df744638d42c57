# SPDX-License-Identifier: Apache-2.0
"""
An archive from elsewhere becomes a folder, or nothing at all.

:mod:`tarfile` with its ``data`` filter is the only extractor: one parser both judges and writes. The judgement here
comes on top (:mod:`~airflow_provider_cloudhpc.api.archive.judge`).
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import tarfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from airflow_provider_cloudhpc.api.archive.codec import CODEC_ERRORS, gzip_reader
from airflow_provider_cloudhpc.api.archive.judge import Judge, UnpackLimits
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCValueError
from airflow_provider_cloudhpc.api.progress import format_bytes
from airflow_provider_cloudhpc.api.transfer.aside import folder_aside

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.api.progress import ProgressCallback

#: Bytes read and written at once: tarfile copies what is left of a block at each header, and ext4 likes small writes.
_CHUNK = 128 << 10
#: Headers that only describe the next member are read whole by tarfile, so a huge one is a bomb.
_MAX_EXTENDED_HEADER = 1 << 20
_EXTENDED = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME}
_EXTENDED |= {tarfile.GNUTYPE_LONGLINK}
#: How often another task may unpack to the same folder while ours is to get its name.
_MOST_RIVALS = 10
#: What the parsers and the system make of hostile bytes: sizes that are no numbers, times beyond all bounds, ...
_DAMAGE: tuple[type[Exception], ...] = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    RecursionError,
    *CODEC_ERRORS,
)


@dataclass(frozen=True)
class UnpackedArchive:
    """
    What :func:`unpack_archive` wrote.

    :param path: the folder
    :param content_size: bytes of the files in it
    :param members: number of files, folders and links in it
    """

    path: Path
    content_size: int
    members: int


def unpack_archive(
    archive: str | os.PathLike[str],
    target_dir: str | os.PathLike[str],
    *,
    limits: UnpackLimits | None = None,
    replace: bool = False,
    mark: tuple[str, str] | None = None,
    progress: ProgressCallback | None = None,
) -> UnpackedArchive:
    """
    Unpack a ``.tar.gz`` or ``.tar`` into a new folder, in constant memory; whole, or not at all.

    What it is is read from its first bytes, not from its name. It is unpacked beside the folder and moved there when
    all of it, the checksum at its end included, has been read. Owners, set-id bits and others' write permission are
    not taken over.

    :param archive: the archive
    :param target_dir: the folder to make; may exist if it is empty
    :param limits: what is taken for a bomb; default :class:`UnpackLimits`
    :param replace: replace a folder that is there with all in it
    :param mark: name and text (ASCII) of a file to be put into the folder in place of a member of that name: it is
        there if and only if the folder is whole
    :param progress: called with the bytes of the archive read and those in all
    :return: the folder and its totals
    :raises CloudHPCValueError: the archive is not there, or the folder is and is not empty
    :raises CloudHPCArchiveError: it is damaged, hostile, no tar, or the disk is full; nothing of it was kept
    """
    source, target = Path(archive), Path(target_dir).absolute()
    limits = limits or UnpackLimits()
    if not hasattr(tarfile, "data_filter"):
        raise CloudHPCArchiveError(
            f"{source.name} was not unpacked: Python {platform.python_version()} knows no extraction filters, without "
            "which nothing is unpacked safely. Python 3.11.4 or newer is needed; without `extract` it stays packed."
        )
    if not source.is_file():
        raise CloudHPCValueError(f"There is no archive {str(source)!r} to unpack.")
    _check_target(target, replace)
    judge = Judge(source.name, limits, source.stat().st_size)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            raw = stack.enter_context(source.open("rb", buffering=0))
            stream = _open(stack, raw, judge, progress)
            _check_space(source, raw, target.parent, compressed=stream.compressed)
            staging = stack.enter_context(folder_aside(target))
            content = staging / "content"
            content.mkdir()
            with tarfile.open(  # type: ignore[call-overload]  # the stubs do not know copybufsize
                fileobj=stream, mode="r|", bufsize=_CHUNK, tarinfo=_StrictTarInfo, copybufsize=_CHUNK
            ) as tar:
                tar.extractall(content, members=judge.members(tar), filter="data")
                judge.member = ""
                _read_rest(tar)
            if mark:
                judge.member = mark[0]
                (content / mark[0]).unlink(missing_ok=True)
                (content / mark[0]).write_text(mark[1], encoding="ascii")
                judge.member = ""
            _move(content, target, staging, replace)
    except _DAMAGE as error:
        raise judge.refusal(_explain(error)) from None
    return UnpackedArchive(target, judge.content_size, judge.count)


def _check_target(target: Path, replace: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise CloudHPCValueError(f"Cannot unpack to {str(target)!r}: a file or link of that name is there.")
    if not replace and any(target.iterdir()):
        raise CloudHPCValueError(f"Cannot unpack to {str(target)!r}: the folder is there and not empty.")


def _move(content: Path, target: Path, staging: Path, replace: bool) -> None:
    """Put the folder in place; what was there, or came meanwhile, goes aside if it is to be replaced."""
    for number in range(_MOST_RIVALS):
        try:
            content.rename(target)  # takes the place of nothing, or of an empty folder
            return
        except OSError as error:
            if not replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                if number:
                    (staging / "old-0").rename(target)
                raise
        with suppress(FileNotFoundError):
            target.rename(staging / f"old-{number}")
    raise FileExistsError(errno.ENOTEMPTY, f"{target.name} was made anew each time that it was to be replaced")


def _check_space(source: Path, raw: BinaryIO, folder: Path, *, compressed: bool) -> None:
    size = source.stat().st_size
    if compressed:
        # gzip ends with the unpacked size modulo 4 GiB: at least that much will be needed.
        size = int.from_bytes(os.pread(raw.fileno(), 4, max(0, size - 4)), "little")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise CloudHPCArchiveError(
            f"{source.name} needs at least {format_bytes(size)} unpacked, and {str(folder)!r} has {format_bytes(free)} "
            "free. Make room, or unpack elsewhere; nothing was written."
        )


def _open(stack: ExitStack, raw: BinaryIO, judge: Judge, progress: ProgressCallback | None) -> _Stream:
    start = os.pread(raw.fileno(), 512, 0)
    if start.startswith(b"\x1f\x8b"):
        return _Stream(stack.enter_context(gzip_reader(raw)), raw, judge, progress, compressed=True)
    if start[257:262] == b"ustar":
        return _Stream(raw, raw, judge, progress, compressed=False)
    known = {b"PK\x03\x04": "a zip", b"\xfd7zX": "an xz", b"BZh": "a bzip2", b"7z\xbc\xaf": "a 7z", b"Rar!": "a rar"}
    kind = next((name for magic, name in known.items() if start.startswith(magic)), "")
    raise judge.refusal(
        f"it is {kind} file, and only .tar.gz and .tar are unpacked here"
        if kind
        else "it is no .tar.gz and no .tar file"
    )


class _Stream:
    """The unpacked bytes, counted; what tarfile reads from."""

    def __init__(
        self, source: BinaryIO, raw: BinaryIO, judge: Judge, progress: ProgressCallback | None, *, compressed: bool
    ) -> None:
        self._source = source
        self._raw = raw
        self._judge = judge
        self._progress = progress
        self._size = os.fstat(raw.fileno()).st_size
        self._read = 0
        self.compressed = compressed

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._read += len(data)
        self._judge.check_stream(self._read)
        if self._progress:
            self._progress(min(self._raw.tell(), self._size), self._size)
        return data


def _read_rest(tar: tarfile.TarFile) -> None:
    """Read to the end, where gzip's checksum stands; a tar ends with zeros and nothing else."""
    while data := tar.fileobj.read(_CHUNK):
        if data.strip(b"\0"):
            raise tarfile.ReadError("there is something behind its end (two archives in one file?)")


class _StrictTarInfo(tarfile.TarInfo):
    """Headers as tarfile reads them, but a damaged one is an error and not the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"a header is damaged or missing ({error})") from None

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENDED and header.size > _MAX_EXTENDED_HEADER):
            raise tarfile.ReadError("a header's size is absurd")
        return header


def _explain(error: Exception) -> str:
    """Say what a foreign exception means."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"it could not be unpacked: {error.strerror}"
    if isinstance(error, tarfile.FilterError):
        return f"it would not stay in its folder ({type(error).__name__})"
    return f"it is damaged or cut off ({str(error) or type(error).__name__})"
