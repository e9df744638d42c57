# SPDX-License-Identifier: Apache-2.0
"""Upload a case, download a run's results."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_cloudhpc.api.archive.pack import pack_folder
from airflow_provider_cloudhpc.api.archive.unpack import unpack_archive
from airflow_provider_cloudhpc.api.diagnosis.examination import read_check
from airflow_provider_cloudhpc.api.diagnosis.preflight import Preflight
from airflow_provider_cloudhpc.api.diagnosis.solver_logs import check_results
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.names import CASE_ARCHIVE, check_folder, check_name, mint_folder
from airflow_provider_cloudhpc.api.progress import ProgressLog, format_bytes
from airflow_provider_cloudhpc.api.transfer.downloading import OnExisting
from airflow_provider_cloudhpc.api.transfer.results import path_items, result_items
from airflow_provider_cloudhpc.api.transfer.sources import BytesSource, FileSource
from airflow_provider_cloudhpc.api.transfer.storage import download_item, upload_file
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import CloudHPCSimulationLink
from airflow_provider_cloudhpc.operators.checking import check_before, script_of_launches
from airflow_provider_cloudhpc.operators.launch_record import find_owner
from airflow_provider_cloudhpc.paths import is_local, open_source, put_object, read_path, stays
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

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.diagnosis.solver_logs import LogFinding
    from airflow_provider_cloudhpc.api.models import StorageItem
    from airflow_provider_cloudhpc.api.transfer.sources import Source
    from airflow_provider_cloudhpc.api.transfer.storage import UploadedFile

log = logging.getLogger(__name__)

#: Endings that are taken off an archive's name to call the folder it is unpacked into.
_ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar")


class CloudHPCUploadFileOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Upload one file into a storage folder and prove that it arrived whole.

    ``POST /storage/upload-url``, a PUT to the signed URL it answers, ``DELETE /user/delete-cache``; where the store
    names no hash, ``POST /storage/view-by-path`` too. Without ``folder`` a folder is minted that belongs to this task
    of this run alone: the same on every retry, another after a Clear. A retry sends nothing where the store's own
    hash says that the file is there. The result is a dict: ``path``, ``folder``, ``filename``, ``size`` (bytes),
    ``proof`` (``"hash"`` or ``"listing"``); hand ``.output["folder"]`` on.

    :param source: path of a file on the worker, an ``ObjectStoragePath``, or a URI such as ``s3://my_conn@bucket/key``
        (templated). A folder travels as one archive: :class:`CloudHPCUploadFolderOperator`.
    :param data: in place of ``source``: the file's content, text or bytes (templated); needs ``filename``
    :param folder: storage folder (templated); None: one is minted
    :param filename: name in the storage (templated); None: as the source is called
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong; nothing was sent
    :raises CloudHPCTransferError: the file did not arrive whole
    """

    template_fields: Sequence[str] = ("source", "data", "folder", "filename", "cloudhpc_conn_id")
    ui_color = "#e3f2e1"

    def __init__(
        self,
        *,
        source: Any = None,
        data: str | bytes | None = None,
        folder: str | None = None,
        filename: str | None = None,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        # Each entry is an XCom of its own too: that is what `.output["folder"]` reads.
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.source = source
        self.data = data
        self.folder = folder
        self.filename = filename
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Upload the file; give where it is."""
        with bad_input_fails():
            source = self._source()
            filename = source.name.rpartition("/")[2] if self.filename is None else self.filename
            filename = check_name(filename, "filename")
            folder = minted_folder(context) if self.folder is None else check_folder(self.folder)
            client = self.client
        return upload_file(client, source, folder, filename, maybe_there=is_retry(context)).to_dict()

    def _source(self) -> Source:
        if (self.source is None) == (self.data is None):
            raise CloudHPCValueError("Exactly one of source and data is needed.")
        if self.data is None:
            return open_source(self.source)
        if not isinstance(self.data, str | bytes):
            raise CloudHPCValueError(f"data is of the type {type(self.data).__name__}: text or bytes are needed.")
        name = check_name(self.filename or "", "filename")
        return BytesSource(name, self.data.encode() if isinstance(self.data, str) else self.data)


class CloudHPCUploadFolderOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Pack the content of a local folder and upload it as ``<folder>/upload.tar.gz``, the layout that the service wants.

    The same content gives the same archive, so a retry sends nothing where the store's own hash says that it is there.
    Calls and result as those of :class:`CloudHPCUploadFileOperator`. The archive is packed into the worker's temporary
    directory first, and removed at the end.

    :param source: path of a folder on the worker (templated)
    :param folder: storage folder (templated); None: one is minted for this task of this run
    :param exclude: shell patterns of what to leave out, such as ``processor*`` or ``*.orig`` (templated)
    :param include_hidden: pack files whose name starts with a dot too
    :param preflight: what a case that is known to fail does: ``"error"`` (nothing is sent), ``"warn"`` or ``"off"``
    :param script: solver that the case is for (templated), whose needs are looked for too; None: that of the tasks of
        this DAG that launch in this upload's folder, where they agree
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong, or the case is known to fail; nothing was sent
    :raises CloudHPCArchiveError: the folder could not be packed; nothing was sent
    :raises CloudHPCTransferError: the archive did not arrive whole
    """

    template_fields: Sequence[str] = ("source", "folder", "exclude", "script", "cloudhpc_conn_id")
    ui_color = "#e3f2e1"

    def __init__(
        self,
        *,
        source: str | Path,
        folder: str | None = None,
        exclude: str | Sequence[str] = (),
        include_hidden: bool = False,
        preflight: str = Preflight.ERROR.value,
        script: str | None = None,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.source = source
        self.folder = folder
        self.exclude = exclude
        self.include_hidden = include_hidden
        self.preflight = preflight
        self.script = script
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Pack and upload the folder; give where it is."""
        with bad_input_fails():
            source = read_path(self.source, "source")
            if not is_local(source):
                raise CloudHPCValueError(f"source is {str(source)!r}: a folder on the worker is needed.")
            folder = minted_folder(context) if self.folder is None else check_folder(self.folder)
            check_before(
                self.preflight,
                source,
                script=script_of_launches(context) if self.script is None else self.script,
                exclude=read_texts(self.exclude, "exclude"),
                include_hidden=self.include_hidden,
            )
            client = self.client
            return upload_folder(
                client,
                source,
                folder,
                exclude=read_texts(self.exclude, "exclude"),
                include_hidden=self.include_hidden,
                maybe_there=is_retry(context),
            ).to_dict()


def upload_folder(
    client: CloudHPCClient,
    source: Path,
    folder: str,
    *,
    exclude: Sequence[str] = (),
    include_hidden: bool = False,
    maybe_there: bool = False,
) -> UploadedFile:
    """
    Pack a folder's content and upload it as ``<folder>/upload.tar.gz``.

    :param maybe_there: an earlier try may have sent it
    :raises CloudHPCValueError: it is no folder, or holds what cannot be packed; nothing was sent
    :raises CloudHPCTransferError: the archive did not arrive whole
    """
    with tempfile.TemporaryDirectory(prefix="cloudhpc-") as aside:
        packed = pack_folder(
            source,
            Path(aside, CASE_ARCHIVE),
            exclude=list(exclude),
            include_hidden=include_hidden,
            progress=ProgressLog(f"Packing {source}", log),
        )
        log.info(
            "Packed %s: %d members, %s into %s",
            source,
            packed.members,
            format_bytes(packed.content_size),
            format_bytes(packed.size),
        )
        return upload_file(client, FileSource(packed.path), folder, CASE_ARCHIVE, maybe_there=maybe_there)


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
        self.on_existing = on_existing
        self.check_output = check_output
        self.wait_for_results = wait_for_results
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Download the files; give where they are."""
        with bad_input_fails():
            directory = self._directory()
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
                raise CloudHPCValueError("simulation_id is None: there is no simulation to fetch results of.")
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
        fetched = [self._fetch(item, directory, found) for item in items]
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
        elif self.extract:
            raise CloudHPCValueError(f"directory is {str(directory)!r}: extract needs a local directory.")
        return directory

    @staticmethod
    def _check_distinct(items: list[StorageItem]) -> None:
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

    def _fetch(self, item: StorageItem, directory: Any, found: list[LogFinding]) -> str:
        if not is_local(directory):
            target = directory / check_name(item.basename, "the stored file's name")
            if stays(target, item.size, self.on_existing):
                return str(target)
            with tempfile.TemporaryDirectory(prefix="cloudhpc-") as aside:
                file = download_item(self.client, item, Path(aside))
                found += self._read_logs(file.path)
                put_object(file.path, target, self.on_existing)
            return str(target)
        fetched = self._fetch_local(item, directory)
        found += self._read_logs(fetched)
        return str(fetched)

    def _read_logs(self, path: Path) -> list[LogFinding]:
        return check_results(path) if self.check_output else []

    def _fetch_local(self, item: StorageItem, directory: Path) -> Path:
        file = download_item(self.client, item, directory, on_existing=self.on_existing)
        ending = next((ending for ending in _ARCHIVE_ENDINGS if item.basename.endswith(ending)), None)
        if not self.extract or ending is None:
            return file.path
        folder = directory / item.basename.removesuffix(ending)
        mark = _UnpackedMark(file.path, folder)
        # The same archive is no proof that the folder is what was unpacked of it.
        if folder.exists() and (self.on_existing == "keep" or (file.was_there and mark.holds())):
            log.info("Kept %s, which was there", folder)
            return folder
        unpacked = unpack_archive(
            file.path,
            folder,
            replace=self.on_existing == "overwrite",
            progress=ProgressLog(f"Unpacking {item.basename}", log),
        )
        mark.set()
        log.info("Unpacked %s: %d members, %s", folder, unpacked.members, format_bytes(unpacked.content_size))
        return folder


class _UnpackedMark:
    """
    A file beside an archive which says that a folder is what was unpacked of it: a retry need not unpack again.

    :param archive: the archive
    :param folder: what it was unpacked into
    """

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive, self._folder = archive, folder
        self._path = archive.with_name(f".{archive.name}.unpacked")

    def set(self) -> None:
        """Say so."""
        self._path.write_text(self._said(), encoding="ascii")

    def holds(self) -> bool:
        """Whether it was said, of this very archive and this very folder."""
        try:
            return self._path.read_text(encoding="ascii") == self._said()
        except (OSError, ValueError):
            return False

    def _said(self) -> str:
        archive, folder = self._archive.stat(), self._folder.stat()
        return f"{archive.st_size} {archive.st_mtime_ns} {archive.st_ino} {folder.st_ino}"


def is_retry(context: Mapping[str, Any]) -> bool:
    """Whether an earlier try of the running task may have got somewhere."""
    return bool(context["ti"].try_number > 1)


def minted_folder(context: Mapping[str, Any]) -> str:
    """
    Give the folder that belongs to the running task of the running DAG run.

    ``max_tries`` stays the same over retries and rises with each Clear: it tells the generations apart.
    """
    task_instance = context["ti"]
    return mint_folder(
        task_instance.dag_id,
        task_instance.run_id,
        task_instance.task_id,
        task_instance.map_index,
        task_instance.max_tries,
    )
