# SPDX-License-Identifier: Apache-2.0
"""Object storage at both ends: S3 over real sockets (moto's server), ``file://`` and ``memory://``."""

from __future__ import annotations

import json
import logging
import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath
from botocore.config import Config
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer

from airflow_provider_cloudhpc import paths
from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.storage import (
    CloudHPCDownloadResultOperator,
    CloudHPCUploadFileOperator,
    CloudHPCUploadFolderOperator,
)
from airflow_provider_cloudhpc.paths import open_source
from tests.integration.api.store import Fault, running_store, running_zeros
from tests.integration.connection import connect
from tests.integration.operators.airflow_task import AirflowTask
from tests.memory import peak_memory

try:
    from airflow.sdk.io import attach

    LOCAL = ["file", "local"]
except ImportError:  # Airflow 2
    from airflow.io.store import attach

    LOCAL = ["file"]

DATA = random.Random(3).randbytes(20_000_003)
NAMES = ["FDS.tar.gz", "ä%20%25-日本.tar.gz"]


@pytest.fixture(scope="module")
def service() -> Iterator[CloudHPCEmulator]:
    with CloudHPCEmulator(port=0) as emulator:
        yield emulator


@pytest.fixture
def emulator(service: CloudHPCEmulator, monkeypatch: pytest.MonkeyPatch) -> CloudHPCEmulator:
    service.control.reset()
    connect(monkeypatch, service)
    return service


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def box() -> ObjectStoragePath:
    """A folder in memory; no provider registers that for Airflow."""
    attach("memory", fs=MemoryFileSystem())
    return ObjectStoragePath(f"memory://box-{uuid.uuid4().hex}")


