# SPDX-License-Identifier: Apache-2.0
"""From a storage folder to a solver's directory: files copied, archives unpacked, nothing outside written."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

#: Most that an archive may unpack to, in bytes (and half of the disk's room) and in members: it may be a bomb.
MAX_BYTES = 20 * 1024**3
MAX_MEMBERS = 200_000
_BLOCK = 1 << 20

_RESULTS = (
    "FDS.tar.gz",
    "OPENFOAM-",
    "SATURNE-solution",
    "CODE-ASTER.tar",
    "CALCULIX.tar",
    "OPENRADIOSS.tar",
    "CUSTOM-SCRIPT.tar",
)


class NoCase(Exception):
    """There is nothing to be run; the message is the platform's own."""


def prepare(
    directory: Path,
    folder: str,
    files: list[tuple[PurePosixPath, Path]] | None,
    archive: tuple[str, Path] | None = None,
) -> str:
    """
    Lay out a case.

    :param directory: where; made
    :param folder: the storage folder's name
    :param files: name inside the folder, and where the bytes are; None where there is no such folder
    :param archive: name and bytes of an archive in the storage's root that is named like the folder, if there is one:
        it holds the folder
    :return: what the platform has to say about it: ``@@@`` lines, empty where all is well
    :raises NoCase: where nothing can be run
    """
    if files is None and archive is None:
        raise NoCase(f"FOLDER {folder} not detected")
    directory.mkdir(parents=True, exist_ok=True)
    if archive is not None:
        _take_folder(archive, folder, directory)
    left_out = set()
    for name, source in files or ():
        if len(name.parts) > 1:
            left_out.add(name.parts[0])
        elif is_archive(name.name):
            # Results of an earlier run stay packed: they are no input.
            if not name.name.startswith(_RESULTS):
                _unpack(source, name.name, directory)
        else:
            shutil.copyfile(source, directory / name)
    if left_out:
        return f"@@@ WARNING: subfolders only travel inside of an archive, left out: {', '.join(sorted(left_out))}\n"
    return ""


def is_archive(name: str) -> bool:
    """Whether a file's name says that it is an archive."""
    return name.endswith(tuple(UNPACKERS))


def _take_folder(archive: tuple[str, Path], folder: str, directory: Path) -> None:
    """An archive of the storage's root: what it holds of the folder."""
    name, source = archive
    whole = directory.with_name(directory.name + "-root")
    _unpack(source, name, whole)
    if not (whole / folder).is_dir():
        raise NoCase(f"Not found folder {folder} inside of compressed file {name}")
    shutil.copytree(whole / folder, directory, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(whole)


def _unpack(archive: Path, name: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    suffix = next(suffix for suffix in UNPACKERS if name.endswith(suffix))
    try:
        UNPACKERS[suffix](archive, name, target)
    except NoCase:
        raise
    except Exception as error:  # what is raised is up to whoever made the archive
        why = f"{type(error).__name__}: {error}"
        raise NoCase(f"{name} not recognized as an available compressed format ({why})") from None


class _InBlocks:
    """
    A stream that nobody may read at a gulp: tarfile takes headers into memory whole, of whatever length they claim.

    :param stream: what is unpacked
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """
        Up to ``size`` bytes.

        :raises ValueError: for more than a block
        """
        if not 0 <= size <= _BLOCK:
            raise ValueError("a header of the archive is too long")
        return self._stream.read(size)


def _unpack_tar(archive: Path, name: str, target: Path) -> None:
    with archive.open("rb") as packed:
        start = packed.read(6)
    opener = next((opener for magic, opener in _PACKERS.items() if start.startswith(magic)), Path.open)
    with cast("IO[bytes]", opener(archive, "rb")) as stream:
        with tarfile.open(fileobj=cast(Any, _InBlocks(stream)), mode="r:") as tar:
            _extract(tar, target)
        # To the end: the checksum stands there.
        while stream.read(_BLOCK):
            pass


def _extract(tar: tarfile.TarFile, target: Path) -> None:
    total, room = 0, _room(target)
    for members, member in enumerate(tar, 1):
        total += member.size
        _check_size(total, members, room)
        tar.extract(member, target, filter="data")


def _unpack_xz(archive: Path, name: str, target: Path) -> None:
    """A tar archive, or one file."""
    try:
        _unpack_tar(archive, name, target)
    except tarfile.ReadError:
        total, room = 0, _room(target)
        with lzma.open(archive) as packed, (target / name.removesuffix(".xz")).open("wb") as file:
            while block := packed.read(_BLOCK):
                total += len(block)
                _check_size(total, 1, room)
                file.write(block)


def _unpack_zip(archive: Path, name: str, target: Path) -> None:
    root = target.resolve()
    with zipfile.ZipFile(archive) as zipped:
        infos = zipped.infolist()
        _check_size(sum(info.file_size for info in infos), len(infos), _room(target))
        for info in infos:
            # ZipFile drops ".." by itself; a link made by an earlier member could still lead outside.
            if not (root / info.filename).resolve().is_relative_to(root):
                raise ValueError("a member leads outside")
            zipped.extract(info, target)


def _unpack_with_program(archive: Path, name: str, target: Path) -> None:
    """Formats that Python does not know."""
    program = shutil.which("bsdtar")
    if program is None:
        suffix = PurePosixPath(name).suffix
        raise NoCase(f"{name}: this machine cannot unpack {suffix}: it has no bsdtar (Debian: libarchive-tools)")

    # It only translates, so that every archive is held against the same rules and limits.
    with subprocess.Popen(
        [program, "--format", "pax", "-cf", "-", f"@{archive}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as translated:  # fmt: skip
        try:
            with tarfile.open(fileobj=translated.stdout, mode="r|") as tar:
                _extract(tar, target)
        except BaseException:
            translated.kill()
            raise
    if translated.returncode:
        raise ValueError(f"{program} ended with {translated.returncode}")


def _room(target: Path) -> int:
    """How many bytes an archive may hold."""
    return min(MAX_BYTES, shutil.disk_usage(target).free // 2)


def _check_size(total: int, members: int, room: int) -> None:
    if total > room or members > MAX_MEMBERS:
        raise ValueError("the archive holds too much")


#: How what was packed begins -> how it is opened.
_PACKERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
#: What an archive's name ends with -> how it is unpacked; the longer ending first.
UNPACKERS: dict[str, Callable[[Path, str, Path], None]] = {
    **dict.fromkeys((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar"), _unpack_tar),
    ".xz": _unpack_xz,
    ".zip": _unpack_zip,
    ".7z": _unpack_with_program,
    ".rar": _unpack_with_program,
}
