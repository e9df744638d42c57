# SPDX-License-Identifier: Apache-2.0
"""Every way in which bytes get lost, over real sockets, and what is left then."""

from __future__ import annotations

import base64
import gc
import io
import logging
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import pytest

from airflow_provider_cloudhpc.api.errors import CloudHPCConnectionError, CloudHPCTransferError, CloudHPCValueError
from airflow_provider_cloudhpc.api.transfer import checksums, downloading
from airflow_provider_cloudhpc.api.transfer.aside import PART_SUFFIX
from airflow_provider_cloudhpc.api.transfer.downloading import OnExisting
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer
from airflow_provider_cloudhpc.api.transfer.sources import BytesSource, FileSource
from airflow_provider_cloudhpc.api.transfer.storage import check_source
from airflow_provider_cloudhpc.api.transfer.stores import object_length
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions
from tests.integration.api.proxy import Moods, running_proxy
from tests.integration.api.store import SECRET, Fault, Store, crc32c, md5, running_store, running_zeros
from tests.memory import peak_memory

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB + 77)
OTHER = random.Random(2).randbytes(3 * MIB + 77)


@pytest.fixture
def store() -> Iterator[Store]:
    with running_store() as running:
        running.data = DATA
        yield running


@pytest.fixture
def served(scheme: str, request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue("secure" if scheme == "https" else "store")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "FDS.tar.gz"


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    path = tmp_path / "upload.tar.gz"
    path.write_bytes(DATA)
    return FileSource(path)


def transfer(attempts: int = 4, read_timeout: float = 5.0, **network: object) -> Transfer:
    options = NetworkOptions(read_timeout=read_timeout, **network)  # type: ignore[arg-type]
    return Transfer(options, attempts=attempts, first_pause=0.01, longest_pause=0.05)


class Links:
    """Gives signed URLs, each another one, and counts them."""

    def __init__(self, store: Store) -> None:
        self.store, self.given = store, 0

    def __call__(self) -> str:
        self.given += 1
        return f"{self.store.url}&link={self.given}"


def fails(action: Callable[[], object], match: str, **attributes: object) -> CloudHPCTransferError:
    with pytest.raises(CloudHPCTransferError, match=match) as caught:
        action()
    error: BaseException | None = caught.value
    for name, value in attributes.items():
        assert getattr(error, name) == value
    while error is not None:
        assert "5ecret" not in str(error)
        error = error.__cause__ or error.__context__
    return caught.value


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# --- downloads --------------------------------------------------------------------------------------------------------


def test_a_download(store: Store, target: Path) -> None:
    links = Links(store)

    done = transfer().download(links, target, size=len(DATA))

    assert target.read_bytes() == DATA
    assert (done.size, done.proven, done.skipped) == (len(DATA), True, False)
    assert left(target) == ["FDS.tar.gz"]
    assert links.given == len(store.seen) == 1
    assert store.seen[0].headers["accept-encoding"] == "identity"
    assert "x-api-key" not in store.seen[0].headers
    assert store.seen[0].path.startswith("/bucket/case%20%C3%A4%25/~FDS.tar.gz?")


def test_an_empty_object(store: Store, target: Path) -> None:
    store.data = b""

    assert transfer().download(Links(store), target, size=0).proven
    assert target.read_bytes() == b""


FLAWS = {
    "reset": [Fault(cut=MIB)],
    "end": [Fault(cut=MIB, reset=False)],
    "reset at once": [Fault(cut=0)],
    "reset at the last byte": [Fault(cut=len(DATA) - 1)],
    "stall": [Fault(stall=MIB)],
    "three in a row": [Fault(cut=MIB), Fault(cut=MIB, reset=False), Fault(stall=5000)],
    "500": [Fault(status=500)],
    "503 after a cut": [Fault(cut=MIB), Fault(status=503)],
    "429": [Fault(status=429)],
    "expired": [Fault(status=403)],
    "expired in the middle": [Fault(cut=MIB), Fault(status=400), Fault(cut=5000)],
    "changed byte": [Fault(flip=2 * MIB)],
    "wrong hash": [Fault(hashes="md5=" + md5(b"else"))],
    "wrong hash of crc32c": [Fault(hashes="crc32c=AAAAAA==,md5=" + md5(b"else"))],
    "range refused": [Fault(cut=MIB), Fault(status=416)],
    "range ignored": [Fault(cut=MIB), Fault(ignore_range=True)],
    "wrong range": [Fault(cut=MIB), Fault(range_shift=-100)],
    "wrong range behind": [Fault(cut=MIB), Fault(range_shift=100)],
    "range unnamed": [Fault(cut=MIB), Fault(content_range="")],
    "range of another length": [
        Fault(cut=MIB, reset=False),
        Fault(content_range=f"bytes {MIB}-{len(DATA)}/{len(DATA) + 1}"),
    ],
    "range of unknown length": [Fault(cut=MIB, reset=False), Fault(content_range=f"bytes {MIB}-{len(DATA) - 1}/*")],
    "range that is none": [Fault(cut=MIB), Fault(content_range="bytes */3")],
    "range of another object": [Fault(cut=MIB), Fault(etag='"another"')],
    "range of no known object": [Fault(cut=MIB), Fault(etag="")],
    "no etag": [Fault(cut=MIB, etag="")],
    "weak etag": [Fault(cut=MIB, etag='W/"x"')],
    "slow": [Fault(drip=0.01)],
    "short chunks": [Fault(cut=MIB, chunked=True, reset=False)],
    "no content": [Fault(status=204)],
    "a part unasked": [Fault(status=206)],
    "short, of no known length": [Fault(cut=MIB, unframed=True, reset=False)],
}


#: Where TLS makes a difference: a connection that ends without the parting word, a reset within a record, a stall.
TLS_FLAWS = ["reset", "end", "reset at once", "reset at the last byte", "stall", "three in a row", "short chunks"]


@pytest.mark.parametrize(
    ("scheme", "name"), [*(("http", name) for name in FLAWS), *(("https", name) for name in TLS_FLAWS)]
)
def test_a_flaw_is_survived(
    served: Store, ca_bundle: Path, target: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = served
    store.faults = list(FLAWS[name])
    links = Links(store)

    done = transfer(read_timeout=0.4, ca_bundle=str(ca_bundle)).download(links, target, size=len(DATA))

    assert target.read_bytes() == DATA
    assert done.proven
    assert left(target) == ["FDS.tar.gz"]
    retried = [record for record in caplog.records if "Trying again" in record.getMessage()]
    assert len(store.seen) == 1 + len(retried)
    assert "5ecret" not in caplog.text


@pytest.mark.parametrize("cut", [1, 1000, 256 << 10, MIB, len(DATA) - 1])
def test_it_goes_on_at_the_right_byte_with_the_same_link(store: Store, target: Path, cut: int) -> None:
    store.faults = [Fault(cut=cut), Fault(cut=min(5000, len(DATA) - cut))]
    links, etag = Links(store), store.etag

    transfer().download(links, target)

    begins = [int((r or "bytes=0-").removeprefix("bytes=").removesuffix("-")) for r in store.ranges()]
    assert begins[0] == 0
    assert max(0, cut - downloading.BLOCK) <= begins[1] <= cut, "what came before the reset is kept, but for one block"
    assert begins == sorted(begins)
    assert {seen.headers.get("if-range") for seen in store.seen if seen.range} <= {etag}
    assert links.given == 1
    assert target.read_bytes() == DATA


def test_an_orderly_end_loses_no_byte(store: Store, target: Path) -> None:
    store.faults = [Fault(cut=1234567, reset=False)]

    transfer().download(Links(store), target)

    assert store.ranges() == [None, "bytes=1234567-"]


@pytest.mark.parametrize("more", [0, 1], ids=["the length told late is right", "and one too many"])
def test_what_came_of_an_object_of_no_told_length_is_kept(store: Store, target: Path, more: int) -> None:
    store.default = Fault(chunked=True)
    named = f"bytes {2 * MIB}-{len(DATA) - 1}/{len(DATA) + more}"
    store.faults = [Fault(cut=2 * MIB, chunked=True, reset=False), Fault(content_range=named, chunked=True)]

    transfer().download(Links(store), target)

    assert store.ranges() == [None, f"bytes={2 * MIB}-", *[None] * more]
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", "many"])
def test_a_length_that_is_no_number_is_none(length: str) -> None:
    assert object_length({"Content-Length": length}) is None


def test_an_expired_link_is_asked_for_again_in_the_middle(store: Store, target: Path) -> None:
    store.faults = [Fault(cut=MIB, reset=False), Fault(status=403)]
    links = Links(store)

    transfer().download(links, target)

    assert links.given == 2
    assert store.ranges() == [None, f"bytes={MIB}-", f"bytes={MIB}-"]
    assert ["link=1" in store.seen[1].path, "link=2" in store.seen[2].path] == [True, True]


@pytest.mark.parametrize("honest", [True, False], ids=["If-Range honoured", "If-Range ignored"])
@pytest.mark.parametrize("new", [OTHER, OTHER[: 2 * MIB], OTHER + OTHER, b"tiny"], ids=["same", "less", "more", "tiny"])
@pytest.mark.parametrize("hashes", [None, ""], ids=["hash", "no hash"])
def test_an_object_that_changes_in_between_is_never_mixed(
    store: Store, target: Path, new: bytes, honest: bool, hashes: str | None
) -> None:
    store.default = Fault(hashes=hashes)
    store.faults = [
        Fault(cut=MIB, reset=False, hashes=hashes),
        Fault(replace=new, ignore_if_range=not honest, hashes=hashes),
    ]

    transfer().download(Links(store), target)

    assert target.read_bytes() == new
    assert left(target) == ["FDS.tar.gz"]


def test_an_object_that_changes_behind_the_same_etag_is_found_by_its_hash(store: Store, target: Path) -> None:
    same = '"always"'
    store.default = Fault(etag=same, ignore_if_range=True)
    store.faults = [
        Fault(cut=MIB, reset=False, etag=same, hashes=f"md5={md5(OTHER)}"),
        Fault(replace=OTHER, etag=same, ignore_if_range=True),
    ]

    transfer().download(Links(store), target)

    assert target.read_bytes() == OTHER


def test_a_server_without_etag_begins_again(store: Store, target: Path) -> None:
    store.default = Fault(etag="")
    store.faults = [Fault(cut=MIB, etag="")]

    transfer().download(Links(store), target)

    assert store.ranges() == [None, None]
    assert target.read_bytes() == DATA


FATAL: dict[str, tuple[Fault, str, int]] = {
    "always cut": (Fault(cut=1000, reset=False), "given up after 4 attempts: .* broke after 4000 bytes", 4),
    "always at the same byte, from the start": (Fault(cut=2 * MIB, etag="", reset=False), "given up after 4", 5),
    "always stalls": (Fault(stall=0), "given up after 4 attempts: .*no answer in time", 4),
    "always 500": (Fault(status=500), "given up after 4 attempts: .*HTTP 500", 4),
    "always expired": (Fault(status=403), "given up after 4 attempts: .*HTTP 403", 4),
    "always the wrong hash": (Fault(hashes=f"md5={md5(b'x')}"), "do not have the object's hash", 5),
    "always changed on the way": (Fault(flip=100), "do not have the object's hash", 5),
    "no content": (Fault(status=204), "given up after 4 attempts: .*HTTP 204", 4),
    "gone": (Fault(status=404), "no such object", 1),
    "redirected": (Fault(status=302, headers={"Location": "http://127.0.0.1:1/"}), "HTTP 302", 1),
    "not implemented": (Fault(status=405), "HTTP 405", 1),
}


@pytest.mark.parametrize("name", FATAL)
@pytest.mark.parametrize("before", [None, b"yesterday's"], ids=["new", "there"])
def test_what_never_works_leaves_nothing(store: Store, target: Path, name: str, before: bytes | None) -> None:
    fault, match, calls = FATAL[name]
    store.default = fault
    if before:
        target.write_bytes(before)

    error = fails(lambda: transfer(read_timeout=0.3).download(Links(store), target, on_existing="overwrite"), match)

    assert len(store.seen) <= calls
    assert left(target) == (["FDS.tar.gz"] if before else [])
    assert not before or target.read_bytes() == before
    assert error.method == "GET"


def test_a_long_download_may_break_more_often_than_the_limit_if_it_gets_on(store: Store, target: Path) -> None:
    store.data = DATA * 4
    store.default = Fault(cut=MIB + 5000, reset=False)

    transfer(attempts=2).download(Links(store), target)

    assert target.read_bytes() == DATA * 4
    assert len(store.seen) > 8


def test_a_wrong_length_in_the_listing_is_told(store: Store, target: Path) -> None:
    fails(lambda: transfer(attempts=2).download(Links(store), target, size=5), f"has {len(DATA)} bytes where .* says 5")

    assert left(target) == []


def test_a_refused_new_link_ends_the_download(store: Store, target: Path) -> None:
    store.faults = [Fault(cut=MIB), Fault(status=403)]
    links = iter([store.url])

    def ask() -> str:
        for link in links:
            return link
        raise CloudHPCConnectionError("The service could not be reached.")

    with pytest.raises(CloudHPCConnectionError):
        transfer().download(ask, target)
    assert left(target) == []


def test_nobody_listens(target: Path) -> None:
    fails(
        lambda: transfer(attempts=2).download(lambda: f"http://127.0.0.1:9/x?{SECRET}", target),
        "given up after 2 attempts: .*refused",
        transient=True,
    )
    assert left(target) == []


def test_chunks_without_a_length_are_taken_if_they_end_well(store: Store, target: Path) -> None:
    store.faults = [Fault(chunked=True, hashes="", etag="")]

    done = transfer().download(Links(store), target)

    assert (done.size, done.proven) == (len(DATA), None)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("how", ["chunked", "unframed"])
@pytest.mark.parametrize("etag", ["", None], ids=["no etag", "etag"])
def test_a_length_that_only_the_listing_knows_will_do(store: Store, target: Path, how: str, etag: str | None) -> None:
    store.default = Fault(hashes="", etag=etag, chunked=how == "chunked", unframed=how == "unframed")

    done = transfer(attempts=2).download(Links(store), target, size=len(DATA))

    assert (done.size, done.proven) == (len(DATA), None)
    assert len(store.seen) == 1
    assert target.read_bytes() == DATA


def test_an_answer_without_end_does_not_fill_the_disk(store: Store, target: Path) -> None:
    store.data = bytes(32 * MIB)
    store.default = Fault(chunked=True)
    seen = []

    fails(
        lambda: transfer(attempts=2).download(
            Links(store), target, size=MIB, progress=lambda done, total: seen.append(done)
        ),
        f"more than the {MIB} bytes",
    )

    assert max(seen) <= MIB + downloading.BLOCK
    assert left(target) == []


@pytest.mark.parametrize("cut", [None, MIB], ids=["whole", "half"])
def test_what_nothing_can_prove_to_be_whole_is_refused(store: Store, target: Path, cut: int | None) -> None:
    """No length, no hash, no size in the listing: a connection that breaks looks like the end."""
    store.default = Fault(hashes="", unframed=True, cut=cut, reset=False)

    fails(lambda: transfer(attempts=2).download(Links(store), target), "nothing says .* whole")

    assert left(target) == []


def test_an_answer_that_was_compressed_on_the_way_is_no_object(store: Store, target: Path) -> None:
    """Whoever compresses in between takes the hash away, and the length is another."""
    store.default = Fault(hashes="", headers={"Content-Encoding": "gzip"})
    fails(lambda: transfer(attempts=2).download(Links(store), target), "compressed .gzip. although")
    assert left(target) == []

    store.default = Fault(headers={"Content-Encoding": "gzip"})
    assert transfer().download(Links(store), target).proven, "stored so, says the hash"


@pytest.mark.parametrize("library", [True, False], ids=["google-crc32c", "md5 only"])
@pytest.mark.parametrize(
    ("named", "etag", "proven"),
    [
        (f"crc32c={crc32c(DATA)}", None, "with library"),
        (f"crc32c={crc32c(DATA)},md5={md5(DATA)}", None, "always"),
        (f"md5={md5(DATA)}", None, "always"),
        ("", None, "never"),
        ("", '"' + base64.b64decode(md5(DATA)).hex() + '"', "always"),
        ("", '"' + base64.b64decode(md5(DATA)).hex() + '-3"', "never"),
        ("", '"' + "0" * 32 + '"', "mismatch"),
        (f"crc32c={crc32c(OTHER)}", None, "mismatch with library"),
        (f"md5={md5(OTHER)}", None, "mismatch"),
        (f"crc32c={crc32c(DATA)},md5={md5(OTHER)}", None, "mismatch without library"),
    ],
)
@pytest.mark.parametrize("way", ["up", "down"])
def test_which_hash_proves_what(
    store: Store, source: FileSource, target: Path, monkeypatch: pytest.MonkeyPatch,
    library: bool, named: str, etag: str | None, proven: str, way: str,
) -> None:  # fmt: skip
    if not library:
        monkeypatch.setattr(checksums, "google_crc32c", None)
    else:
        pytest.importorskip("google_crc32c")
    store.default = Fault(hashes=named, etag=etag)
    one = transfer(attempts=2)
    links = Links(store)
    run = (lambda: one.upload(links, source)) if way == "up" else (lambda: one.download(links, target))

    expected = {
        "always": True,
        "never": None,
        "with library": True if library else None,
        "mismatch": False,
        "mismatch with library": False if library else None,
        "mismatch without library": library,
    }[proven]
    if expected is False:
        fails(run, "hash" if way == "down" else "other bytes")
        assert left(target) == []
    else:
        assert run().proven is expected


# --- what is there already --------------------------------------------------------------------------------------------


def test_the_same_file_is_left_as_it_is(store: Store, target: Path) -> None:
    target.write_bytes(DATA)
    os.utime(target, (1, 1))

    done = transfer().download(Links(store), target)

    assert (done.skipped, done.proven) == (True, True)
    assert target.stat().st_mtime == 1
    assert left(target) == ["FDS.tar.gz"]


@pytest.mark.parametrize("there", [OTHER, DATA[:-1], DATA + b"x", b""])
def test_another_file_is_an_error_unless_chosen_otherwise(store: Store, target: Path, there: bytes) -> None:
    target.write_bytes(there)

    fails(
        lambda: transfer().download(Links(store), target), "is there and is not known to be the same", transient=False
    )
    assert target.read_bytes() == there

    assert transfer().download(Links(store), target, on_existing="keep").skipped
    assert target.read_bytes() == there

    assert not transfer().download(Links(store), target, on_existing="overwrite").skipped
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("on_existing", ["error", "keep", "overwrite"])
def test_a_folder_of_that_name_is_no_file(store: Store, target: Path, on_existing: OnExisting) -> None:
    target.mkdir()

    fails(lambda: transfer().download(Links(store), target, on_existing=on_existing), "is there and is a folder")

    assert store.seen == []
    assert target.is_dir()


def test_a_link_to_nothing_is_not_kept(store: Store, target: Path) -> None:
    target.symlink_to("nowhere")

    fails(lambda: transfer().download(Links(store), target, on_existing="keep"), "is there and is a link to nothing")

    assert transfer().download(Links(store), target, on_existing="overwrite").proven
    assert not target.is_symlink()


@pytest.mark.parametrize("on_existing", ["error", "keep", "overwrite"])
def test_a_name_that_the_disk_does_not_take_is_told_before(store: Store, target: Path, on_existing: OnExisting) -> None:
    long = target.with_name("x" * 256)

    fails(lambda: transfer().download(Links(store), long, on_existing=on_existing), "File name too long")

    assert store.seen == []
    assert left(target) == []


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("on_existing", ["error", "keep", "overwrite"])
def test_another_task_that_was_quicker(store: Store, target: Path, on_existing: OnExisting, same: bool) -> None:
    """It puts its file in place while ours is on the way."""
    theirs = DATA if same else OTHER
    run = lambda: transfer().download(  # noqa: E731
        Links(store), target, on_existing=on_existing, progress=lambda done, total: target.write_bytes(theirs) and None
    )
    if on_existing == "error" and not same:
        fails(run, "another file came there meanwhile")
    else:
        assert run().skipped == (on_existing != "overwrite")
    assert target.read_bytes() == (DATA if on_existing == "overwrite" else theirs)
    assert left(target) == [target.name]


def test_the_same_length_without_a_hash_proves_nothing(store: Store, target: Path) -> None:
    store.default = Fault(hashes="")
    target.write_bytes(DATA)

    fails(lambda: transfer().download(Links(store), target), "is there and is not known to be the same")


def test_a_part_of_a_killed_download_is_swept_away_and_one_at_work_is_not(store: Store, target: Path) -> None:
    orphan = target.with_name(f".{target.name}.{'0' * 12}{PART_SUFFIX}")
    orphan.write_bytes(b"half")
    other = target.with_name(f".{target.name}.old.{'0' * 12}{PART_SUFFIX}")
    other.write_bytes(b"of another target")
    store.faults = [Fault(stall=MIB), Fault()]
    slow = threading.Thread(target=lambda: transfer(read_timeout=1.0).download(Links(store), target))
    slow.start()
    while not store.seen:  # its part is there then, and the fault is its own
        time.sleep(0.01)

    transfer().download(Links(store), target, on_existing="overwrite")

    assert target.read_bytes() == DATA
    parts = [name for name in left(target) if name.endswith(PART_SUFFIX)]
    assert len(parts) == 2
    assert other.name in parts
    assert orphan.name not in parts
    slow.join()
    assert left(target) == sorted([other.name, target.name])


# --- space ------------------------------------------------------------------------------------------------------------


def test_too_little_space_is_found_before_anything_is_written(
    store: Store, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = downloading.shutil.disk_usage(target.parent)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage._replace(free=len(DATA) - 1))
    fails(lambda: transfer().download(Links(store), target), "Make room", transient=False)
    assert left(target) == []

    store.default = Fault(chunked=True)
    fails(lambda: transfer().download(Links(store), target, size=len(DATA)), "Make room", transient=False)

    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage._replace(free=len(DATA)))
    transfer().download(Links(store), target)


CHILD = """
import resource, sys
from pathlib import Path
from airflow_provider_cloudhpc.api.errors import CloudHPCTransferError
from airflow_provider_cloudhpc.api.transfer.sources import FileSource
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer
way, url, path, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    if way == "down":
        Transfer().download(lambda: url, Path(path))
    else:
        Transfer().upload(lambda: url, FileSource(Path(path)))
except CloudHPCTransferError as error:
    print(error)
"""


def child(way: str, url: str, path: Path, limit: int = 0) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, way, url, path, str(limit)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("limit", [2 * MIB, len(DATA) - 10, len(DATA) - 1])
def test_a_full_disk_leaves_nothing(store: Store, target: Path, limit: int) -> None:
    """The last bytes are the trap: the system takes a part of them and calls that a success."""
    message = child("down", store.url, target, limit=limit)[0]

    assert "FDS.tar.gz' could not be written: File too large. Nothing of it was kept." in message
    assert left(target) == []
    assert len(store.seen) == 1, "a full disk is not tried again"


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_an_upload(store: Store, source: FileSource) -> None:
    links = Links(store)

    done = transfer().upload(links, source)

    seen = store.seen[0]
    assert (done.size, done.proven) == (len(DATA), True)
    assert seen.body == DATA
    assert seen.headers["content-type"] == "application/octet-stream"
    assert seen.headers["content-length"] == str(len(DATA))
    assert not {"transfer-encoding", "authorization", "x-api-key", "expect"} & set(seen.headers)
    assert links.given == len(store.seen) == 1


@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "one byte", "large"])
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_sizes_and_sources(store: Store, tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(data)

    done = transfer().upload(Links(store), BytesSource("f", data) if kind == "bytes" else FileSource(path))

    assert store.seen[0].body == data
    assert store.seen[0].headers["content-length"] == str(len(data))
    assert (done.size, done.proven) == (len(data), True)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Opening one waits for whoever writes to it; here somebody holds it open, so that only a test fails."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(CloudHPCValueError, match="it is no file"):
            check_source(pipe)
    finally:
        os.close(descriptor)


UPLOAD_FLAWS = {
    "reset at once": [Fault(cut=0)],
    "reset in the middle": [Fault(cut=MIB)],
    "end in the middle": [Fault(cut=2 * MIB, reset=False)],
    "reset before the answer": [Fault(cut=len(DATA) - 1)],
    "500": [Fault(status=500)],
    "503, 429": [Fault(status=503), Fault(status=429)],
    "expired": [Fault(status=403)],
    "expired, told before the body": [Fault(status=403, early=True)],
    "another byte is stored": [Fault(flip=5)],
    "wrong hash": [Fault(hashes=f"md5={md5(b'x')}")],
    "wrong length is stored": [Fault(hashes="", headers={"x-goog-stored-content-length": "5"})],
}


TLS_UPLOAD_FLAWS = [
    "reset at once",
    "reset in the middle",
    "end in the middle",
    "reset before the answer",
    "expired, told before the body",
]


@pytest.mark.parametrize(
    ("scheme", "name"), [*(("http", name) for name in UPLOAD_FLAWS), *(("https", name) for name in TLS_UPLOAD_FLAWS)]
)
def test_an_upload_is_sent_again_whole_with_a_new_link(
    served: Store, ca_bundle: Path, source: FileSource, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = served
    store.data = b""
    store.faults = list(UPLOAD_FLAWS[name])
    links = Links(store)

    done = transfer(read_timeout=2, ca_bundle=str(ca_bundle)).upload(links, source)

    assert store.data == DATA == store.seen[-1].body
    assert done.proven
    assert links.given == len(store.seen) == len(UPLOAD_FLAWS[name]) + 1
    assert caplog.text.count("Trying again") == len(UPLOAD_FLAWS[name])
    assert "5ecret" not in caplog.text


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (Fault(status=403, early=True), "refused the signed URL with HTTP 403"),
        (Fault(status=413, early=True), "HTTP 413"),
        (Fault(early=True, hashes=""), "answered before it had all bytes"),
        (Fault(cut=2 * MIB, reset=False), "closed without an answer|reset by peer"),
    ],
    ids=["403", "413", "200", "none"],
)
def test_who_closes_amid_an_upload_is_understood(
    served: Store, ca_bundle: Path, tmp_path: Path, fault: Fault, match: str
) -> None:
    """More than the sockets' buffers hold, so that the client still sends when the other side has gone."""
    path = tmp_path / "large"
    path.write_bytes(bytes(24 * MIB))
    served.default = fault

    fails(lambda: transfer(attempts=2, ca_bundle=str(ca_bundle)).upload(Links(served), FileSource(path)), match)