class Bucket:
    """A bucket as somebody else's tool sees it."""

    def __init__(self, url: str) -> None:
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="user",
            aws_secret_access_key="secret",
            config=Config(retries={"max_attempts": 0}),
        )
        self.name = f"bucket-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=self.name)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        return sorted(entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", []))

    def uri(self, key: str) -> str:
        return f"s3://results_s3@{self.name}/{key}"


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    extra = {"endpoint_url": s3_server, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "user", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_RESULTS_S3", json.dumps(connection))
    return Bucket(s3_server)


def upload(**arguments: Any) -> dict[str, Any]:
    return AirflowTask(lambda: CloudHPCUploadFileOperator(task_id="upload", **arguments)).run()


def download(directory: Any, **arguments: Any) -> list[str]:
    arguments = {"folder": "case", "check_output": False, **arguments}
    return AirflowTask(lambda: CloudHPCDownloadResultOperator(task_id="get", directory=directory, **arguments)).run()


def results(emulator: CloudHPCEmulator, content: bytes = DATA, name: str = "FDS.tar.gz") -> None:
    emulator.control.file(f"case/{name}", content)


# --- up ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["uri", "path"])
def test_an_object_is_uploaded(emulator: CloudHPCEmulator, bucket: Bucket, name: str, kind: str) -> None:
    bucket.put(f"in/{name}", DATA)
    uri = bucket.uri(f"in/{name}")

    sent = upload(source=uri if kind == "uri" else ObjectStoragePath(uri), folder="case")

    assert emulator.control.read(f"case/{name}") == DATA
    assert sent == {"path": f"case/{name}", "folder": "case", "filename": name, "size": len(DATA), "proof": "hash"}


def test_an_object_in_memory_is_uploaded(emulator: CloudHPCEmulator, box: ObjectStoragePath) -> None:
    (box / "a.bin").write_bytes(b"in memory")

    upload(source=str(box / "a.bin"), folder="case")

    assert emulator.control.read("case/a.bin") == b"in memory"


@pytest.mark.parametrize("scheme", LOCAL)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_uri_is_a_local_file(emulator: CloudHPCEmulator, tmp_path: Path, name: str, scheme: str) -> None:
    (tmp_path / name).write_bytes(b"local")

    upload(source=f"{scheme}://{tmp_path / name}", folder="case")

    assert emulator.control.read(f"case/{name}") == b"local"


@pytest.mark.parametrize("data", ["&HEAD CHID='ä' /\n", b"\x00\xff binary", "", b""])
def test_text_or_bytes_are_uploaded(emulator: CloudHPCEmulator, data: str | bytes) -> None:
    sent = upload(data=data, filename="in.fds", folder="case")

    content = data.encode() if isinstance(data, str) else data
    assert emulator.control.read("case/in.fds") == content
    assert (sent["path"], sent["size"], sent["proof"]) == ("case/in.fds", len(content), "hash")


@pytest.mark.parametrize("when", ["between two tries", "while it is sent"])
@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_an_object_that_is_replaced_is_never_mixed(
    emulator: CloudHPCEmulator, bucket: Bucket, box: ObjectStoragePath, kind: str, when: str
) -> None:
    """S3 refuses to go on with another object; where a storage does not, the object is looked at once more."""
    new = DATA[::-1] + DATA
    path = ObjectStoragePath(bucket.uri("FDS.tar.gz")) if kind == "s3" else box / "FDS.tar.gz"
    path.write_bytes(DATA)
    source, state = open_source(path), []

    def progress(done: int, total: int | None) -> None:
        if not state:
            state.append(done)
            path.write_bytes(new)

    def link() -> str:
        if when == "between two tries" and store.seen:
            path.write_bytes(new)
        return store.url

    with running_store() as store:
        store.faults = [Fault(status=500)] if when == "between two tries" else []
        send = Transfer(first_pause=0.01).upload
        if when == "while it is sent" and kind == "memory":
            with pytest.raises(CloudHPCTransferError, match="changed while it was sent"):
                send(link, source, progress=progress)
        else:
            send(link, source, progress=progress if when == "while it is sent" else None)
            assert store.data == new


def test_text_comes_from_a_template(emulator: CloudHPCEmulator) -> None:
    task = AirflowTask(
        lambda: CloudHPCUploadFileOperator(
            task_id="upload", data="&MESH IJK={{ cells }} /", filename="{{ name }}.fds", folder="case"
        )
    )
    context = task.context()
    context["task"].render_template_fields({**context, "cells": "4,4,4", "name": "a"})
    context["task"].execute(context)

    assert emulator.control.read("case/a.fds") == b"&MESH IJK=4,4,4 /"


def test_text_does_not_become_a_path(emulator: CloudHPCEmulator, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")

    upload(data=str(tmp_path / "secret"), filename="a", folder="case")

    assert emulator.control.read("case/a") == str(tmp_path / "secret").encode()


@pytest.mark.parametrize(
    ("key", "why"), [("none", "there is no such object"), ("folder", "it is a folder; a folder travels as one archive")]
)
def test_what_cannot_be_uploaded_is_told_before_anything_is_sent(
    emulator: CloudHPCEmulator, bucket: Bucket, key: str, why: str
) -> None:
    bucket.put("folder/a", b"x")

    with pytest.raises(AirflowFailException, match=why):
        upload(source=bucket.uri(key), folder="case")
    assert emulator.ledger.by_endpoint() == {}


def test_a_signed_link_as_a_path_is_refused_without_its_query(emulator: CloudHPCEmulator, tmp_path: Path) -> None:
    link = "https://me:5ecret@store.test/in.fds?X-Amz-Signature=5ecret"
    for action in (lambda: upload(source=link), lambda: download(link)):
        with pytest.raises(AirflowFailException, match=r"is 'https://store.test/in.fds': .*no.*https") as caught:
            action()
        error: BaseException | None = caught.value
        while error is not None:
            assert "5ecret" not in str(error)
            error = error.__cause__ or error.__context__


def test_a_folder_on_an_object_storage_is_refused_with_advice(emulator: CloudHPCEmulator, bucket: Bucket) -> None:
    bucket.put("case/a", b"x")

    with pytest.raises(AirflowFailException, match="a folder on the worker is needed"):
        AirflowTask(lambda: CloudHPCUploadFolderOperator(task_id="up", source=bucket.uri("case"), folder="case")).run()
    assert emulator.ledger.by_endpoint() == {}


def test_a_retry_sends_an_object_only_if_the_store_has_another(
    emulator: CloudHPCEmulator, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bucket.put("a.bin", DATA)
    task = AirflowTask(lambda: CloudHPCUploadFileOperator(task_id="up", source=bucket.uri("a.bin"), folder="case"))
    task.run()

    task.retry()
    assert "in the storage already, by the store's own hash: not sent again" in caplog.text
    assert emulator.ledger.count("POST /storage/upload-url") == 1

    bucket.put("a.bin", DATA[::-1])
    task.retry()
    assert emulator.control.read("case/a.bin") == DATA[::-1]


# --- down -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_put_whole(emulator: CloudHPCEmulator, bucket: Bucket, name: str) -> None:
    results(emulator, name=name)

    fetched = download(bucket.uri("out/run 1"))

    assert fetched == [bucket.uri(f"out/run 1/{name}")]
    assert bucket.get(f"out/run 1/{name}") == DATA


def test_a_large_result_tells_how_far_it_is(
    emulator: CloudHPCEmulator, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(emulator)
    told: list[tuple[int, int | None]] = []
    monkeypatch.setattr(paths, "ProgressLog", lambda what, log: lambda done, total: told.append((done, total)))

    download(bucket.uri("prefix"))

    assert told == sorted(told)
    assert len(told) > 2
    assert told[-1] == (len(DATA), len(DATA))


def test_a_result_is_put_into_memory(emulator: CloudHPCEmulator, box: ObjectStoragePath) -> None:
    results(emulator)

    assert download(box) == [str(box / "FDS.tar.gz")]
    assert (box / "FDS.tar.gz").read_bytes() == DATA


@pytest.mark.parametrize("scheme", LOCAL)
def test_a_result_is_put_under_a_file_uri(emulator: CloudHPCEmulator, tmp_path: Path, scheme: str) -> None:
    results(emulator)

    assert download(f"{scheme}://{tmp_path}/out") == [str(tmp_path / "out" / "FDS.tar.gz")]
    assert (tmp_path / "out" / "FDS.tar.gz").read_bytes() == DATA


def test_an_object_that_is_there(emulator: CloudHPCEmulator, bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    results(emulator)
    key, same_length = "out/FDS.tar.gz", DATA[::-1]

    for there, fetches in ((b"other length", 0), (same_length, 1)):
        bucket.put(key, there)
        before = emulator.ledger.count("GET /storage/download/{id}")
        with pytest.raises(CloudHPCTransferError, match="another object is there; choose on_existing"):
            download(bucket.uri("out"))
        assert bucket.get(key) == there
        assert emulator.ledger.count("GET /storage/download/{id}") - before == fetches

        before = emulator.ledger.count("GET /storage/download/{id}")
        assert download(bucket.uri("out"), on_existing="keep") == [bucket.uri(key)]
        assert bucket.get(key) == there
        assert emulator.ledger.count("GET /storage/download/{id}") == before, "nothing is fetched to be thrown away"

    download(bucket.uri("out"), on_existing="overwrite")
    assert bucket.get(key) == DATA

    caplog.clear()
    download(bucket.uri("out"))
    assert "which was there" in caplog.text


def test_a_broken_download_puts_nothing(
    emulator: CloudHPCEmulator, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_cloudhpc.api.transfer.signed_urls.time.sleep", lambda seconds: None)
    results(emulator)
    bucket.put("out/keep", b"")
    emulator.control.fault("wrong_hash", "GET signed-url", times=None)

    with pytest.raises(CloudHPCTransferError, match="hash"):
        download(bucket.uri("out"))
    assert bucket.keys() == ["out/keep"]


def test_a_refusing_store_is_told(emulator: CloudHPCEmulator, bucket: Bucket) -> None:
    results(emulator)

    with pytest.raises(CloudHPCTransferError, match=r"s3://results_s3@no-such-bucket/out/FDS\.tar\.gz' could not be"):
        download("s3://results_s3@no-such-bucket/out")


def test_a_file_system_that_shows_half_files_is_cleaned(
    emulator: CloudHPCEmulator, box: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every file system puts files whole; SFTP, for one, shows them as they grow."""
    results(emulator)

    def half(local: str, target: str, **options: Any) -> None:
        with box.fs.open(target, "wb") as file:
            file.write(Path(local).read_bytes()[:100])
        raise ConnectionResetError("reset")

    monkeypatch.setattr(type(box.fs), "put_file", lambda fs, *args, **options: half(*args, **options))

    with pytest.raises(CloudHPCTransferError, match="could not be written: ConnectionResetError"):
        download(str(box))
    assert not (box / "FDS.tar.gz").exists()

    (box / "FDS.tar.gz").write_bytes(b"before")
    monkeypatch.setattr(type(box.fs), "put_file", lambda fs, *args, **options: 1 / 0)
    with pytest.raises(CloudHPCTransferError, match="ZeroDivisionError"):
        download(str(box), on_existing="overwrite")
    assert (box / "FDS.tar.gz").read_bytes() == b"before"


def test_extract_needs_a_local_directory(emulator: CloudHPCEmulator, bucket: Bucket) -> None:
    with pytest.raises(AirflowFailException, match="extract needs a local directory"):
        download(bucket.uri("out"), extract=True)
    assert emulator.ledger.by_endpoint() == {}


# --- memory -----------------------------------------------------------------------------------------------------------

MOVE = """
import sys
from pathlib import Path
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer
from airflow_provider_cloudhpc.paths import open_source, put_object, read_path
uri, what = sys.argv[1:]
if what.startswith("http"):
    Transfer().upload(lambda: what, open_source(uri))
else:
    put_object(Path(what), read_path(uri, "target"), "error")
"""


def test_memory_does_not_grow_with_the_object(bucket: Bucket, tmp_path: Path) -> None:
    up, down = {}, {}
    for name, size in (("small", 40_000_000), ("large", 200_000_000)):
        path = tmp_path / name
        path.touch()
        os.truncate(path, size)
        down[name] = peak_memory(MOVE, bucket.uri(name), path)
        assert bucket.client.head_object(Bucket=bucket.name, Key=name)["ContentLength"] == size
        with running_zeros(0) as url:
            up[name] = peak_memory(MOVE, bucket.uri(name), url)
        bucket.client.delete_object(Bucket=bucket.name, Key=name)

    assert up["large"] - up["small"] < 24 * 1024, up
    assert down["large"] - down["small"] < 24 * 1024, down
