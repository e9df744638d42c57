# SPDX-License-Identifier: Apache-2.0
"""From the storage to the machine: which files of a folder reach the solver, and what is said of those that do not."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.workdir import UNPACKERS
from tests.integration.emulator.conftest import Api

COMPLETED, ERROR = 10, 60
SCRIPT = b"echo here: $(cat data/part.txt)\n"
CASE = {"run.sh": SCRIPT, "data/part.txt": b"the part"}
needs_bsdtar = pytest.mark.skipif(
    shutil.which("bsdtar") is None, reason="bsdtar is not installed (Debian: libarchive-tools)"
)


def tar(files: dict[str, bytes], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def by_bsdtar(files: dict[str, bytes]) -> bytes:
    return subprocess.run(
        ["bsdtar", "--format", "7zip", "-cf", "-", "@-"], input=tar(files, "w"), capture_output=True, check=True
    ).stdout


def rar(files: dict[str, bytes]) -> bytes:
    """A RAR 5 archive of files that are stored, not packed: no free program makes one."""

    def number(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    def block(kind: int, flags: int, rest: bytes, data: bytes = b"") -> bytes:
        size = number(len(data)) if flags & 2 else b""
        header = number(kind) + number(flags) + size + rest
        header = number(len(header)) + header
        return struct.pack("<I", zlib.crc32(header)) + header + data

    out = b"Rar!\x1a\x07\x01\x00" + block(1, 0, number(0))
    for name, content in files.items():
        # Flags: a checksum is there; size, attributes, checksum, stored, made on Unix, name.
        rest = [number(4), number(len(content)), number(0o100644), struct.pack("<I", zlib.crc32(content)), number(0)]
        out += block(2, 2, b"".join([*rest, number(1), number(len(name)), name.encode()]), content)
    return out + block(5, 0, number(0))


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "tar.gz": lambda files: tar(files, "w:gz"),
    "tgz": lambda files: tar(files, "w:gz"),
    "tar.xz": lambda files: tar(files, "w:xz"),
    "xz": lambda files: tar(files, "w:xz"),
    "zip": zipped,
    "7z": by_bsdtar,
    "rar": rar,
}
KINDS = [pytest.param(name, marks=[needs_bsdtar] if name in ("7z", "rar") else []) for name in PACKERS]


def run(emulator: CloudHPCEmulator, api: Api, files: dict[str, bytes], **launch: Any) -> dict[str, Any]:
    """The record of a launch of ``case``, once it has ended."""
    for name, content in files.items():
        emulator.control.file(name, content)
    id_ = api.launch(script="custom-script", **launch)
    emulator.control.jump(1)
    give_up = time.monotonic() + 20
    while (record := api.get(f"/simulation/view/{id_}"))["status"] in (20, 30):
        assert time.monotonic() < give_up, record
        time.sleep(0.02)
    return dict(record)


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_inside_of_an_archive_in_its_folder(emulator: CloudHPCEmulator, api: Api, kind: str) -> None:
    record = run(emulator, api, {f"case/upload.{kind}": PACKERS[kind](CASE)})
    assert (record["status"], "here: the part" in record["output"]) == (COMPLETED, True), record["output"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_in_the_root_named_like_the_folder_it_holds(emulator: CloudHPCEmulator, api: Api, kind: str) -> None:
    packed = PACKERS[kind]({f"case/{name}": content for name, content in CASE.items()} | {"other/x.sh": b""})
    record = run(emulator, api, {f"case.{kind}": packed})
    assert (record["status"], "here: the part" in record["output"]) == (COMPLETED, True), record["output"]
    assert emulator.ledger.violations == []
    assert "case/CUSTOM-SCRIPT.tar.gz" in emulator.control.files()  # where the results go
    assert run(emulator, api, {})["status"] == COMPLETED  # and again, though there is such a folder now


def test_an_archive_in_the_root_that_does_not_hold_its_folder(emulator: CloudHPCEmulator, api: Api) -> None:
    record = run(emulator, api, {"case.zip": zipped(CASE)})
    assert record["status"] == ERROR
    assert "@@@ ERROR: Not found folder case inside of compressed file case.zip" in record["output"]


def test_a_single_file_packed_by_xz(emulator: CloudHPCEmulator, api: Api) -> None:
    record = run(emulator, api, {"case/run.sh": b"cat mesh.dat\n", "case/mesh.dat.xz": lzma.compress(b"nodes")})
    assert (record["status"], "nodes" in record["output"]) == (COMPLETED, True)


def claiming(kind: bytes, size: int) -> bytes:
    """A packed tar archive whose one member says that it is this long, and is not."""
    member = tarfile.TarInfo("a")
    member.type, member.size = kind, size
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))


@pytest.mark.parametrize(
    ("kind", "size", "why"),
    [
        (tarfile.REGTYPE, 10**15, "the archive holds too much"),
        # Python would take these into memory.
        (tarfile.XHDTYPE, 10**10, "a header of the archive is too long"),
        (tarfile.GNUTYPE_LONGNAME, 10**10, "a header of the archive is too long"),
    ],
)
def test_a_bomb_is_not_unpacked(emulator: CloudHPCEmulator, api: Api, kind: bytes, size: int, why: str) -> None:
    record = run(emulator, api, {"case/a.tar.gz": claiming(kind, size)})
    assert (record["status"], why in record["output"]) == (ERROR, True), record["output"]


def broken(content: bytes) -> bytes:
    """Some bytes in the middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 40]) + content[middle + 40 :]


