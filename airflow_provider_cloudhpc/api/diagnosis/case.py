# SPDX-License-Identifier: Apache-2.0
"""A case before its run, wherever it lies: a local folder, an archive, a folder of the storage. Nothing is changed."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.archive.codec import CODEC_ERRORS
from airflow_provider_cloudhpc.api.archive.listing import list_case

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from airflow_provider_cloudhpc.api.models import StorageItem

#: Bytes of an input file that are read.
DECK = 4_000_000
#: Bytes of a compressed tar above which its members are not listed: it has to be decompressed for that.
_CHEAP_TAR = 64_000_000
_ARCHIVES = (".tar.gz", ".tgz", ".zip", ".7z", ".rar", ".xz")
_TARS = (".tar.gz", ".tgz", ".tar.xz")
#: What is raised for an archive that cannot be read.
_UNREADABLE: tuple[type[Exception], ...] = (
    OSError, EOFError, KeyError, ValueError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, *CODEC_ERRORS,
)  # fmt: skip
#: Archives that the service leaves in a folder at the end of a run.
RESULT_ARCHIVE = re.compile(
    r"(FDS|OPENFOAM-\w+|SATURNE-solution|CODE-ASTER|CALCULIX|OPENRADIOSS|CloudHPC-massive-files.*)\.tar\.gz"
)


class Place(Enum):
    """Where a case lies."""

    FOLDER = "folder"
    ARCHIVE = "archive"
    STORAGE = "storage"


@dataclass(frozen=True)
class Case:
    """
    What is known of a case; what is not known is not checked.

    :param files: path from the case folder -> size in bytes (None where it is not known)
    :param script: name of the solver's script; "" if not known
    :param cpu: vCPUs; None if not known
    :param ram: RAM tier; "" if not known
    :param place: where it lies
    :param folders: folders of it whose content is not known
    :param read: gives the first :data:`DECK` bytes of a file, None where it cannot; None where none can be read
    """

    files: Mapping[str, int | None]
    script: str = ""
    cpu: int | None = None
    ram: str = ""
    place: Place = Place.FOLDER
    folders: frozenset[str] = frozenset()
    read: Callable[[str], bytes | None] | None = field(default=None, repr=False)

    def top(self, *endings: str) -> list[str]:
        """Give the files of an ending that lie in the case folder itself, sorted."""
        return sorted(name for name in self.files if "/" not in name and name.lower().endswith(endings))

    def runs(self, *families: str) -> bool:
        """Whether the script is of one of these families."""
        return self.script.lower().startswith(families)

    def text(self, name: str) -> str | None:
        """Give the beginning of a file; None where it cannot be read."""
        content = self.read(name) if self.read else None
        return None if content is None else content.decode("latin-1")

    @property
    def is_packed(self) -> bool:
        """Whether what the solver will find is in an archive whose content is not known."""
        archives = [name for name in self.top(*_ARCHIVES) if not RESULT_ARCHIVE.fullmatch(name)]
        # In the storage the platform unpacks what it finds; what lies in a folder that is packed here stays packed.
        return bool(archives) and (self.place is Place.STORAGE or len(archives) == len(self.files))


def case_of(
    source: str | os.PathLike[str], *, script: str = "", cpu: int | None = None, ram: str = "",
    exclude: Sequence[str] = (), include_hidden: bool = False,
) -> Case:  # fmt: skip
    """
    Look at a local case: a folder as it would be packed, an archive, or one file.

    :param script: name of the solver's script; "" if not known: then only what holds for all is checked
    """
    path = Path(source)
    if path.is_dir():
        files: Mapping[str, int | None] = dict(list_case(path, exclude=exclude, include_hidden=include_hidden))
        return Case(files, script, cpu, ram, read=lambda name: _read_file(path / name))
    members = _members(path)
    if members:
        reader = (lambda name: _read_zipped(path, name)) if path.name.lower().endswith(".zip") else None
        return Case(members, script, cpu, ram, Place.ARCHIVE, read=reader)
    return Case({path.name: path.stat().st_size}, script, cpu, ram, read=lambda name: _read_file(path.parent / name))


def case_in_storage(items: Iterable[StorageItem], *, script: str = "", cpu: int | None = None, ram: str = "") -> Case:
    """
    Look at a case by the listing of its storage folder.

    :param items: what lies in the folder itself
    """
    known = list(items)
    return Case(
        {item.basename: item.size for item in known if not item.is_folder},
        script,
        cpu,
        ram,
        Place.STORAGE,
        frozenset(item.basename for item in known if item.is_folder),
    )


def _members(path: Path) -> dict[str, int | None]:
    """List an archive's files, where that is cheap; none where it is no archive or cannot be read."""
    name = path.name.lower()
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                return {_plain(one.filename): one.file_size for one in archive.infolist() if not one.is_dir()}
        if name.endswith(_TARS) and path.stat().st_size <= _CHEAP_TAR:
            with tarfile.open(path, mode="r|*") as tar:
                return {_plain(one.name): one.size for one in tar if not one.isdir()}
    except _UNREADABLE:
        pass
    return {}


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _read_file(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(DECK)
    except OSError:
        return None


def _read_zipped(path: Path, name: str) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return file.read(DECK)
    except _UNREADABLE:
        return None
