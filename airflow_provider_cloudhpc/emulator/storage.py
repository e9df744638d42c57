# SPDX-License-Identifier: Apache-2.0
"""
The storage tree of one account, as it is and as the listings show it.

The service answers listings from a cache: a new upload is in the store but in no listing until somebody deletes the
cache. So every file has two blobs here, the present one and the listed one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from airflow_provider_cloudhpc.emulator.blobs import Blob
from airflow_provider_cloudhpc.emulator.clock import storage_date
from airflow_provider_cloudhpc.emulator.workdir import UNPACKERS

FORBIDDEN_CHARACTERS = frozenset(",()'$~\"#*?")

_ids = itertools.count(500001)


class StorageError(Exception):
    """A path that cannot be; the message says why."""


@dataclass(eq=False)
class Node:
    """A file or a folder. ``listed`` is what the listings know of a file; a folder is shown from its first such on."""

    id: int
    name: str
    parent: Node | None
    blob: Blob | None = None
    listed: Blob | None = None
    children: dict[str, Node] | None = None
    shown: bool = False
    created: float = 0.0
    asked_url_at: float | None = None
    orders: dict[tuple[str, bool], list[Node]] = field(default_factory=dict)

    @property
    def basename(self) -> str:
        """Last part of the name."""
        return self.name.rpartition("/")[2]

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.children is not None

    @property
    def time_created(self) -> float:
        """Seconds since the epoch, as the listings know it."""
        return self.created if self.listed is None else self.listed.created

    def record(self) -> dict[str, Any]:
        """The item as it goes over the wire (with plain numbers)."""
        return {
            "id": self.id,
            "name": self.name,
            "basename": self.basename,
            "dirname": self.name.rpartition("/")[0],
            "type": "dir" if self.is_dir else "file",
            "size": "" if self.listed is None else self.listed.size,
            "timeCreated": storage_date(self.time_created),
        }

    def files(self) -> Iterator[Node]:
        """All files below (or the file itself), listed or not."""
        if self.children is None:
            yield self
        else:
            for child in self.children.values():
                yield from child.files()


#: What a folder's items are sorted by: cheap, since each change of a folder asks for all of them anew. They share their
#: dirname, so that their names are in the order of their basenames.
_SORT_KEYS: dict[str, Callable[[Node], Any]] = {
    "id": attrgetter("id"),
    "name": attrgetter("name"),
    "basename": attrgetter("name"),
    "dirname": lambda node: "",
    "type": lambda node: not node.is_dir,
    "size": lambda node: -1 if node.listed is None else node.listed.size,
    "timeCreated": attrgetter("time_created"),
}
SORT_FIELDS = tuple(_SORT_KEYS)


def check_path(path: str, what: str) -> str:
    """
    A storage path in its plain form.

    :param path: as the client sent it; slashes at either end are dropped
    :param what: how the error calls it
    :raises StorageError: for characters that the platform does not bear, and for ``.``, ``..`` and empty parts
    """
    path = path.strip("/")
    bad = sorted({c for c in path if c in FORBIDDEN_CHARACTERS or c.isspace() or not c.isprintable()})
    if bad:
        raise StorageError(f"{what} {path!r} holds characters that are not allowed: {' '.join(map(repr, bad))}")
    if path and any(part in ("", ".", "..") for part in path.split("/")):
        raise StorageError(f"{what} {path!r} is not a plain path")
    if any(len(part.encode()) > 255 for part in path.split("/")):
        raise StorageError(f"{what} is too long")
    return path


class Storage:
    """
    One account's tree.

    :param on_drop: told every blob that nothing refers to any more
    """

    def __init__(self, on_drop: Callable[[Blob], None]) -> None:
        self._on_drop = on_drop
        self.root = Node(0, "", None, children={}, shown=True)
        self._by_id: dict[int, Node] = {}
        #: files whose present blob no listing shows yet
        self.unseen: list[Node] = []

    def __len__(self) -> int:
        return sum(1 for node in self._by_id.values() if not node.is_dir)

    def by_id(self, id_: int) -> Node | None:
        """A listed item by id."""
        node = self._by_id.get(id_)
        return node if node and node.shown else None

    def find(self, path: str) -> Node | None:
        """A node by its path, listed or not."""
        node: Node | None = self.root
        for part in path.split("/") if path else []:
            node = node.children.get(part) if node and node.children is not None else None
        return node

    def put(self, path: str, blob: Blob, listed: bool = False) -> Node:
        """
        Write a file; folders appear as needed.

        :param listed: show it in the listings at once
        :raises StorageError: where a folder has that name, or a file the name of one of its folders
        """
        parent = self.root
        parts = path.split("/")
        for depth, part in enumerate(parts[:-1], 1):
            assert parent.children is not None
            child = parent.children.get(part)
            if child is None:
                child = self._add(Node(next(_ids), "/".join(parts[:depth]), parent, children={}, created=blob.created))
            if not child.is_dir:
                raise StorageError(f"{child.name} is a file")
            parent = child
        assert parent.children is not None
        node = parent.children.get(parts[-1])
        if node is None:
            node = self._add(Node(next(_ids), path, parent, created=blob.created))
        elif node.is_dir:
            raise StorageError(f"{path} is a folder")
        previous, node.blob, node.asked_url_at = node.blob, blob, None
        if listed:
            self.reveal(node)
        else:
            self.unseen.append(node)
        if previous is not None and previous is not node.listed:
            self._on_drop(previous)
        return node

    def _add(self, node: Node) -> Node:
        assert node.parent is not None
        assert node.parent.children is not None
        node.parent.children[node.basename] = node
        self._by_id[node.id] = node
        return node

    def delete_results(self, paths: set[str]) -> None:
        """Remove what a simulation had saved."""
        for path in paths:
            if node := self.find(path):
                self.delete(node)
        paths.clear()

    def folder(self, path: str) -> Node | None:
        """A folder by its path, listed or not."""
        node = self.find(path) if path else None
        return node if node and node.is_dir else None

    def root_archive(self, folder: str) -> Node | None:
        """An archive in the root that is named like a folder: it stands for it."""
        found = ((self.root.children or {}).get(folder + suffix) for suffix in UNPACKERS)
        return next((node for node in found if node and not node.is_dir), None)

    def reveal(self, node: Node) -> None:
        """Let the listings show a file as it is now."""
        if node.blob is None or node.listed is node.blob:
            return
        previous, node.listed, node.shown = node.listed, node.blob, True
        if previous is not None:
            self._on_drop(previous)
        above = node.parent
        while above is not None:
            above.orders.clear()
            if above.shown:  # then so is all above it, and stays where it stands
                break
            above.shown, above = True, above.parent

    def delete(self, node: Node) -> None:
        """Remove a file or a folder with all in it, and the folders that are empty then."""
        for file in list(node.files()):
            for blob in {id(b): b for b in (file.blob, file.listed) if b}.values():
                self._on_drop(blob)
            file.blob = file.listed = None
        self._forget(node)
        parent = node.parent
        while parent is not None:
            assert parent.children is not None
            parent.children.pop(node.basename, None)
            parent.orders.clear()
            if parent.children or parent.parent is None:
                break
            self._forget(parent)
            node, parent = parent, parent.parent

    def _forget(self, node: Node) -> None:
        node.shown = False
        self._by_id.pop(node.id, None)
        for child in (node.children or {}).values():
            self._forget(child)

    def listing(self, folder: Node, sort: str, descending: bool) -> list[Node]:
        """
        The listed items of a folder in order. The order is kept until the folder changes.

        :param sort: one of ``SORT_FIELDS``
        """
        order = folder.orders.get((sort, descending))
        if order is None:
            # Equals are in the order of their ids, in which they were added.
            order = [node for node in (folder.children or {}).values() if node.shown]
            if descending:
                order.reverse()
            order.sort(key=_SORT_KEYS[sort], reverse=descending)
            folder.orders[(sort, descending)] = order
        return order
