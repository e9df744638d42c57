# SPDX-License-Identifier: Apache-2.0
"""A case goes up: one file, or a folder as the archive that the service wants."""

from __future__ import annotations

import logging
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_cloudhpc.api.archive.pack import pack_into
from airflow_provider_cloudhpc.api.diagnosis.preflight import Preflight
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCValueError
from airflow_provider_cloudhpc.api.names import CASE_ARCHIVE, check_folder, check_name
from airflow_provider_cloudhpc.api.progress import ProgressLog, format_bytes
from airflow_provider_cloudhpc.api.transfer.sources import BytesSource, OpenFileSource
from airflow_provider_cloudhpc.api.transfer.storage import upload_file
from airflow_provider_cloudhpc.folders import own_folder
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook
from airflow_provider_cloudhpc.operators.checking import check_before, script_of_launches
from airflow_provider_cloudhpc.paths import is_local, open_source, read_path, tell_temporary
from airflow_provider_cloudhpc.task import (
    CloudHPCTaskMixin,
    bad_input_fails,
    read_texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.transfer.sources import Source
    from airflow_provider_cloudhpc.api.transfer.storage import UploadedFile

log = logging.getLogger(__name__)


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
            for what in ("data", "filename"):
                if getattr(self, what) == "None":
                    raise CloudHPCValueError(f"{what} is 'None': a template gave nothing; did the task before push it?")
            source = self._source()
            filename = source.name.rpartition("/")[2] if self.filename is None else self.filename
            filename = check_name(filename, "filename")
            folder = own_folder(context) if self.folder is None else check_folder(self.folder)
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
    directory (``TMPDIR``) first, as a file without a name: nothing of it stays, however the task ends.

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
            folder = own_folder(context) if self.folder is None else check_folder(self.folder)
            exclude = read_texts(self.exclude, "exclude")
            check_before(
                self.preflight,
                source,
                script=script_of_launches(context) if self.script is None else self.script,
                exclude=exclude,
                include_hidden=self.include_hidden,
            )
            client = self.client
            return upload_folder(
                client,
                source,
                folder,
                exclude=exclude,
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
    :raises CloudHPCValueError: it is no folder, or holds nothing to pack or a link that is refused; nothing was sent
    :raises CloudHPCArchiveError: it holds what cannot be read, or there is no room to pack it; nothing was sent
    :raises CloudHPCTransferError: the archive did not arrive whole
    """
    # It has no name, so that nothing is left of it when the worker is killed.
    with tempfile.TemporaryFile() as archive:
        try:
            packed = pack_into(
                source,
                archive,
                exclude=list(exclude),
                include_hidden=include_hidden,
                progress=ProgressLog(f"Packing {source}", log),
            )
        except OSError as error:
            problem = error.strerror or str(error)
        else:
            problem = ""
        if problem:
            with suppress(OSError):  # it tries to write the rest once more
                archive.close()
            raise CloudHPCArchiveError(
                f"The archive of {str(source)!r} could not be written: {problem}. {tell_temporary()} Nothing was sent."
            )
        log.info(
            "Packed %s: %d members, %s into %s",
            source,
            packed.members,
            format_bytes(packed.content_size),
            format_bytes(packed.size),
        )
        return upload_file(client, OpenFileSource(CASE_ARCHIVE, archive), folder, CASE_ARCHIVE, maybe_there=maybe_there)


def is_retry(context: Mapping[str, Any]) -> bool:
    """Whether an earlier try of the running task may have got somewhere."""
    return bool(context["ti"].try_number > 1)
