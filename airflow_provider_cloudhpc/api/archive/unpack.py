# SPDX-License-Identifier: Apache-2.0
"""
An archive from elsewhere becomes a folder, or nothing at all.

:mod:`tarfile` with its ``data`` filter is the only extractor: one parser both judges and writes. The judgement here
comes on top, needs no file system, and does not lean on fixes that only newer Pythons' filters have: every name is
claimed once, nothing is written through a link, and links are followed in a table when all of them are known.
"""

from __future__ import annotations

import os
import platform
import posixpath
import shutil
import tarfile
import unicodedata
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from airflow_provider_cloudhpc.api.archive.codec import CODEC_ERRORS, gzip_reader
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCValueError
from airflow_provider_cloudhpc.api.progress import format_bytes
from airflow_provider_cloudhpc.api.transfer.aside import folder_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cloudhpc.api.progress import ProgressCallback

#: Bytes read and written at once: tarfile copies what is left of a block at each header, and ext4 likes small writes.
_CHUNK = 128 << 10
#: Headers that only describe the next member are read whole by tarfile, so a huge one is a bomb.
_MAX_EXTENDED_HEADER = 1 << 20
_EXTENDED = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME}
_EXTENDED |= {tarfile.GNUTYPE_LONGLINK}
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
_MAX_LINK_HOPS = 40
_MAX_LINK_LENGTH = 4096


@dataclass(frozen=True)
class UnpackLimits:
    """
    What an archive may hold before it is taken for a bomb.

    :param max_members: files, folders and links
    :param max_total_bytes: bytes of all files together
    :param max_ratio: unpacked bytes for one packed byte; solver output reaches 20, deflate ends at 1032
    :param ratio_floor: unpacked bytes below which the ratio does not matter
    :param allow_case_collisions: unpack names that differ in case only (``U`` and ``u``); elsewhere they are one file
    """

    max_members: int = 1_000_000
    max_total_bytes: int = 1 << 40
    max_ratio: float = 200.0
    ratio_floor: int = 1 << 30
    allow_case_collisions: bool = False


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
    judge = _Judge(source.name, limits, source.stat().st_size)
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
            _move(content, target, staging / "old")
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


def _move(content: Path, target: Path, old: Path) -> None:
    """Put the folder in place; what was there is in ``old`` then."""
    if not target.is_dir():
        content.rename(target)
        return
    target.rename(old)
    try:
        content.rename(target)
    except OSError:
        old.rename(target)
        raise


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


def _open(stack: ExitStack, raw: BinaryIO, judge: _Judge, progress: ProgressCallback | None) -> _Stream:
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
        self, source: BinaryIO, raw: BinaryIO, judge: _Judge, progress: ProgressCallback | None, *, compressed: bool
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