@pytest.mark.parametrize(
    ("fault", "match", "calls"),
    [
        (Fault(cut=MIB), "given up after 3 attempts", 3),
        (Fault(status=403), "given up after 3 attempts: .*HTTP 403", 3),
        (Fault(stall=MIB), "given up after 3 attempts", 3),
        (Fault(flip=7), "given up after 3 attempts: The store holds other bytes", 3),
        (Fault(status=413), "HTTP 413", 1),
        (Fault(status=307), "HTTP 307", 1),
    ],
)
def test_an_upload_that_never_works(store: Store, source: FileSource, fault: Fault, match: str, calls: int) -> None:
    store.default = fault

    fails(lambda: transfer(attempts=3, read_timeout=0.3).upload(Links(store), source), match)

    assert len(store.seen) == calls


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"short"),
        lambda path: path.open("ab").write(b"more"),
        lambda path: path.write_bytes(OTHER),
    ],
    ids=["shrinks", "grows", "changes"],
)
def test_a_file_that_changes_while_it_is_sent_is_an_error(
    store: Store, source: FileSource, change: Callable[[Path], object]
) -> None:
    os.utime(source.path, (1, 1))
    state = {"done": False}

    def progress(done: int, total: int | None) -> None:
        if not state["done"]:
            state["done"] = True
            change(source.path)

    fails(
        lambda: transfer(read_timeout=2).upload(Links(store), source, progress=progress),
        "changed while it was sent",
        transient=False,
    )