LARGE = {"run.sh": b"echo must not run\n", "data": os.urandom(100_000)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip", broken(zipped(LARGE))),
        ("a.zip", b"no archive"),
        ("a.tar.gz", broken(tar(LARGE, "w:gz"))),
        ("a.tar.gz", tar(LARGE, "w:gz")[:60_000]),
        ("a.tar.gz", tar(LARGE, "w:gz")[:-5]),
        ("a.tar", broken(tar(LARGE, "w"))[:60_000]),
        ("a.xz", lzma.compress(LARGE["data"])[:5000]),
        ("a.tar.gz", tar({"../../outside": b"x"}, "w:gz")),
        pytest.param("a.7z", b"7z\xbc\xaf\x27\x1c broken", marks=needs_bsdtar),
        pytest.param("a.rar", rar(LARGE)[:50_000], marks=needs_bsdtar),
        pytest.param("a.rar", rar({"../../outside": b"x"}), marks=needs_bsdtar),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_archive_is_told_and_nothing_is_run(
    emulator: CloudHPCEmulator, api: Api, name: str, content: bytes
) -> None:
    record = run(emulator, api, {f"case/{name}": content})
    assert record["status"] == ERROR
    assert f"@@@ ERROR: {name} not recognized as an available compressed format" in record["output"]
    assert "must not run" not in record["output"]


def test_an_archive_that_this_machine_cannot_unpack(
    emulator: CloudHPCEmulator, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    record = run(emulator, api, {"case/a.rar": rar(CASE)})
    assert (record["status"], "it has no bsdtar (Debian: libarchive-tools)" in record["output"]) == (ERROR, True)


def test_subfolders_travel_in_archives_alone(emulator: CloudHPCEmulator, api: Api) -> None:
    record = run(emulator, api, {"case/run.sh": b"ls -d */ || echo no folders\n", "case/data/part.txt": b"x"})
    assert "@@@ WARNING: subfolders only travel inside of an archive, left out: data" in record["output"]
    assert "no folders" in record["output"]


def test_results_of_an_earlier_run_are_no_input(emulator: CloudHPCEmulator, api: Api) -> None:
    old = tar({"old.sh": b"echo must not run\n"}, "w:gz")
    record = run(emulator, api, {"case/run.sh": b"ls\n", "case/CUSTOM-SCRIPT.tar.gz": old})
    assert (record["status"], "must not run" in record["output"]) == (COMPLETED, False)


def test_a_folder_that_is_gone_when_the_machine_comes(emulator: CloudHPCEmulator, api: Api) -> None:
    emulator.control.file("case/run.sh", "echo must not run")
    id_ = api.launch(script="custom-script")
    api.ask("DELETE", f"/storage/delete/{api.ask('POST', '/storage/view-by-path', {'path': 'case'})['id']}")
    emulator.control.jump(1)
    emulator.control.jump(0)
    record = api.get(f"/simulation/view/{id_}")
    assert (record["status"], record["output"]) == (ERROR, "@@@ ERROR: FOLDER case not detected\n")


def test_a_machine_that_cannot_be_set_up(emulator: CloudHPCEmulator, api: Api) -> None:
    """A disk that is full, say: the simulation ends, and is not said to be running for ever."""
    emulator.control.file("case/run.sh", "echo must not run")
    world = emulator._world
    (path,) = [node.blob.path for node in world.storage("default").root.files() if node.blob]
    path.unlink()
    id_ = api.launch(script="custom-script")
    emulator.control.jump(1)
    emulator.control.jump(0)
    record = api.get(f"/simulation/view/{id_}")
    assert (record["status"], "the machine could not be set up: FileNotFoundError" in record["output"]) == (ERROR, True)


def test_every_ending_that_is_taken_for_an_archive_is_tried() -> None:
    assert {f".{kind}" for kind in PACKERS} | {".tar.bz2", ".tar"} == set(UNPACKERS)
