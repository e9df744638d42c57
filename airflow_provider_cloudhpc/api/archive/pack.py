# SPDX-License-Identifier: Apache-2.0
"""
A case folder becomes a ``.tar.gz``.

The headers are the standard library's (:meth:`tarfile.TarInfo.tobuf`, PAX), the loop around them is our own: adding
files through :class:`tarfile.TarFile` costs more than reading and compressing them. Compression is Intel's igzip
(``isal``) on threads, zlib where that is not installed.

Same folder, same bytes: members are sorted, owners left out, and the gzip header holds neither name nor time. Modes
and modification times (whole seconds, as GNU tar's own format) are the files' own: ``rsync -a`` keeps them, so its
copies pack to the same bytes; a fresh ``git clone`` does not. Which codec and level packed is part of "same".
"""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import tarfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from airflow_provider_cloudhpc.api.archive.codec import BLOCK, gzip_writer
from airflow_provider_cloudhpc.api.archive.listing import Member, as_text, changed, is_within, list_members, unreadable
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCValueError
from airflow_provider_cloudhpc.api.transfer.aside import file_aside, put_in_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_cloudhpc.api.progress import ProgressCallback

log = logging.getLogger(__name__)

_TAR_BLOCK = 512


@dataclass(frozen=True)
class PackedArchive:
    """
    What :func:`pack_folder` or :func:`pack_into` wrote.

    :param size: bytes of the archive
    :param content_size: bytes of the files in it
    :param members: number of files, folders and links in it
    :param skipped: sockets, pipes and devices that were left out, relative to the folder
    :param path: the archive; None where it has no name
    """

    size: int
    content_size: int
    members: int
    skipped: tuple[str, ...] = ()
    path: Path | None = None


def pack_folder(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    level: int = 3,
    progress: ProgressCallback | None = None,
) -> PackedArchive:
    """
    Pack a folder's content (no folder around it) into a ``.tar.gz`` of this name, whole or not at all.

    :param target: the archive to write, outside of the folder; written aside, then renamed over what is there
    :raises CloudHPCArchiveError: the archive could not be written, too; none is left then, and one that was there stays

    Everything else is as with :func:`pack_into`.
    """
    archive = Path(target).absolute()
    if is_within(os.path.realpath(os.fsencode(archive.parent)), os.path.realpath(os.fsencode(folder))):
        raise CloudHPCValueError(f"The archive {str(archive)!r} must lie outside of the folder that it is made of.")
    try:
        with file_aside(archive) as raw:
            packed = pack_into(
                folder, raw, exclude=exclude, include_hidden=include_hidden, level=level, progress=progress
            )
            put_in_place(raw, archive)
    except OSError as error:
        raise CloudHPCArchiveError(
            f"The archive {str(archive)!r} could not be written: {error.strerror or error}. Nothing of it was kept."
        ) from None
    return replace(packed, path=archive)


def pack_into(
    folder: str | os.PathLike[str],
    archive: BinaryIO,
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    level: int = 3,
    progress: ProgressCallback | None = None,
) -> PackedArchive:
    """
    Pack a folder's content (no folder around it) as ``.tar.gz`` into an open file, in constant memory.

    Symbolic links stay links, and each must lead to something that is packed: one that leaves the folder would carry
    a file of this machine to the service unasked, one that leads nowhere there makes a run that bills and fails.
    Empty folders and permissions are kept; holes of sparse files are packed as the zeros they read as. Names are
    taken as they are: which of them the platform's scripts trip over is for the preflight check to say.

    :param folder: what to pack
    :param archive: where to write, buffered (an unbuffered file takes less than it is given when the disk is full, and
        says so only in a number); stays open
    :param exclude: shell patterns of what to leave out: one with a slash is held against the path from the folder
        (``processor*/0``), one without against every single name (``*.orig``); a folder takes all that is in it along
    :param include_hidden: pack files and folders whose name starts with a dot too
    :param level: 1 to 3 (smallest); igzip takes about the same time for each, zlib twice as long for 3 as for 1
    :param progress: called with the bytes of content packed and those in all
    :return: the archive's totals
    :raises CloudHPCValueError: an argument is wrong, a link is refused, or there is nothing to pack
    :raises CloudHPCArchiveError: a file could not be read, changed or vanished meanwhile
    :raises OSError: the archive could not be written
    """
    root = os.path.realpath(os.fsencode(folder))
    if not 1 <= level <= 3:
        raise CloudHPCValueError(f"level must be 1, 2 or 3, not {level!r}.")
    if not os.path.isdir(root):  # noqa: PTH112  # a Path is text
        raise CloudHPCValueError(f"There is no folder {os.fspath(folder)!r} to pack.")

    members, skipped = list_members(root, exclude, include_hidden)
    if not members:
        raise CloudHPCValueError(
            f"The folder {os.fspath(folder)!r} holds nothing to pack"
            + (" besides what is hidden or excluded." if any(os.scandir(root)) else ".")
        )
    if skipped:
        log.warning("Not packed, since they are no files (sockets, pipes, devices): %s", ", ".join(skipped))
    total = sum(member.size for member in members)
    begin = archive.tell()
    with closing(gzip_writer(archive, level)) as compressed:
        out = _Blocks(compressed, total, progress)
        for member in members:
            _add(out, root, member)
        # The end of an archive is two blocks of zeros.
        out.write(bytes(2 * _TAR_BLOCK))
        out.flush()
    archive.flush()
    return PackedArchive(archive.tell() - begin, total, len(members), tuple(skipped))


