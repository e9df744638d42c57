# SPDX-License-Identifier: Apache-2.0
"""Upload a case's file, download a run's results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.names import check_folder, check_name, mint_folder
from airflow_provider_cloudhpc.api.storage import check_source, download_item, result_items, upload_file
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.links import CloudHPCSimulationLink
from airflow_provider_cloudhpc.task import CloudHPCTaskMixin, bad_input_fails, read_simulation_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_cloudhpc.api.models import StorageItem


class CloudHPCUploadFileOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Upload one local file into a storage folder and prove that it arrived whole.

    ``POST /storage/upload-url``, a PUT to the signed URL it answers, ``DELETE /user/delete-cache``; where the store
    names no hash, ``POST /storage/view-by-path`` too. Without ``folder`` a folder is minted that belongs to this task
    of this run alone: the same on every retry, another after a Clear. The result is a dict: ``path``, ``folder``,
    ``filename``, ``size`` (bytes), ``proof`` (``"hash"`` or ``"listing"``); hand ``.output["folder"]`` on.

    :param source: path of the file on the worker (templated). A folder travels as one archive.
    :param folder: storage folder (templated); None: one is minted
    :param filename: name in the storage (templated); None: as the local file is called
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong; nothing was sent
    :raises CloudHPCTransferError: the file did not arrive whole
    """

    template_fields: Sequence[str] = ("source", "folder", "filename", "cloudhpc_conn_id")
    ui_color = "#e3f2e1"

    def __init__(
        self,
        *,
        source: str | Path,
        folder: str | None = None,
        filename: str | None = None,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        # Each entry is an XCom of its own too: that is what `.output["folder"]` reads.
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.source = source
        self.folder = folder
        self.filename = filename
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Upload the file; give where it is."""
        with bad_input_fails():
            if not self.source or not isinstance(self.source, str | Path):
                raise CloudHPCValueError(f"source is {self.source!r}: the path of a file on the worker is needed.")
            source = Path(self.source).expanduser()
            check_source(source)
            filename = check_name(source.name if self.filename is None else self.filename, "filename")
            folder = minted_folder(context) if self.folder is None else check_folder(self.folder)
            client = self.client
        uploaded = upload_file(client, source, folder, filename)
        self.log.info("Uploaded %s: %d bytes, proven by %s", uploaded.path, uploaded.size, uploaded.proof)
        return uploaded.to_dict()


class CloudHPCDownloadResultOperator(CloudHPCTaskMixin, BaseOperator):
    """
    Download result files into a local directory; each appears under its name only when it is whole.

    Exactly one of ``paths``, ``folder`` and ``simulation_id`` says what: these files, or all result archives of the
    folder. ``POST /storage/view-by-path``, ``GET /storage/index/...`` for a folder's listing,
    ``GET /simulation/view-short/{id}`` for a simulation's folder, then ``GET /storage/download/{id}`` a file. The
    result is the list of local paths.

    :param directory: local directory, made where missing (templated)
    :param paths: path or paths in the storage (templated)
    :param folder: storage folder (templated)
    :param simulation_id: int, string, or the XCom of a task of this provider (templated)
    :param cloudhpc_conn_id: id of the Airflow connection (templated)
    :raises AirflowFailException: an argument is wrong; nothing was asked
    :raises CloudHPCNotFoundError: there are no such files; the message names what is there
    :raises CloudHPCTransferError: a file did not arrive whole
    """

    template_fields: Sequence[str] = ("directory", "paths", "folder", "simulation_id", "cloudhpc_conn_id")
    operator_extra_links = (CloudHPCSimulationLink(),)
    ui_color = "#e3f2e1"

    def __init__(
        self,
        *,
        directory: str | Path,
        paths: str | Sequence[str] | None = None,
        folder: str | None = None,
        simulation_id: Any = None,
        cloudhpc_conn_id: str = CloudHPCHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.directory = directory
        self.paths = paths
        self.folder = folder
        self.simulation_id = simulation_id
        self.cloudhpc_conn_id = cloudhpc_conn_id

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Download the files; give their local paths."""
        with bad_input_fails():
            if not self.directory or not isinstance(self.directory, str | Path):
                raise CloudHPCValueError(f"directory is {self.directory!r}: the path of a local directory is needed.")
            directory = Path(self.directory).expanduser()
            if directory.exists() and not directory.is_dir():
                raise CloudHPCValueError(f"directory is {str(directory)!r}: that is a file.")
            given = [name for name in ("paths", "folder", "simulation_id") if getattr(self, name) not in (None, "", [])]
            if len(given) != 1:
                raise CloudHPCValueError(
                    f"Exactly one of paths, folder and simulation_id is needed; given: {', '.join(given) or 'none'}."
                )
            paths = [self.paths] if isinstance(self.paths, str) else list(self.paths or ())
            paths = [check_folder(path, "paths") for path in paths]
            folder = None if not self.folder else check_folder(self.folder)
            simulation_id = read_simulation_id(self.simulation_id)
            if not paths and folder is None and simulation_id is None:
                raise CloudHPCValueError(
                    "simulation_id is None: there is no simulation whose results could be fetched."
                )
            _ = self.client
        items = self._items(context, paths, folder, simulation_id)
        self._check_distinct(items)
        files = [str(download_item(self.client, item, directory)) for item in items]
        self.log.info("Downloaded %d files into %s", len(files), directory)
        return files

    def _items(
        self, context: Mapping[str, Any], paths: list[str], folder: str | None, simulation_id: int | None
    ) -> list[StorageItem]:
        if paths:
            return [self.client.view_by_path(path) for path in paths]
        if simulation_id is not None:
            self.tell_simulation(context, simulation_id)
            folder = self.client.view_simulation_short(simulation_id).folder
        return result_items(self.client, folder or "")

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
