# SPDX-License-Identifier: Apache-2.0
"""
Which files of a storage folder are the results, and whose they are.

A folder may hold yesterday's results, and another simulation may write into it. A date tells neither (the simulation's
and the storage's clocks are the server's own, and a folder is written to whenever a run syncs), so what the folder held
is noted before a launch, and held against what it holds later: an item counts if its id, size or time is new.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCNotFoundError
from airflow_provider_cloudhpc.api.names import is_result
from airflow_provider_cloudhpc.api.transfer.storage import list_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.models import StorageItem

log = logging.getLogger(__name__)

#: A file as a listing showed it: id, size (bytes, None where the service names none), time of creation.
Seen = tuple[str, int | None, str]

_MOST_NAMES = 20
_RULES = (
    "Results appear when a run has ended (also every 10 hours, and after a sync), and the service deletes files "
    "60 days after their creation."
)


def seen(item: StorageItem) -> Seen:
    """Give what tells a file from its successor under the same name."""
    return item.id, item.size, item.time_created


def list_before_launch(client: CloudHPCClient, folder: str) -> list[StorageItem]:
    """
    List what a folder holds, to be kept (as :func:`seen`) with the launch that follows.

    ``DELETE /user/delete-cache`` first, since a listing that lags would let an old result pass for a new one; then as
    :func:`~airflow_provider_cloudhpc.api.transfer.storage.list_folder`: three calls or more.

    :raises CloudHPCNotFoundError: there is no such folder
    :raises CloudHPCError: it could not be learned
    """
    client.delete_cache()
    return list_folder(client, folder)


@dataclass(frozen=True)
class Ownership:
    """
    What is known about whose the files of a folder are.

    :param simulation_id: whose results are wanted
    :param before: what was there before its launch; None where nobody noted it
    :param later: simulations launched in the same folder after it, and what was there before each
    """

    simulation_id: int
    before: frozenset[Seen] | None = None
    later: Mapping[int, frozenset[Seen] | None] = field(default_factory=dict)

    def is_older(self, item: StorageItem) -> bool:
        """Whether it was there before the launch."""
        return self.before is not None and seen(item) in self.before

    def is_doubtful(self, item: StorageItem) -> bool:
        """Whether a later simulation may have written it: it is not known to have been there before that one."""
        return any(before is None or seen(item) not in before for before in self.later.values())


def result_items(
    client: CloudHPCClient,
    folder: str,
    *,
    patterns: Sequence[str] = (),
    owner: Ownership | None = None,
    wait: float = 0.0,
    poll_interval: float = 60.0,
) -> list[StorageItem]:
    """
    Find the result archives of a folder.

    :param patterns: shell patterns of file names, to be fetched in place of the result archives
    :param owner: take only what is of one simulation; None: whatever is there
    :param wait: seconds to wait at the most for the first of them to appear
    :param poll_interval: seconds between two looks
    :raises CloudHPCNotFoundError: there are none; the message names what is there
    """

    def look() -> list[StorageItem] | Callable[[], str]:
        try:
            files = [item for item in list_folder(client, folder) if not item.is_folder]
        except CloudHPCNotFoundError:
            return lambda: f"The service finds no folder {folder!r} in the storage; {_holds(client, '')}. {_RULES}"
        wanted = [item for item in files if _is_wanted(item.basename, patterns)]
        older = [item for item in wanted if owner is not None and owner.is_older(item)]
        doubtful = [item for item in wanted if item not in older and owner is not None and owner.is_doubtful(item)]
        results = [item for item in wanted if item not in older and item not in doubtful]
        if not results:
            return lambda: _explain(folder, patterns, owner, files, older, doubtful)
        if older:
            log.warning("Left out, since they were there before the launch: %s", _names(older))
        if doubtful:
            log.warning("Left out, since they may be a later simulation's: %s", _names(doubtful))
        return results

    return _find(client, look, f"results in the folder {folder}", wait, poll_interval)


def path_items(
    client: CloudHPCClient, paths: Sequence[str], *, wait: float = 0.0, poll_interval: float = 60.0
) -> list[StorageItem]:
    """
    Find files by their paths: one ``POST /storage/view-by-path`` each.

    :param wait: seconds to wait at the most until all are there
    :param poll_interval: seconds between two looks
    :raises CloudHPCNotFoundError: one is not there; the message names it and what is there
    """
    found: dict[str, StorageItem] = {}

    def missing() -> list[str]:
        return [path for path in paths if path not in found]

    def look() -> list[StorageItem] | Callable[[], str]:
        for path in missing():
            with suppress(CloudHPCNotFoundError):
                found[path] = client.view_by_path(path)
        return explain if missing() else [found[path] for path in paths]

    def explain() -> str:
        folders = dict.fromkeys(path.rpartition("/")[0] for path in missing())
        there = "; ".join(_holds(client, folder) for folder in folders)
        return f"The service finds no {', '.join(map(repr, missing()))} in the storage: {there}. {_RULES}"

    return _find(client, look, ", ".join(paths), wait, poll_interval)


def _find(
    client: CloudHPCClient,
    look: Callable[[], list[StorageItem] | Callable[[], str]],
    what: str,
    wait: float,
    poll_interval: float,
) -> list[StorageItem]:
    """
    Look until it is there or the time is up.

    :param look: gives what is there, or a function that says why there is nothing
    """
    deadline = time.monotonic() + wait
    while True:
        found = look()
        if isinstance(found, list):
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise CloudHPCNotFoundError(found())
        log.info("Not there yet: %s. Looking again for %.0f s at the most", what, left)
        time.sleep(min(poll_interval, left))
        client.delete_cache()


def _holds(client: CloudHPCClient, folder: str) -> str:
    """Say what a folder holds, or the storage's root (of that, its first page)."""
    try:
        if not folder:
            return f"the root holds {_names(client.list_root()) or 'nothing'}"
        return f"the folder {folder!r} holds {_names(list_folder(client, folder)) or 'nothing'}"
    except CloudHPCNotFoundError:
        return f"there is no folder {folder!r}, {_holds(client, '')}"
    except CloudHPCError:
        return f"what {folder or 'the root'} holds could not be learned"


