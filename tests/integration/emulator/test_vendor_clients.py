# SPDX-License-Identifier: Apache-2.0
"""
Whole jobs by programs that know the service's pages and nothing of ours: curl and wget, ``requests``, ``urllib``.

They have the habits of such programs; none of them may trip over the emulator.
"""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator

#: Ends at once, unless the case says that it is to stay: then only when it is stopped.
SCRIPT = """
echo "42 from $(cat data/input.txt)" > result.txt
echo the solver says hello
[ -f data/stay ] && sleep 600
exit 0
"""
RESULT = b"42 from the case\n"
T = TypeVar("T")
OCTETS = "application/octet-stream"


def case(stay: bool = False) -> bytes:
    packed = io.BytesIO()
    files = {"run.sh": SCRIPT, "data/input.txt": "the case"} | ({"data/stay": ""} if stay else {})
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return packed.getvalue()


def result_in(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("result.txt")
        assert member
        return member.read()


class RequestsClient:
    """Every value a string, ``mesh`` always sent, whole files in memory."""

    def __init__(self, base: str, key: str) -> None:
        self.base, self.headers = base, {"X-API-key": key, "accept": "application/json"}

    def call(self, method: str, path: str, data: dict[str, str] | None = None) -> Any:
        answer = requests.request(method, self.base + path, headers=self.headers, json=data, timeout=20).json()
        if "errors" in answer:
            raise RuntimeError(answer["errors"])
        return answer["response"]

    def upload_link(self, folder: str) -> str:
        data = {"dirname": folder, "filename": "upload.tar.gz", "contentType": OCTETS}
        return str(self.call("POST", "/storage/upload-url", data)["url"])

    def put(self, url: str, content: bytes) -> None:
        requests.put(url, data=content, headers={"Content-Type": OCTETS}, timeout=20).raise_for_status()

    def get(self, url: str) -> bytes:
        return requests.get(url, timeout=20).content


class UrllibClient(RequestsClient):
    """The standard library alone. It writes header names its own way, and says of JSON that it is a form."""

    def open(self, method: str, url: str, body: bytes | None = None, **headers: str) -> bytes:
        request = urllib.request.Request(url, body, {k.replace("_", "-"): v for k, v in headers.items()}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = answer.read()
        assert isinstance(content, bytes)
        return content

    def call(self, method: str, path: str, data: dict[str, str] | None = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        return json.loads(self.open(method, self.base + path, body, x_api_key=self.headers["X-API-key"]))["response"]

    def put(self, url: str, content: bytes) -> None:
        self.open("PUT", url, content, content_type=OCTETS)

    def get(self, url: str) -> bytes:
        return self.open("GET", url)


def upload(client: RequestsClient, folder: str, content: bytes) -> None:
    client.put(client.upload_link(folder), content)
    client.call("DELETE", "/user/delete-cache")


def launch(client: RequestsClient, folder: str) -> str:
    data = {"cpu": "1", "ram": "standard", "script": "custom-script", "folder": folder, "mesh": "", "nopre": "0"}
    return str(client.call("POST", "/simulation/add", data))


def poll(look: Callable[[], T], until: Callable[[T], bool]) -> T:
    give_up = time.monotonic() + 20
    while not until(seen := look()):
        assert time.monotonic() < give_up, seen
        time.sleep(0.05)
    return seen


def wait(client: RequestsClient, id_: str, *statuses: int) -> int:
    return poll(lambda: int(client.call("GET", f"/simulation/view-short/{id_}")["status"]), statuses.__contains__)


def pages(client: RequestsClient, path: str) -> list[dict[str, Any]]:
    """All items of a listing, page after page until one is empty."""
    found: list[dict[str, Any]] = []
    for number in itertools.count(1):
        if not (page := client.call("GET", f"{path}/{number}")):
            break
        found += page
    return found


@pytest.fixture
def quick(emulator: CloudHPCEmulator) -> CloudHPCEmulator:
    emulator.control.settings(pending_seconds=0.1)
    # More than a page of simulations that have ended.
    emulator.control.file("old/a.fds", "&HEAD/")
    emulator.control.simulation(count=25, folder="old", pending=0, running=0)
    return emulator


def test_curl_and_wget(quick: CloudHPCEmulator, tmp_path: Path) -> None:
    client = Path(__file__).with_name("vendor_client.sh")
    (tmp_path / "case.tar.gz").write_bytes(case())
    command = ["bash", str(client), quick.api_url, quick.api_key, "case.tar.gz", "job"]
    (tmp_path / "long.tar.gz").write_bytes(case(stay=True))
    ran = subprocess.run([*command, "long.tar.gz"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, (ran.stdout, ran.stderr, quick.ledger.violations)
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["completed", "stopped", "pages"]
    assert ran.stdout.endswith("pages 2\n")
    assert result_in((tmp_path / "CUSTOM-SCRIPT.tar.gz").read_bytes()) == RESULT
    assert result_in(quick.control.read("job-long/CUSTOM-SCRIPT.tar.gz")) == RESULT
    assert quick.ledger.violations == []


@pytest.mark.parametrize("kind", [RequestsClient, UrllibClient])
@pytest.mark.parametrize("answers", [{}, {"numbers": "strings", "download_shape": "url"}], ids=["plain", "strings"])
def test_a_python_program(quick: CloudHPCEmulator, kind: type[RequestsClient], answers: dict[str, str]) -> None:
    quick.control.settings(**answers)
    client = kind(quick.api_url, quick.api_key)
    upload(client, "job", case())
    id_ = launch(client, "job")
    assert wait(client, id_, 10, 50, 60) == 10
    assert "the solver says hello" in client.call("GET", f"/simulation/view/{id_}")["output"]
    item = client.call("POST", "/storage/view-by-path", {"path": "job/CUSTOM-SCRIPT.tar.gz"})
    link = client.call("GET", f"/storage/download/{item['id']}")
    content = client.get(link if isinstance(link, str) else link["url"])
    assert (result_in(content), len(content)) == (RESULT, int(item["size"]))

    upload(client, "long", case(stay=True))
    id_ = launch(client, "long")
    wait(client, id_, 30)
    assert str(client.call("GET", "/simulation/index-short/edate/asc/1")[0]["id"]) == id_  # the active one comes first
    poll(lambda: client.call("GET", f"/simulation/view/{id_}")["output"], lambda output: "says hello" in output)
    client.call("PUT", f"/simulation/sync/{id_}")
    (folder,) = [item for item in pages(client, "/storage/index/name/asc") if item["name"] == "long"]

    def files() -> list[str]:
        items = pages(client, f"/storage/index/name/asc/parent_id/{folder['id']}")
        return [item["basename"] for item in items]

    poll(files, lambda names: names == ["CUSTOM-SCRIPT.tar.gz", "upload.tar.gz"])
    client.call("PUT", f"/simulation/stop/{id_}", {"signal": "SIGINT"})
    assert wait(client, id_, 10, 50, 60) == 50
    assert files() == ["upload.tar.gz"]  # a hard stop deletes what the sync had saved
    assert client.call("DELETE", f"/storage/delete/{folder['id']}")
    assert len({str(record["id"]) for record in pages(client, "/simulation/index-short/id/desc")}) == 27
    assert quick.ledger.violations == []


TYPE = ["Content-Type: application/octet-stream"]
CURL, WGET = ["curl", "-sSf"], ["wget", "-q", "-O", "-"]


@pytest.mark.parametrize(
    "command",
    [
        [*CURL, "-X", "PUT", "-H", *TYPE, "-T", "FILE"],  # as the service's page has it
        [*CURL, "-X", "PUT", "-H", *TYPE, "--data-binary", "@FILE"],
        [*CURL, "-0", "-H", *TYPE, "-T", "FILE"],
        [*CURL, "-H", *TYPE, "-H", "Expect: 100-continue", "--upload-file", "FILE"],
        [*CURL, "-H", *TYPE, "-H", "Transfer-Encoding: chunked", "-T", "FILE"],
        [*WGET, "--method=PUT", f"--header={TYPE[0]}", "--body-file=FILE"],
    ],
    ids=lambda command: " ".join(command[-3:]),
)
def test_ways_to_upload(quick: CloudHPCEmulator, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "FILE").write_bytes(case() * 5000)  # more than curl sends without asking
    url = RequestsClient(quick.api_url, quick.api_key).upload_link("job")
    subprocess.run([*command, url], cwd=tmp_path, check=True, timeout=60)
    stored = quick.control.read("job/upload.tar.gz")
    assert (stored == (tmp_path / "FILE").read_bytes(), quick.ledger.violations) == (True, [])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["wget", "-q"], "*"),  # as the service's page has it: the name is the link's, query and all
        (["wget", "-q", "-O", "FDS.tar.gz"], "FDS.tar.gz"),
        (["wget", "-q", "-c", "-O", "begun"], "begun"),
        (["wget", "-q", "--content-disposition", "--trust-server-names"], "FDS*"),
        ([*CURL, "-OJ"], "FDS.tar.gz"),
        ([*CURL, "--compressed", "-L", "-o", "FDS.tar.gz"], "FDS.tar.gz"),
        ([*CURL, "-C", "-", "-o", "begun"], "begun"),
        ([*CURL, "-0", "-r", "0-", "-o", "FDS.tar.gz"], "FDS.tar.gz"),
    ],
    ids=lambda command: " ".join(command) if isinstance(command, list) else "",
)
def test_ways_to_download(quick: CloudHPCEmulator, tmp_path: Path, command: list[str], name: str) -> None:
    content = bytes(range(256)) * 20_000
    quick.control.file("job/FDS.tar.gz", content)
    client = RequestsClient(quick.api_url, quick.api_key)
    item = client.call("POST", "/storage/view-by-path", {"path": "job/FDS.tar.gz"})
    if name == "begun":
        (tmp_path / name).write_bytes(content[:1_000_000])
    subprocess.run(
        [*command, client.call("GET", f"/storage/download/{item['id']}")], cwd=tmp_path, check=True, timeout=60
    )
    (got,) = tmp_path.glob(name)
    assert (got.read_bytes() == content, quick.ledger.violations) == (True, [])
    if name == "begun":
        assert quick.ledger.bytes_downloaded == len(content) - 1_000_000


def test_a_redirect_to_the_store_bears_no_key(quick: CloudHPCEmulator) -> None:
    """``requests`` and ``curl -L`` show a header of one's own to every host on the way: that gives the key away."""
    quick.control.settings(download_shape="redirect")
    quick.control.file("job/FDS.tar.gz", b"content")
    client = RequestsClient(quick.api_url, quick.api_key)
    item = client.call("POST", "/storage/view-by-path", {"path": "job/FDS.tar.gz"})
    link = f"{client.base}/storage/download/{item['id']}"
    first = requests.get(link, headers=client.headers, timeout=20, allow_redirects=False)
    assert (first.status_code, client.get(first.headers["Location"])) == (302, b"content")
    assert quick.ledger.violations == []
    assert requests.get(link, headers=client.headers, timeout=20).status_code == 400
    assert [violation.kind for violation in quick.ledger.violations] == ["key-sent-to-store"]


def test_a_form_instead_of_the_file_is_refused_and_told(quick: CloudHPCEmulator) -> None:
    """``requests.put(url, files=...)`` says that it sends a form, which is not the content type that was signed."""
    client = RequestsClient(quick.api_url, quick.api_key)
    assert requests.put(client.upload_link("job"), files={"file": case()}, timeout=20).status_code == 403
    assert [violation.kind for violation in quick.ledger.violations] == ["wrong-content-type"]
    assert "job/upload.tar.gz" not in quick.control.files()


def test_a_form_that_is_called_octets_is_stored_and_breaks_the_run(quick: CloudHPCEmulator) -> None:
    """With the signed content type forced upon it the form itself is the object: no archive, and the run says so."""
    client = RequestsClient(quick.api_url, quick.api_key)
    url, headers = client.upload_link("job"), {"Content-Type": OCTETS}
    requests.put(url, files={"file": case()}, headers=headers, timeout=20).raise_for_status()
    client.call("DELETE", "/user/delete-cache")
    item = client.call("POST", "/storage/view-by-path", {"path": "job/upload.tar.gz"})
    assert int(item["size"]) > len(case())
    assert quick.control.read("job/upload.tar.gz").startswith(b"--")
    id_ = launch(client, "job")
    wait(client, id_, 10, 60)
    record = client.call("GET", f"/simulation/view/{id_}")
    assert "not recognized as an available compressed format" in record["output"], record
