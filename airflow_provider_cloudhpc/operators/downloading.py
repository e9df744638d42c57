# SPDX-License-Identifier: Apache-2.0
"""A run's results come down: to a directory, unpacked if asked for, or to an object storage."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_cloudhpc.api.archive.judge import UnpackLimits
from airflow_provider_cloudhpc.api.archive.unpack import unpack_archive
from airflow_provider_cloudhpc.api.diagnosis.examination import read_check
from airflow_provider_cloudhpc.api.diagnosis.solver_logs import check_results
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCTransferError, CloudHPCValueError
from airflow_provider_cloudhpc.api.names import check_folder, check_name
from airflow_provider_cloudhpc.api.progress import ProgressLog, format_bytes
from airflow_provider_cloudhpc.api.transfer.aside import folder_aside
from airflow_provider_cloudhpc.api.transfer.downloading import OnExisting
from airflow_provider_cloudhpc.api.transfer.results import path_items, result_items
from airflow_provider_cloudhpc.api.transfer.storage import download_item
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import CloudHPCSimulationLink
from airflow_provider_cloudhpc.operators.launch_record import find_owner
from airflow_provider_cloudhpc.paths import is_local, put_object, read_path, stays, tell_temporary
from airflow_provider_cloudhpc.task import (
    CloudHPCTaskMixin,
    bad_input_fails,
    conclude_logs,
    read_number,
    read_simulation_id,
    read_texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cloudhpc.api.diagnosis.solver_logs import LogFinding
    from airflow_provider_cloudhpc.api.models import StorageItem

log = logging.getLogger(__name__)

#: A hidden file in what was unpacked, which says of what: a retry need not unpack again. Inside, since that comes and
#: goes with the folder; a name, a date or an inode may be another folder's later.
_MARK = ".cloudhpc-unpacked"
#: Endings that are taken off an archive's name to call the folder it is unpacked into.
_ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar")


class CloudHPCDownloadResultOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Download result files; each appears under its name only when it is whole.

    Exactly one of ``paths``, ``folder`` and ``simulation_id`` says what: these files, all result archives of the
    folder, or those that are the simulation's: what the folder held before its launch is left out, and so is what a
    later one in the same folder may have written. ``POST /storage/view-by-path``, ``GET /storage/index/...`` for a
    folder's listing, ``GET /simulation/...`` for a simulation that no task of this run launched or whose folder was
    named, then ``GET /storage/download/{id}`` a file. The result is the list of what was fetched: paths or URIs of the
    files, or of the folders they were unpacked into.

    :param directory: local directory, made where missing; or an ``ObjectStoragePath`` or URI such as
        ``s3://my_conn@bucket/prefix``: then files are verified on the worker first, and put there whole (templated)
    :param paths: path or paths in the storage (templated)
    :param folder: storage folder (templated)
    :param simulation_id: int, string, or the XCom of a task of this provider (templated)
    :param patterns: shell patterns of file names, to be fetched in place of the result archives (templated)
    :param extract: unpack each archive into a folder of its own name beside it, whole or not at all
        (``.tar.gz``, ``.tgz``, ``.tar``; others stay as they are)
    :param unpack_limits: for ``extract``: what an archive may hold before it is refused, as a dict of fields of
        :class:`~airflow_provider_cloudhpc.api.archive.judge.UnpackLimits`, such as ``{"max_ratio": 1000}`` for results
        that are mostly zeros, or ``{"allow_case_collisions": True}`` for a case with both ``U`` and ``u``
    :param on_existing: what to do where another file of that name is: ``"error"``, ``"overwrite"`` or ``"keep"``; the
        same one (length and hash) is left as it is. For ``extract`` it speaks of the folder too.
    :param check_output: what an error in a solver's log among the results does (``log.*``, ``*.out``, ``*.sta``, ...;
        read also inside archives): True: the task fails, its files stay; ``"warn"``: it is told; False: none is read
    :param wait_for_results: seconds to wait at the most for the first result, or for all ``paths``, to appear; the
        worker's slot is held meanwhile
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong (nothing was asked), or a solver's log holds an error
    :raises CloudHPCNotFoundError: there are no such files; the message names what is there
    :raises CloudHPCTransferError: a file did not arrive whole, or another one is there
    :raises CloudHPCArchiveError: an archive is damaged or hostile; nothing of it was kept
    """

    template_fields: Sequence[str] = ("directory", "paths", "folder", "simulation_id", "patterns", "cloudhpc_conn_id")
    operator_extra_links = (CloudHPCSimulationLink(),)
    ui_color = "#e3f2e1"

    def __init__(
        self,
        *,
        directory: Any,
        paths: str | Sequence[str] | None = None,
        folder: str | None = None,
        simulation_id: Any = None,
        patterns: str | Sequence[str] = (),
        extract: bool = False,
        unpack_limits: Mapping[str, Any] | None = None,
        on_existing: OnExisting = "error",
        check_output: bool | str = True,
        wait_for_results: float = 0.0,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.directory = directory
        self.paths = paths
        self.folder = folder
        self.simulation_id = simulation_id
        self.patterns = patterns
        self.extract = extract
        self.unpack_limits = unpack_limits
        self.on_existing = on_existing
        self.check_output = check_output
        self.wait_for_results = wait_for_results
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Download the files; give where they are."""
        with bad_input_fails():
            directory = self._directory()
            limits = _read_limits(self.unpack_limits)
            check = read_check(self.check_output)
            given = [name for name in ("paths", "folder", "simulation_id") if getattr(self, name) not in (None, "", [])]
            if len(given) != 1:
                raise CloudHPCValueError(
                    f"Exactly one of paths, folder and simulation_id is needed; given: {', '.join(given) or 'none'}."
                )
            paths = [check_folder(path, "paths") for path in read_texts(self.paths, "paths")]
            patterns = read_texts(self.patterns, "patterns")
            wait = read_number(self.wait_for_results, "wait_for_results", zero=True)
            folder = None if not self.folder else check_folder(self.folder)
            simulation_id = read_simulation_id(self.simulation_id)
            if not paths and folder is None and simulation_id is None:
                value = getattr(self, given[0])
                raise CloudHPCValueError(f"{given[0]} is {value!r}: there is nothing to fetch results of.")
            _ = self.client
        owner = None
        if simulation_id is not None:
            self.tell_simulation(context, simulation_id)
            folder, owner = find_owner(context, self.client, simulation_id)
        if paths:
            items = path_items(self.client, paths, wait=wait)
        else:
            items = result_items(self.client, folder or "", patterns=patterns, owner=owner, wait=wait)
        self._check_distinct(items)
        found: list[LogFinding] = []
        fetched = [self._fetch(item, directory, limits, found) for item in items]
        log.info("Downloaded %d files into %s", len(fetched), directory)
        conclude_logs(found, check)
        return fetched

    def _directory(self) -> Any:
        if self.on_existing not in get_args(OnExisting):
            raise CloudHPCValueError(
                f"on_existing is {self.on_existing!r}: one of {', '.join(map(repr, get_args(OnExisting)))} is needed."
            )
        directory = read_path(self.directory, "directory")
        if is_local(directory):
            if directory.exists() and not directory.is_dir():
                raise CloudHPCValueError(f"directory is {str(directory)!r}: that is a file.")
            # Whoever gets it from XCom runs somewhere else.
            return directory.absolute()
        if self.extract:
            raise CloudHPCValueError(f"directory is {str(directory)!r}: extract needs a local directory.")
        return directory

    def _check_distinct(self, items: list[StorageItem]) -> None:
        with bad_input_fails():
            for item in items:
                if item.is_folder:
                    raise CloudHPCValueError(f"{item.name!r} is a folder in the storage: name files, or use `folder`.")
            names = [item.basename for item in items]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise CloudHPCValueError(
                    f"Several files are called {', '.join(twice)}: download them into different directories."
                )
            takers = {name: name for name in names}
            for name in filter(_ending, names if self.extract else []):
                folder = name.removesuffix(_ending(name))
                if (other := takers.setdefault(folder, name)) != name:
                    raise CloudHPCValueError(
                        f"{other} and {name} would both become {folder!r}: download them into different directories."
                    )

    def _fetch(self, item: StorageItem, directory: Any, limits: UnpackLimits, found: list[LogFinding]) -> str:
        if not is_local(directory):
            target = directory / check_name(item.basename, "the stored file's name")
            if stays(target, item.size, self.on_existing):
                return str(target)
            temporary = Path(tempfile.gettempdir())
            if item.size is not None and item.size > shutil.disk_usage(temporary).free:
                raise CloudHPCTransferError(
                    f"{item.name} ({format_bytes(item.size)}) is verified on the worker before it is put to {target}. "
                    f"{tell_temporary()} Nothing was fetched."
                )
            # Locked while it is in use: what a killed worker left is removed by the next one.
            with folder_aside(temporary / "cloudhpc") as aside:
                file = download_item(self.client, item, aside)
                found += self._read_logs(file.path)
                put_object(file.path, target, self.on_existing)
            return str(target)
        fetched = self._fetch_local(item, directory, limits)
        found += self._read_logs(fetched)
        return str(fetched)

    def _read_logs(self, path: Path) -> list[LogFinding]:
        return check_results(path) if self.check_output else []

    def _fetch_local(self, item: StorageItem, directory: Path, limits: UnpackLimits) -> Path:
        file = download_item(self.client, item, directory, on_existing=self.on_existing)
        if not self.extract:
            return file.path
        ending = _ending(item.basename)
        if not ending:
            wanted = ", ".join(f"*{ending}" for ending in _ARCHIVE_ENDINGS)
            log.info("%s stays as it is: only %s are unpacked", file.path, wanted)
            return file.path
        folder = directory / item.basename.removesuffix(ending)
        info = file.path.stat()
        mark = f"Unpacked from the archive {info.st_size} {info.st_mtime_ns} {info.st_ino}"
        # The same archive is no proof that the folder is what was unpacked of it.
        if folder.exists() and (self.on_existing == "keep" or (file.was_there and _reads(folder / _MARK, mark))):
            log.info("Kept %s, which was there", folder)
            return folder
        try:
            unpacked = unpack_archive(
                file.path,
                folder,
                limits=limits,
                replace=self.on_existing == "overwrite",
                mark=(_MARK, mark),
                progress=ProgressLog(f"Unpacking {item.basename}", log),
            )
        except CloudHPCArchiveError:
            came = folder.exists() if self.on_existing == "keep" else _reads(folder / _MARK, mark)
            if not came or self.on_existing == "overwrite":
                raise
            log.info("Kept %s, which came there meanwhile", folder)
            return folder
        log.info("Unpacked %s: %d members, %s", folder, unpacked.members, format_bytes(unpacked.content_size))
        return folder


def _ending(name: str) -> str:
    """Give the ending of an archive's name; "" where it is none, or where no name of a folder is left without it."""
    ending = next((ending for ending in _ARCHIVE_ENDINGS if name.endswith(ending)), "")
    return ending if name.removesuffix(ending).strip(".") else ""


def _read_limits(given: Any) -> UnpackLimits:
    if isinstance(given, UnpackLimits):
        return given
    try:
        return UnpackLimits(**(given or {}))
    except TypeError:
        names = ", ".join(field.name for field in fields(UnpackLimits))
    raise CloudHPCValueError(f"unpack_limits is {given!r}: a dict with some of {names} is needed.")


def _reads(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="ascii") == text
    except (OSError, ValueError):
        return False