class _Judge:
    """
    Says of each member, before it is written, whether it may be.

    :param archive: name for messages
    :param limits: what is taken for a bomb
    :param packed_size: bytes of the archive
    """

    def __init__(self, archive: str, limits: UnpackLimits, packed_size: int) -> None:
        self._archive = archive
        self._limits = limits
        by_ratio = max(limits.ratio_floor, int(limits.max_ratio * packed_size))
        self._max_bytes = min(limits.max_total_bytes, by_ratio)
        self._why_bytes = "max_total_bytes" if self._max_bytes == limits.max_total_bytes else "max_ratio"
        # What is where: name as the least particular file system sees it -> (name, type).
        self._names: dict[str, tuple[str, bytes]] = {}
        self._links: dict[str, str] = {}
        self.content_size = 0
        self.count = 0
        self.member = ""

    def refusal(self, why: str) -> CloudHPCArchiveError:
        """Make the exception for the member at hand."""
        where = f"The archive {self._archive} was refused at its member {self.member!r}"
        return CloudHPCArchiveError(
            f"{where if self.member else f'The archive {self._archive} was refused'}: {why}. Nothing of it was kept."
        )

    def members(self, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        """Give the members, each judged; the links' ends when all are known."""
        while (member := tar.next()) is not None:
            self.member = member.name
            # tarfile would keep them all.
            tar.members.clear()  # type: ignore[attr-defined]
            self.count += 1
            if self.count > self._limits.max_members:
                raise self.refusal(f"it holds more than {self._limits.max_members} members (max_members)")
            name = self._clean(member.name)
            if not name and member.isdir():
                continue
            if not name:
                raise self.refusal("it stands for the folder itself and is none")
            self._claim(name, member.type)
            if member.isreg():
                self.content_size += member.size
                self._check_size(self.content_size)
            elif member.islnk():
                member.linkname = self._clean(member.linkname)
                if self._names.get(self._key(member.linkname), ("", b""))[1] not in tarfile.REGULAR_TYPES:
                    raise self.refusal(f"it is a hard link to {member.linkname!r}, which is no file before it")
            elif member.issym():
                if member.linkname.startswith("/") or len(member.linkname) > _MAX_LINK_LENGTH:
                    raise self.refusal(f"it is a link to an absolute or overlong name ({member.linkname[:100]!r})")
                self._links[name] = member.linkname
                self._follow(posixpath.dirname(name), member.linkname)
            elif not member.isdir():
                raise self.refusal("it is a device, a pipe or of an unknown kind")
            member.name = name
            yield member
        # Once more: links that came later may have changed where one leads.
        for name, target in self._links.items():
            self.member = name
            self._follow(posixpath.dirname(name), target)

    def check_stream(self, size: int) -> None:
        """Refuse a stream that is longer than its members account for: headers, padding, what lies behind the end."""
        self._check_size(size - 3 * tarfile.BLOCKSIZE * self.count - (1 << 20))

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            limit = format_bytes(self._max_bytes)
            raise self.refusal(f"it unpacks to more than {limit} and looks like a bomb (limit {self._why_bytes})")

    def _clean(self, name: str) -> str:
        """Give a name without ``.``, doubled and trailing slashes."""
        if name.startswith("/"):
            raise self.refusal("it has an absolute name" if name == self.member else f"{name!r} is an absolute name")
        steps = [step for step in name.split("/") if step not in ("", ".")]
        if ".." in steps:
            raise self.refusal("its name goes up with '..'" if name == self.member else f"{name!r} goes up with '..'")
        return "/".join(steps)

    def _key(self, name: str) -> str:
        if self._limits.allow_case_collisions:
            return name
        return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name.casefold())

    def _claim(self, name: str, kind: bytes) -> None:
        """Enter a name and the folders above it; each can be one thing only, once (a folder may be named again)."""
        if parent := posixpath.dirname(name):
            self._claim(parent, tarfile.DIRTYPE)
        key = self._key(name)
        if key not in self._names:
            self._names[key] = (name, kind)
            return
        there, there_kind = self._names[key]
        if there != name:
            raise self.refusal(
                f"{name!r} and {there!r} differ in case only, and one would overwrite the other where that makes no "
                "difference (allow_case_collisions)"
            )
        if kind != tarfile.DIRTYPE or there_kind != tarfile.DIRTYPE:
            raise self.refusal(f"{name!r} is in it twice")

    def _follow(self, folder: str, target: str) -> None:
        """Walk where a link leads, through the archive's other links, and refuse it if that is outside."""
        way = [step for step in folder.split("/") if step]
        steps = target.split("/")[::-1]
        hops = 0
        while steps:
            step = steps.pop()
            if step == "..":
                if not way:
                    raise self.refusal(f"it is a link that leaves the archive ({target!r})")
                way.pop()
            elif step not in ("", "."):
                way.append(step)
                if (link := self._links.get("/".join(way))) is not None:
                    hops += 1
                    if hops > _MAX_LINK_HOPS:
                        raise self.refusal("it is a link that leads in a circle")
                    way.pop()
                    steps.extend(link.split("/")[::-1])


def _explain(error: Exception) -> str:
    """Say what a foreign exception means."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"it could not be unpacked: {error.strerror}"
    if isinstance(error, tarfile.FilterError):
        return f"it would not stay in its folder ({type(error).__name__})"
    return f"it is damaged or cut off ({str(error) or type(error).__name__})"
