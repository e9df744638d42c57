# SPDX-License-Identifier: Apache-2.0
"""From a storage folder to a solver's directory: files copied, archives unpacked, nothing outside written."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

#: Most that archives may unpack to, in bytes and in members: a bomb must not fill the disk.
MAX_BYTES = 20 * 1024**3
MAX_MEMBERS = 200_000

_TAR = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar")
_RESULTS = (
    "FDS.tar.gz",
    "OPENFOAM-",
    "SATURNE-solution",
    "CODE-ASTER.tar",
    "CALCULIX.tar",
    "OPENRADIOSS.tar",
    "CUSTOM-SCRIPT.tar",
)


def prepare(directory: Path, files: list[tuple[PurePosixPath, Path]]) -> str:
    """
    Lay out a case.

    :param directory: where; made
    :param files: name inside the folder, and where the bytes are
    :return: what the platform has to say about it: ``@@@`` lines, empty where all is well
    """
    directory.mkdir(parents=True, exist_ok=True)
    messages = ""
    for name, source in files:
        target = directory / name
        if name.name.endswith(_TAR) or name.suffix == ".zip":
            # Results of an earlier run stay packed: they are no input.
            if not name.name.startswith(_RESULTS):
                messages += _unpack(source, name, target.parent)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return messages


def _unpack(archive: Path, name: PurePosixPath, target: Path) -> str:
    target.mkdir(parents=True, exist_ok=True)
    try:
        if name.suffix == ".zip":
            _unpack_zip(archive, target)
        else:
            _unpack_tar(archive, target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        return f"@@@ ERROR: {name} not recognized as an available compressed format ({type(error).__name__})\n"
    return ""


def _unpack_tar(archive: Path, target: Path) -> None:
    total = members = 0
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            total, members = total + member.size, members + 1
            _check_size(total, members)
            tar.extract(member, target, filter="data")


def _unpack_zip(archive: Path, target: Path) -> None:
    root = target.resolve()
    with zipfile.ZipFile(archive) as zipped:
        infos = zipped.infolist()
        _check_size(sum(info.file_size for info in infos), len(infos))
        for info in infos:
            # ZipFile drops ".." by itself; a link made by an earlier member could still lead outside.
            if not (root / info.filename).resolve().is_relative_to(root):
                raise ValueError("a member leads outside")
            zipped.extract(info, target)


def _check_size(total: int, members: int) -> None:
    if total > MAX_BYTES or members > MAX_MEMBERS:
        raise ValueError("the archive holds too much")