def _is_wanted(basename: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(basename, pattern) for pattern in patterns) if patterns else is_result(basename)


def _names(items: Iterable[StorageItem]) -> str:
    names = sorted(item.basename for item in items)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _explain(
    folder: str,
    patterns: Sequence[str],
    owner: Ownership | None,
    files: list[StorageItem],
    older: list[StorageItem],
    doubtful: list[StorageItem],
) -> str:
    """Say why there is nothing to fetch."""
    what = f"file that fits {', '.join(patterns)}" if patterns else "result archive"
    anyway = "To fetch what is there all the same, give `folder` or `paths` in place of the simulation."
    if owner is not None and doubtful:
        rivals = ", ".join(map(str, sorted(owner.later)))
        return (
            f"No {what} in the storage folder {folder!r} is surely of simulation {owner.simulation_id}: "
            f"{_names(doubtful)} may be of {rivals}, launched later in the same folder: each overwrites the other's. "
            f"Give each a folder of its own. {anyway}"
        )
    if owner is not None and older:
        return (
            f"No {what} of simulation {owner.simulation_id} in the storage folder {folder!r}: {_names(older)} was "
            f"there, the same, before its launch. {_RULES} {anyway}"
        )
    return f"No {what} in the storage folder {folder!r}; it holds {_names(files) or 'no files'}. {_RULES}"


def as_seen(rows: Any) -> frozenset[Seen] | None:
    """Read back what :func:`seen` gave of each file, after it has been through JSON; None stays None."""
    return None if rows is None else frozenset((str(id_), size, str(created)) for id_, size, created in rows)
