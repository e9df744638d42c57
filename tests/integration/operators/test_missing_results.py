# SPDX-License-Identifier: Apache-2.0
"""What is not there is said with what is there, and can be waited for."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.api.errors import CloudHPCNotFoundError
from airflow_provider_cloudhpc.api.transfer.results import path_items, result_items
from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.storage import CloudHPCDownloadResultOperator
from tests.integration.operators.airflow_task import AirflowTask

RULES = "deletes files 60 days after their creation"


@pytest.fixture
def client(cloudhpc: CloudHPCEmulator) -> CloudHPCClient:
    cloudhpc.control.file("case/in.fds", b"x")
    return CloudHPCClient(cloudhpc.api_key, cloudhpc.api_url)


def download(directory: Path, **what: Any) -> Any:
    return AirflowTask(lambda: CloudHPCDownloadResultOperator(task_id="get", directory=str(directory), **what)).run()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"folder": "case"}, "No result archive in the storage folder 'case'; it holds in.fds"),
        ({"folder": "case", "patterns": "*.vtk"}, r"No file that fits \*.vtk in the storage folder 'case'; it holds"),
        ({"folder": "none"}, "The service finds no folder 'none' in the storage; the root holds case"),
        ({"paths": "case/out.txt"}, "finds no 'case/out.txt' in the storage: the folder 'case' holds in.fds"),
        ({"paths": ["case/in.fds", "case/a", "none/b"]}, "finds no 'case/a', 'none/b' in the storage: the folder "
            "'case' holds in.fds; there is no folder 'none', the root holds case"),
        ({"paths": "out.txt"}, "The service finds no 'out.txt' in the storage: the root holds case"),
    ],
)  # fmt: skip
def test_what_is_there_is_named(client: CloudHPCClient, tmp_path: Path, what: dict[str, Any], told: str) -> None:
    with pytest.raises(CloudHPCNotFoundError, match=told) as caught:
        download(tmp_path / "out", **what)
    assert RULES in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", [{"folder": "late"}, {"paths": ["case/in.fds", "late/out.tar.gz"]}])
def test_what_is_not_there_yet_is_waited_for(
    client: CloudHPCClient, cloudhpc: CloudHPCEmulator, what: dict[str, Any]
) -> None:
    threading.Timer(0.2, lambda: cloudhpc.control.file("late/out.tar.gz", b"done")).start()
    options = {"wait": 5.0, "poll_interval": 0.05}

    items = path_items(client, what["paths"], **options) if "paths" in what else result_items(client, **what, **options)

    assert [item.basename for item in items][-1] == "out.tar.gz"
    asked = cloudhpc.ledger.count("POST /storage/view-by-path")
    assert asked >= 2
    assert cloudhpc.ledger.count("DELETE /user/delete-cache") >= 1


def test_the_operator_waits_for_paths_too(client: CloudHPCClient, cloudhpc: CloudHPCEmulator, tmp_path: Path) -> None:
    threading.Timer(0.2, lambda: cloudhpc.control.file("late/out.txt", b"done")).start()

    assert download(tmp_path, paths="late/out.txt", wait_for_results=1.5) == [str(tmp_path / "out.txt")]


def test_the_wait_ends(client: CloudHPCClient, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    with pytest.raises(CloudHPCNotFoundError, match=r"no 'case/out.txt'"):
        download(tmp_path, paths="case/out.txt", wait_for_results=0.2)
    assert re.search(r"Not there yet: case/out.txt. Looking again for 0 s at the most", caplog.text)


def test_what_cannot_be_learned_does_not_hide_what_is_missing(
    client: CloudHPCClient, cloudhpc: CloudHPCEmulator, tmp_path: Path
) -> None:
    cloudhpc.control.set_quota(hourly_limit=2, window="rolling")

    with pytest.raises(CloudHPCNotFoundError, match=r"no 'case/out.txt' in the storage: .* could not be learned"):
        download(tmp_path, paths="case/out.txt")
