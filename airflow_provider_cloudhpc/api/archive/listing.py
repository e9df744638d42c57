# SPDX-License-Identifier: Apache-2.0
"""What of a case folder is packed: its files, folders and links, sorted; and which of its links are refused."""

from __future__ import annotations

import errno
import fnmatch
import os
import posixpath
import re
import stat
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Folders within each other that are packed; Python's own limit would end it at about 900.
_DEEPEST = 500


@dataclass(frozen=True)
class Member:
    """
    What is to be packed.

    :param path: from the folder, as the system has it. Bytes: what Python makes of them depends on the locale
    :param kind: one of tarfile's ``REGTYPE``, ``DIRTYPE``, ``SYMTYPE``
    """

    path: bytes
    kind: bytes
    size: int
    link: bytes = b""

    @property
    def name(self) -> str:
        """Its path as text, the same in each locale."""
        return as_text(self.path)


def as_text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def list_case(
    folder: str | os.PathLike[str], *, exclude: Sequence[str] = (), include_hidden: bool = False
) -> dict[str, int]:
    """
    List the files that :func:`pack_folder` would pack, links among them.

    :return: path from the folder, with slashes -> size in bytes
    :raises CloudHPCValueError: a link is refused
    :raises CloudHPCArchiveError: a folder could not be read
    """
    members, _ = list_members(os.path.realpath(os.fsencode(folder)), exclude, include_hidden)
    return {member.name: member.size for member in members if member.kind != tarfile.DIRTYPE}


def list_members(root: bytes, exclude: Sequence[str], include_hidden: bool) -> tuple[list[Member], list[str]]:
    """List what is to be packed, sorted, a folder before its content; and what is skipped."""
    excluded = _matcher(exclude)
    members: list[Member] = []
    skipped: list[str] = []

    def visit(folder: bytes, prefix: bytes, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise CloudHPCArchiveError(
                f"{as_text(prefix[:60])!r} is nested too deep: more than {_DEEPEST} folders. Does a program copy a "
                "folder into itself there? Exclude it, or pack it yourself."
            )
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = prefix + entry.name
            if not include_hidden and entry.name.startswith(b"."):
                continue
            if excluded(as_text(path), as_text(entry.name)):
                continue
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                members.append(Member(path, tarfile.REGTYPE, info.st_size))
            elif stat.S_ISDIR(info.st_mode):
                members.append(Member(path, tarfile.DIRTYPE, 0))
                visit(entry.path, path + b"/", depth + 1)
            elif stat.S_ISLNK(info.st_mode):
                members.append(Member(path, tarfile.SYMTYPE, 0, os.readlink(entry.path)))  # noqa: PTH115
            else:
                skipped.append(as_text(path))

    try:
        visit(root, b"")
    except OSError as error:
        raise unreadable(root, error) from None
    packed = {member.path for member in members} | {b"."}
    return [_checked_link(root, m, packed) if m.kind == tarfile.SYMTYPE else m for m in members], skipped


def _matcher(patterns: Sequence[str]) -> _Matcher:
    if isinstance(patterns, str):
        raise CloudHPCValueError(f"exclude must be a list of patterns, not the string {patterns!r}.")
    by_path = [re.compile(fnmatch.translate(p.strip("/"))).match for p in patterns if "/" in p.rstrip("/")]
    by_name = [re.compile(fnmatch.translate(p.rstrip("/"))).match for p in patterns if "/" not in p.rstrip("/")]
    return lambda path, name: any(match(path) for match in by_path) or any(match(name) for match in by_name)


class _Matcher(Protocol):
    def __call__(self, path: str, name: str, /) -> bool: ...


def _checked_link(root: bytes, link: Member, packed: set[bytes]) -> Member:
    """Refuse a link that leads to nothing that is packed; make it relative and free of detours where needed."""
    parent = posixpath.dirname(posixpath.join(root, link.path))
    shown = f"The link {link.name!r} (to {as_text(link.link)!r})"
    try:
        target = os.path.realpath(posixpath.join(parent, link.link), strict=True)
    except OSError as error:
        what = "leads in a circle" if error.errno == errno.ELOOP else "leads to nothing"
        raise CloudHPCValueError(f"{shown} {what}. Mend it, delete it, or exclude it.") from None
    if not is_within(target, root):
        raise CloudHPCValueError(
            f"{shown} leaves the folder: what it leads to would not be there on the other machine, and nothing outside "
            "of the folder is sent unasked. Put a copy in its place, or exclude it."
        )
    if os.path.relpath(target, root) not in packed:
        raise CloudHPCValueError(
            f"{shown} leads to something that is hidden or excluded, so it would lead nowhere on the other machine. "
            "Exclude the link too, or pack what it leads to."
        )
    # ".." only at the front, and not above the folder: then the text means the same wherever it is unpacked.
    steps = link.link.split(b"/")
    ups = next((i for i, step in enumerate(steps) if step != b".."), len(steps))
    plain = not link.link.startswith(b"/") and b".." not in steps[ups:] and ups <= link.path.count(b"/")
    if plain and all(
        _is_packed(root, posixpath.join(parent, *steps[:n]), packed) for n in range(ups + 1, len(steps) + 1)
    ):
        return link
    return Member(link.path, link.kind, 0, os.path.relpath(target, parent))


def _is_packed(root: bytes, path: bytes, packed: set[bytes]) -> bool:
    """Whether what stands at a path is packed itself; where it is a link, what it leads to says nothing of that."""
    folder, name = posixpath.split(path)
    return os.path.relpath(posixpath.join(os.path.realpath(folder), name), root) in packed


def is_within(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/") + b"/")


def changed(name: str) -> CloudHPCArchiveError:
    return CloudHPCArchiveError(
        f"{name!r} changed while the folder was packed. Pack it when nothing writes to it any more, or exclude it."
    )


def unreadable(root: bytes, error: OSError, name: str = "") -> CloudHPCArchiveError:
    name = name or as_text(os.path.relpath(os.fsencode(error.filename or root), root))
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return CloudHPCArchiveError(
            f"{name!r} vanished while the folder was packed. Pack it when nothing writes to it any more, or exclude it."
        )
    if error.errno == errno.ELOOP:
        return changed(name)
    return CloudHPCArchiveError(f"{name!r} could not be read: {error.strerror}. Make it readable, or exclude it.")
