# SPDX-License-Identifier: Apache-2.0
"""
Which members of an archive may be written: judged by their names, kinds and sizes, before and without a file system.

Every name is claimed once, nothing is written through a link, and links are followed in a table when all of them are
known; none of it leans on fixes that only newer Pythons' extraction filters have.
"""

from __future__ import annotations

import math
import posixpath
import tarfile
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCValueError
from airflow_provider_cloudhpc.api.progress import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_LINK_HOPS = 40
_MAX_LINK_LENGTH = 4096


@dataclass
class _Entry:
    """
    What is at a name.

    :param inside: a folder's entries, by their own name as the least particular file system sees it: whole paths would
        take a thousand times the memory where an archive goes deep
    """

    name: str
    kind: bytes
    inside: dict[str, _Entry] = field(default_factory=dict)


@dataclass(frozen=True)
class UnpackLimits:
    """
    What an archive may hold before it is taken for a bomb.

    :param max_members: files, folders (those that only names lead through, too) and links
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

    def __post_init__(self) -> None:
        """
        Refuse what is no limit.

        :raises CloudHPCValueError: one is no positive number, or no truth value where that is needed
        """
        for name, value in vars(self).items():
            if name == "allow_case_collisions":
                needed = "" if isinstance(value, bool) else "True or False"
            elif name == "max_ratio":
                needed = "" if _is_positive(value, int | float) else "a positive number"
            else:
                needed = "" if _is_positive(value, int) else "a positive whole number"
            if needed:
                raise CloudHPCValueError(f"{name} of the limits is {value!r}: {needed} is needed.")


def _is_positive(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and 0 < value < math.inf


class Judge:
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
        self._root = _Entry("", tarfile.DIRTYPE)
        self._entries = 0
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
            self._check_number(self.count)
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
                if self._kind_of(member.linkname) not in tarfile.REGULAR_TYPES:
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

    def _check_number(self, number: int) -> None:
        if number > self._limits.max_members:
            raise self.refusal(
                f"it holds more than {self._limits.max_members} members (raise max_members if you trust it)"
            )

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            limit = format_bytes(self._max_bytes)
            raise self.refusal(
                f"it unpacks to more than {limit} and looks like a bomb (raise {self._why_bytes} if you trust it)"
            )

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
        steps = name.split("/")
        folder = self._root
        for number, step in enumerate(steps, 1):
            wanted = kind if number == len(steps) else tarfile.DIRTYPE
            key = self._key(step)
            entry = folder.inside.get(key)
            if entry is None:
                self._entries += 1
                self._check_number(self._entries)
                entry = folder.inside[key] = _Entry(step, wanted)
            elif entry.name != step:
                here, there = ("/".join([*steps[: number - 1], last]) for last in (step, entry.name))
                raise self.refusal(
                    f"{here!r} and {there!r} differ in case only, and one would overwrite the other where that makes "
                    "no difference (where it does, set allow_case_collisions)"
                )
            elif wanted != tarfile.DIRTYPE or entry.kind != tarfile.DIRTYPE:
                raise self.refusal(f"{'/'.join(steps[:number])!r} is in it twice")
            folder = entry

    def _kind_of(self, name: str) -> bytes:
        """Give what a name was entered as, spelled just so; empty where it was not."""
        entry: _Entry | None = self._root
        for step in name.split("/"):
            entry = entry.inside.get(self._key(step)) if entry else None
            if entry is None or entry.name != step:
                return b""
        return entry.kind if entry else b""

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