class Brittle:
    """A source on a storage whose connection breaks: ``good`` bytes are read, then it fails, ``times`` times."""

    name, size = "s3://bucket/upload.tar.gz", len(DATA)

    def stamp(self) -> None:
        """It is always the same."""

    def __init__(self, good: int, times: int) -> None:
        self.good, self.times = good, times

    def open(self) -> BinaryIO:
        self.times -= 1
        if self.times < 0:
            return io.BytesIO(DATA)
        if self.good < 0:
            raise LookupError("no route to bucket")

        class File(io.BytesIO):
            def read(file, size: int | None = -1, /) -> bytes:
                if file.tell() >= self.good:
                    raise LookupError("connection reset")
                return super().read(size)

        return File(DATA)


@pytest.mark.parametrize("good", [-1, 0, MIB])
def test_a_source_that_cannot_be_read_for_a_while(store: Store, good: int) -> None:
    links = Links(store)

    done = transfer(read_timeout=2).upload(links, Brittle(good, 2))

    assert done.proven
    assert store.data == DATA
    assert links.given == 3


def test_a_file_that_is_another_at_the_next_try_is_sent_whole(store: Store, source: FileSource) -> None:
    new = OTHER + OTHER
    store.faults = [Fault(cut=MIB)]

    def link() -> str:
        if store.seen:
            source.path.write_bytes(new)
        return store.url

    done = transfer(read_timeout=2).upload(link, source)

    assert (done.size, done.proven) == (len(new), True)
    assert store.data == new


