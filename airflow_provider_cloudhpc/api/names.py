# SPDX-License-Identifier: Apache-2.0
"""Names in the storage: which are allowed, which files are results, and how a run gets a folder of its own."""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase

from airflow_provider_cloudhpc.api.errors import CloudHPCValueError

#: What the service allows in no file or folder name, besides white space.
FORBIDDEN_CHARACTERS = ",()'$~\"#*?"

#: Archives and files that the service leaves at the end of a run.
RESULT_PATTERNS = ("*.tar.gz", "*.tgz", "*.zip", "*.rmed", "*.frd")
#: The name under which a packed case travels.
CASE_ARCHIVE = "upload.tar.gz"
#: Archives in a case folder that are no results.
NO_RESULT_PATTERNS = (CASE_ARCHIVE, "CloudHPC-massive-files*.tar.gz")

_DIGEST_LENGTH = 12
_MINTED = re.compile(rf"-([0-9a-z]{{{_DIGEST_LENGTH}}})-([0-9a-z]{{{_DIGEST_LENGTH}}})$")


def check_name(name: str, what: str) -> str:
    """
    Check one file or folder name (no path) against the service's rules.

    :param what: the argument's name, for the message
    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    if not isinstance(name, str) or not name:
        raise CloudHPCValueError(f"{what} is {name!r}: a name that is not empty is needed.")
    bad = sorted({char for char in name if char in FORBIDDEN_CHARACTERS or char.isspace() or not char.isprintable()})
    if bad:
        raise CloudHPCValueError(
            f"{what} is {name!r}: the service allows no white space, no control characters and none of "
            f"{' '.join(FORBIDDEN_CHARACTERS)} in names; found {', '.join(map(repr, bad))}."
        )
    if name in (".", "..") or "/" in name or "\\" in name:
        raise CloudHPCValueError(f"{what} is {name!r}: a plain name is needed, without slashes, '.' or '..'.")
    return name


def check_folder(folder: str, what: str = "folder", *, root: bool = False) -> str:
    """
    Check a storage folder's path and give it without leading and trailing slashes.

    :param root: whether the storage's root (an empty path) is allowed
    :raises CloudHPCValueError: naming the argument, the value and what is allowed
    """
    if not isinstance(folder, str):
        raise CloudHPCValueError(f"{what} is {folder!r}: the name of a storage folder is needed.")
    path = folder.strip("/")
    if path == "None":
        raise CloudHPCValueError(f"{what} is 'None': a template gave nothing; did the task before push it?")
    if not path:
        if root:
            return ""
        raise CloudHPCValueError(f"{what} is empty: the name of a storage folder is needed.")
    for part in path.split("/"):
        check_name(part, what)
    return path


def _digest(*parts: object) -> str:
    # Lengths make it injective: ("a", "bc") and ("ab", "c") differ.
    text = "".join(f"{len(str(part))}:{part}" for part in parts)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    digits = ""
    while len(digits) < _DIGEST_LENGTH:
        number, digit = divmod(number, 36)
        digits += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    return digits


def mint_folder(dag_id: str, run_id: str, task_id: str, map_index: int = -1, generation: int = 0) -> str:
    """
    Derive the folder that belongs to one task of one run: the same on every retry, another after a Clear.

    :param map_index: of a mapped task, -1 for a plain one
    :param generation: changes with each Clear
    :return: a readable head, then a digest of the run and one of the task: short, ASCII, allowed by the service
    """
    head = re.sub(r"[^A-Za-z0-9_]+", "-", dag_id.encode("ascii", "ignore").decode()).strip("-")[:24] or "run"
    return f"{head}-{_digest(dag_id, run_id)}-{_digest(dag_id, run_id, task_id, map_index, generation)}"


def is_minted_by(folder: str, dag_id: str, run_id: str) -> bool:
    """Whether a folder was minted by a task of this very run."""
    match = _MINTED.search(folder)
    return bool(match and match.group(1) == _digest(dag_id, run_id))


def is_result(basename: str) -> bool:
    """Whether a file in a case folder is one of the results that the service leaves there."""
    return any(fnmatchcase(basename, pattern) for pattern in RESULT_PATTERNS) and not any(
        fnmatchcase(basename, pattern) for pattern in NO_RESULT_PATTERNS
    )