def _add(out: _Blocks, root: bytes, member: Member) -> None:
    """Write a member's header and content; whatever is not as it was listed is an error that names it."""
    path = posixpath.join(root, member.path)
    try:
        if member.kind == tarfile.REGTYPE:
            _add_file(out, path, member)
            return
        info = os.lstat(path)
        if not (stat.S_ISDIR if member.kind == tarfile.DIRTYPE else stat.S_ISLNK)(info.st_mode):
            raise changed(member.name)
        out.write(_header(member, info))
    except OSError as error:
        if isinstance(error, _WriteError):
            raise
        raise unreadable(root, error, member.name) from None


def _add_file(out: _Blocks, path: bytes, member: Member) -> None:
    # Neither a link nor a pipe that took the file's place meanwhile is followed or waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or before.st_size != member.size:
            raise changed(member.name)
        out.write(_header(member, before))
        copied = out.copy(descriptor, member.size)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if copied != after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise changed(member.name)


def _header(member: Member, info: os.stat_result) -> bytes:
    header = tarfile.TarInfo(member.name)
    header.type = member.kind
    header.size = member.size
    header.linkname = as_text(member.link)
    header.mtime = info.st_mtime_ns // 10**9
    # A link's own mode differs between systems and means nothing.
    header.mode = 0o777 if member.link else info.st_mode & 0o777
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _WriteError(OSError):
    """The archive could not be written; told apart from a file that could not be read."""


class _Blocks:
    """
    A tar stream cut into blocks of always the same size, however the reads came in.

    :param sink: takes the blocks; done with one when ``write`` returns
    :param total: bytes of content to come
    :param progress: told after each block
    """

    def __init__(self, sink: BinaryIO, total: int, progress: ProgressCallback | None) -> None:
        self._sink = sink
        self._total = total
        self._progress = progress
        self._view = memoryview(bytearray(BLOCK))
        self._used = 0
        self._content = 0

    def write(self, data: bytes) -> None:
        """Add bytes."""
        while data:
            piece, data = data[: BLOCK - self._used], data[BLOCK - self._used :]
            self._view[self._used : self._used + len(piece)] = piece
            self._filled(len(piece))

    def copy(self, descriptor: int, size: int) -> int:
        """
        Add ``size`` bytes of an open file, or as many as there are, and what fills up the last 512.

        :return: bytes that were there
        """
        left = size
        while left:
            end = min(BLOCK, self._used + left)
            got = os.readv(descriptor, [self._view[self._used : end]])
            if not got:
                break
            left -= got
            self._content += got
            self._filled(got)
        self.write(bytes(-size % _TAR_BLOCK))
        return size - left

    def flush(self) -> None:
        """Hand on what is left."""
        try:
            self._sink.write(self._view[: self._used])
        except OSError as error:
            raise _WriteError(error.errno, error.strerror) from None
        self._used = 0
        if self._progress:
            self._progress(self._content, self._total)

    def _filled(self, size: int) -> None:
        self._used += size
        if self._used == BLOCK:
            self.flush()