def test_a_source_that_cannot_be_read_at_all(store: Store) -> None:
    fails(
        lambda: transfer(attempts=3, read_timeout=2).upload(Links(store), Brittle(MIB, 9)),
        "given up after 3 attempts: What is to be sent could not be read .LookupError: connection reset",
    )


def test_holds_says_whether_the_store_has_the_same(store: Store, source: FileSource) -> None:
    one = transfer()
    assert one.holds(store.url, source)
    assert not one.holds(store.url, BytesSource("x", OTHER))
    assert not one.holds(store.url, BytesSource("x", DATA[:-1]))
    for fault in (Fault(hashes=""), Fault(status=404), Fault(status=500), Fault(cut=0)):
        store.faults = [fault]
        assert not one.holds(store.url, source) or fault.cut == 0


# --- networks of companies --------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tls: ssl.SSLContext) -> Iterator[Store]:
    with running_store(tls) as running:
        running.data = DATA
        yield running


def _corked(store: Store) -> bool:
    """Say whether the client's connection to a store holds back segments that are not full."""
    port = urlsplit(store.url).port
    (connection,) = (
        found
        for found in gc.get_objects()
        if isinstance(found, ssl.SSLSocket)
        and not found.server_side
        and found.fileno() >= 0
        and found.getpeername()[1] == port
    )
    return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="only Linux holds back segments that are not full")
def test_tls_records_share_segments_until_the_end(secure: Store, ca_bundle: Path, source: FileSource) -> None:
    """A segment for each of TLS's records would be one for each 16 KiB; the last one must not wait for more."""
    states: list[bool] = []

    def until_released() -> None:
        deadline = time.monotonic() + 10
        while _corked(secure) and time.monotonic() < deadline:
            time.sleep(0.01)
        states.append(_corked(secure))

    secure.faults = [Fault(taken=until_released)]

    transfer(ca_bundle=str(ca_bundle)).upload(
        Links(secure), source, progress=lambda done, total: states.append(_corked(secure))
    )

    assert (states[0], set(states[1:-1]), states[-1]) == (False, {True}, False)


def test_a_private_authority(secure: Store, ca_bundle: Path, target: Path, source: FileSource) -> None:
    one = transfer(ca_bundle=str(ca_bundle))
    secure.faults = [Fault(cut=MIB, reset=False)]

    one.download(Links(secure), target)
    one.upload(Links(secure), source)

    assert target.read_bytes() == DATA


def test_an_unknown_authority_is_told_at_once(secure: Store, target: Path) -> None:
    fails(lambda: transfer().download(Links(secure), target), "TLS certificate .* CA bundle", transient=False)

    assert secure.seen == []


@pytest.mark.parametrize("where", ["connection", "environment"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy(
    store: Store, secure: Store, ca_bundle: Path, target: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch,
    scheme: str, where: str,
) -> None:  # fmt: skip
    used = secure if scheme == "https" else store
    with running_proxy() as (address, passed):
        if where == "environment":
            monkeypatch.setenv(f"{scheme.upper()}_PROXY", address)
            monkeypatch.setenv(f"{scheme}_proxy", address)
            one = transfer(ca_bundle=str(ca_bundle))
        else:
            one = transfer(ca_bundle=str(ca_bundle), proxies={scheme: address})

        one.download(Links(used), target)
        one.upload(Links(used), source)

    assert target.read_bytes() == DATA
    assert used.seen[-1].body == DATA
    assert used.seen[0].path.startswith("/bucket/case%20%C3%A4%25/~FDS.tar.gz?")
    assert len(passed) == 2, "both ways went through it"


PASSWORD = "p@ss:w/%"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_with_a_password(served: Store, ca_bundle: Path, target: Path, source: FileSource, scheme: str) -> None:
    with running_proxy(Moods(credentials=f"me:{PASSWORD}")) as (address, passed):
        known = address.replace("//", f"//me:{quote(PASSWORD, safe='')}@")
        one = transfer(ca_bundle=str(ca_bundle), proxies={scheme: known})
        one.download(Links(served), target)
        one.upload(Links(served), source)

    assert target.read_bytes() == served.seen[-1].body == DATA
    assert len(passed) == 2
    assert not [seen for seen in served.seen if "proxy-authorization" in seen.headers], "it is the proxy's alone"


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_another_password(
    served: Store, ca_bundle: Path, target: Path, source: FileSource, scheme: str, way: str
) -> None:
    with running_proxy(Moods(credentials="me:secret")) as (address, _):
        known = address.replace("//", "//me:wr0ng@")
        one = transfer(ca_bundle=str(ca_bundle), proxies={scheme: known}, attempts=2)
        error = fails(
            lambda: one.download(Links(served), target) if way == "down" else one.upload(Links(served), source),
            "The proxy .*HTTP 407.* user name and password",
            transient=False,
        )

    assert "wr0ng" not in str(error)
    assert served.seen == []
    assert left(target) == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_flaky_proxy(served: Store, ca_bundle: Path, target: Path, source: FileSource, scheme: str) -> None:
    with running_proxy(Moods(refusals=[502, 503], cuts=[1000, MIB, 2 * MIB])) as (address, _):
        one = transfer(ca_bundle=str(ca_bundle), proxies={scheme: address}, attempts=6, read_timeout=2)
        one.download(Links(served), target)
        one.upload(Links(served), source)

    assert target.read_bytes() == served.data == DATA
    assert [seen.range is not None for seen in served.seen if seen.method == "GET"][-1], "it went on where it broke"


def test_a_netrc_is_not_sent_to_the_store(
    store: Store, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))

    transfer().download(Links(store), target)

    assert "authorization" not in store.seen[0].headers


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_log_has_a_line_with_totals_and_no_secrets(
    store: Store, target: Path, source: FileSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    transfer().download(Links(store), target)
    transfer().upload(Links(store), source)

    assert "Downloaded FDS.tar.gz: 3.1 MB in " in caplog.text
    assert f"Uploaded {source.path}: 3.1 MB in " in caplog.text
    assert "the store's hash is the same" in caplog.text
    assert "5ecret" not in caplog.text


def test_progress_goes_on_where_it_was(store: Store, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    store.faults = [Fault(cut=MIB, reset=False)]

    transfer().download(Links(store), target, progress=lambda done, total: seen.append((done, total)))

    assert seen == sorted(seen)
    assert (MIB, len(DATA)) in seen
    assert seen[-1] == (len(DATA), len(DATA))


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["up", "down"])
def test_memory_does_not_grow_with_the_size(tmp_path: Path, way: str) -> None:
    """Up: the store throws away what it reads. Down: it sends zeros that it does not have."""
    peaks = {}
    for size in (10 * MIB, 2048 * MIB):
        path = tmp_path / f"{way}-{size}"
        if way == "up":
            path.touch()
            os.truncate(path, size)
        with running_zeros(size) as url:
            peaks[size] = peak_memory(CHILD, way, url, path, "0")
        assert path.stat().st_size == size
        path.unlink()

    assert peaks[2048 * MIB] - peaks[10 * MIB] < 16 * 1024, peaks
