# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.archive import codec, unpack
from airflow_provider_cloudhpc.api.archive.unpack import UnpackLimits, unpack_archive
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCValueError
from tests.memory import peak_memory

MIB = 1 << 20


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def folder(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=0o755, **fields)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def tar_bytes(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Place:
    """A folder with an archive in it, and a second folder that nothing may touch."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.work = base / "work"
        self.work.mkdir()
        self.archive = self.work / "results.tar.gz"
        self.out = self.work / "out"

    def unpack(self, members: Iterable[tuple[tarfile.TarInfo, bytes]] | bytes, **limits: Any) -> unpack.UnpackedArchive:
        data = members if isinstance(members, bytes) else gzip.compress(tar_bytes(members))
        self.archive.write_bytes(data)
        return unpack_archive(self.archive, self.out, limits=UnpackLimits(**limits))

    def refuses(self, members: Iterable[tuple[tarfile.TarInfo, bytes]] | bytes, match: str, **limits: Any) -> str:
        with pytest.raises(CloudHPCArchiveError, match=match) as caught:
            self.unpack(members, **limits)
        assert sorted(p.name for p in self.base.rglob("*")) == ["results.tar.gz", "work"], "something was left behind"
        assert caught.value.__cause__ is None
        message = str(caught.value)
        assert "results.tar.gz" in message
        assert message.endswith("Nothing of it was kept.") or "nothing was written" in message
        return message


@pytest.fixture(params=["igzip", "zlib"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "zlib":
        monkeypatch.setattr(codec, "igzip_threaded", None)
    else:
        pytest.importorskip("isal")
    return Place(tmp_path)


GOOD = [folder("0"), member("0/U", b"field", mtime=1_600_000_000), member("Allrun", b"#!/bin/sh", mode=0o755)]


# --- honest archives --------------------------------------------------------------------------------------------------


def test_a_good_archive(place: Place) -> None:
    done = place.unpack(GOOD)

    assert (done.path, done.members, done.content_size) == (place.out, 3, 14)
    assert (place.out / "0" / "U").read_bytes() == b"field"
    assert (place.out / "0" / "U").stat().st_mtime == 1_600_000_000
    assert stat.S_IMODE((place.out / "Allrun").stat().st_mode) == 0o755
    assert {p.name for p in place.work.iterdir()} == {"results.tar.gz", "out"}


def test_a_plain_tar(place: Place) -> None:
    place.unpack(tar_bytes(GOOD))

    assert (place.out / "0" / "U").read_bytes() == b"field"


@pytest.mark.parametrize("dialect", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_what_gnu_tar_packs(place: Place, dialect: str) -> None:
    case = place.base / "case"
    (case / "long").mkdir(parents=True)
    (case / "run.sh").write_text("#!/bin/sh")
    (case / "run.sh").chmod(0o755)
    (case / "copy.sh").hardlink_to(case / "run.sh")
    (case / "link").symlink_to("long")
    sparse = [] if dialect in ("ustar", "v7") else ["--sparse"]
    if sparse:
        (case / "long" / ("n" * 200)).write_bytes(b"x" * 1000)
        with (case / "sparse").open("wb") as file:
            file.truncate(3 * MIB)
            file.seek(MIB)
            file.write(b"island")
    subprocess.run(["tar", "-czf", place.archive, f"--format={dialect}", *sparse, "-C", case, "."], check=True)

    unpack_archive(place.archive, place.out)

    assert not subprocess.run(["diff", "-r", "--no-dereference", case, place.out], check=False).returncode
    assert stat.S_IMODE((place.out / "copy.sh").stat().st_mode) == 0o755


def test_many_members_of_one_gzip(place: Place) -> None:
    whole = tar_bytes([member("a", os.urandom(1000))])

    place.unpack(b"".join(gzip.compress(whole[i : i + 700]) for i in range(0, len(whole), 700)))

    assert (place.out / "a").stat().st_size == 1000


def test_a_folder_may_be_named_twice_and_dots_mean_nothing(place: Place) -> None:
    done = place.unpack([folder("./"), folder("./a/"), member("./a/b", b"1"), folder("a"), member(".//c//d", b"2")])

    assert sorted(str(p.relative_to(place.out)) for p in place.out.rglob("*")) == ["a", "a/b", "c", "c/d"]
    assert done.content_size == 2


def test_links_that_stay_inside(place: Place) -> None:
    place.unpack(
        [
            symlink("d/e/up", "../.."),
            symlink("through", "d/e/up/file"),
            symlink("later", "d/file"),
            symlink("dangling", "d/nothing"),
            member("file", b"1"),
            member("d/file", b"2"),
            hardlink("hard", "d/file"),
        ]
    )

    assert (place.out / "through").read_bytes() == b"1"
    assert (place.out / "later").read_bytes() == b"2"
    assert (place.out / "hard").read_bytes() == b"2"
    assert str((place.out / "dangling").readlink()) == "d/nothing"


def test_owners_and_dangerous_bits_are_not_taken_over(place: Place) -> None:
    place.unpack([member("a", b"1", mode=0o6777, uid=12345, gid=12345, uname="nobody")])

    info = (place.out / "a").stat()
    assert stat.S_IMODE(info.st_mode) == 0o755
    assert info.st_uid == os.geteuid()


def test_an_empty_archive_is_an_empty_folder(place: Place) -> None:
    assert place.unpack([]).members == 0
    assert list(place.out.iterdir()) == []


def test_the_folder_gets_the_usual_permissions(place: Place) -> None:
    (place.work / "reference").mkdir()
    place.unpack(GOOD)

    assert place.out.stat().st_mode == (place.work / "reference").stat().st_mode


def test_case_collisions_may_be_allowed(place: Place) -> None:
    place.unpack([member("U", b"1"), member("u", b"2")], allow_case_collisions=True)

    assert {p.name for p in place.out.iterdir()} == {"U", "u"}


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_an_empty_folder_may_be_there(place: Place) -> None:
    place.out.mkdir()
    place.unpack(GOOD)

    assert (place.out / "0" / "U").exists()
    assert {p.name for p in place.work.iterdir()} == {"results.tar.gz", "out"}


def test_a_full_folder_is_not_touched_unless_it_is_to_be_replaced(place: Place) -> None:
    place.out.mkdir()
    (place.out / "yesterday").write_text("x")

    with pytest.raises(CloudHPCValueError, match="not empty"):
        place.unpack(GOOD)
    assert [p.name for p in place.out.iterdir()] == ["yesterday"]

    unpack_archive(place.archive, place.out, replace=True)
    assert {p.name for p in place.out.iterdir()} == {"0", "Allrun"}
    assert {p.name for p in place.work.iterdir()} == {"results.tar.gz", "out"}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_that_came_meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch, replace: bool, times: int) -> None:
    """Another task unpacks to the same folder: each time that ours is to get its name, theirs was quicker."""
    place.archive.write_bytes(gzip.compress(tar_bytes(GOOD)))
    rename, left = Path.rename, iter(range(times))

    def slow(path: Path, target: Path) -> Path:
        if target == place.out and next(left, None) is not None:
            place.out.mkdir(exist_ok=True)
            (place.out / "theirs").write_text("x")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", slow)
    if replace:
        unpack_archive(place.archive, place.out, replace=True)
        assert {p.name for p in place.out.iterdir()} == {"0", "Allrun"}
    else:
        with pytest.raises(CloudHPCArchiveError, match="not empty"):
            unpack_archive(place.archive, place.out)
        assert [p.name for p in place.out.iterdir()] == ["theirs"]
    assert {p.name for p in place.work.iterdir()} == {"results.tar.gz", "out"}


def test_a_folder_to_be_replaced_stays_if_the_archive_is_refused(place: Place) -> None:
    place.out.mkdir()
    (place.out / "yesterday").write_text("x")
    place.archive.write_bytes(gzip.compress(tar_bytes(GOOD))[:-1])

    with pytest.raises(CloudHPCArchiveError):
        unpack_archive(place.archive, place.out, replace=True)

    assert [p.name for p in place.out.iterdir()] == ["yesterday"]
    assert {p.name for p in place.work.iterdir()} == {"results.tar.gz", "out"}


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_link_in_the_way_is_not_touched(place: Place, kind: str, replace: bool) -> None:
    place.archive.write_bytes(gzip.compress(tar_bytes(GOOD)))
    (place.base / "elsewhere").mkdir()
    if kind == "file":
        place.out.write_text("x")
    else:
        place.out.symlink_to(place.base / "elsewhere")

    with pytest.raises(CloudHPCValueError, match="file or link"):
        unpack_archive(place.archive, place.out, replace=replace)

    assert list((place.base / "elsewhere").iterdir()) == []


def test_no_archive(place: Place) -> None:
    with pytest.raises(CloudHPCValueError, match="no archive"):
        unpack_archive(place.archive, place.out)


# --- hostile archives -------------------------------------------------------------------------------------------------

DEEP = "/".join(["d" * 200] * 30)

HOSTILE: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "absolute name": ([member("/tmp/evil", b"x")], "'/tmp/evil': it has an absolute name"),
    "doubled absolute name": ([member("//tmp/evil", b"x")], "absolute"),
    "goes up": ([member("../evil", b"x")], r"'../evil': its name goes up"),
    "goes up inside": ([member("a/../../evil", b"x")], "goes up"),
    "goes up and comes back": ([member("a/../b", b"x")], "goes up"),
    "a file that is the folder itself": ([member(".", b"x")], "stands for the folder itself"),
    "absolute link": ([symlink("link", "/etc/passwd")], "'link': it is a link to an absolute"),
    "link that goes up": ([symlink("a/link", "../../evil")], "'a/link': it is a link that leaves"),
    "link through a link": ([symlink("d/e/a", "../.."), symlink("b", "d/e/a/../x")], "'b': it is a link that leaves"),
    "link through a later link": (
        [symlink("b", "d/e/a/../x"), symlink("d/e/a", "../.."), folder("d/e")],
        "'b': it is a link that leaves",
    ),
    "file through a link": ([symlink("a", "."), member("a/evil", b"x")], r"'a/evil': 'a' is in it twice"),
    "file in place of a link": ([symlink("a", "b"), member("a", b"x")], "'a' is in it twice"),
    "folder in place of a link": ([symlink("a", "b"), folder("a")], "'a' is in it twice"),
    "links in a circle": ([symlink("a", "b"), symlink("b", "a")], "circle"),
    "overlong link": ([symlink("a", "b/" * 3000)], "overlong"),
    "paths too long for the system": (
        [folder(DEEP), symlink(f"{DEEP}/l", "../" * 30), symlink("escape", f"{DEEP}/l/../../evil")],
        "File name too long",
    ),
    "hard link to the outside": ([hardlink("a", "../evil")], "'a': '../evil' goes up"),
    "absolute hard link": ([hardlink("a", "/etc/passwd")], "'/etc/passwd' is an absolute name"),
    "hard link to a link": ([symlink("a", "b"), hardlink("c", "a")], "'c': it is a hard link to 'a'"),
    "hard link to a later file": ([hardlink("c", "a"), member("a", b"x")], "'c': it is a hard link to 'a'"),
    "hard link to a folder": ([folder("a"), hardlink("c", "a")], "'c': it is a hard link to 'a'"),
    "hard link to a file of another case": ([member("a", b"x"), hardlink("c", "A")], "'c': it is a hard link to 'A'"),
    "hard link to itself": ([hardlink("c", "c")], "'c': it is a hard link to 'c'"),
    "pipe": ([member("p", type=tarfile.FIFOTYPE)], "'p': it is a device, a pipe"),
    "character device": ([member("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "'c': it is a device"),
    "block device": ([member("b", type=tarfile.BLKTYPE, devmajor=7)], "'b': it is a device"),
    "unknown kind": ([member("u", type=b"Z")], "'u': it is a device, a pipe or of an unknown kind"),
    "duplicate name": ([member("a", b"1"), member("a", b"2")], "'a' is in it twice"),
    "duplicate name in disguise": ([member("a/b", b"1"), member("./a//b", b"2")], "'a/b' is in it twice"),
    "duplicate link": ([symlink("a", "x"), symlink("a", "y")], "'a' is in it twice"),
    "file beneath a file": ([member("a", b"1"), member("a/b", b"2")], "'a' is in it twice"),
    "file in place of a folder": ([member("a/b", b"1"), member("a", b"2")], "'a' is in it twice"),
    "case collision": ([member("Makefile", b"1"), member("makefile", b"2")], "differ in case only"),
    "case collision of folders": ([member("A/x", b"1"), member("a/y", b"2")], "'a' and 'A' differ in case only"),
    "case collision beyond ASCII": ([member("STRASSE"), member("straße")], "differ in case only"),
    "case collision of composed letters": ([member("\u00e9"), member("e\u0301")], "differ in case only"),
    "name too long": ([member("n" * 300, b"x")], "File name too long"),
    "time beyond all bounds": ([member("a", b"x", mtime=2**80)], "'a'"),
    "time that is no number": ([member("a", b"x", pax_headers={"mtime": "nan"})], "'a'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members(place: Place, name: str) -> None:
    members, match = HOSTILE[name]

    place.refuses([member("first", b"fine"), *members], match)


@pytest.mark.parametrize("how", ["data", "link", "both"])
def test_nothing_is_ever_written_outside_even_for_a_moment(place: Place, how: str) -> None:
    """A bystander's folder that every trick aims at has the same inode times afterwards."""
    bystander = place.base / "bystander"
    bystander.mkdir()
    before = bystander.stat().st_mtime_ns, bystander.stat().st_ctime_ns
    tricks = {
        "data": [member(f"../../{bystander.name}/evil", b"x")],
        "link": [symlink("l", str(bystander)), member("l/evil", b"x")],
        "both": [symlink("l", "../../bystander"), member("l/evil", b"x"), hardlink("h", "l/evil")],
    }
    place.archive.write_bytes(gzip.compress(tar_bytes(tricks[how])))

    with pytest.raises(CloudHPCArchiveError):
        unpack_archive(place.archive, place.out)

    assert (bystander.stat().st_mtime_ns, bystander.stat().st_ctime_ns) == before
    assert not place.out.exists()


# --- bombs ------------------------------------------------------------------------------------------------------------

_JUDGE = """
import io, sys, tarfile
from airflow_provider_cloudhpc.api.archive.judge import Judge, UnpackLimits

class Tar:
    members = []
    def __init__(self, names): self.names = iter(names)
    def next(self):
        name = next(self.names, None)
        return None if name is None else tarfile.TarInfo(name)

for _ in Judge("x", UnpackLimits(), 0).members(Tar(eval(sys.argv[1]))): pass
"""


def test_too_many_members(place: Place) -> None:
    place.refuses([member(f"f{i}") for i in range(11)], "'f10': it holds more than 10 members", max_members=10)


def test_folders_that_only_names_lead_through_count(place: Place) -> None:
    """A few kilobytes could ask for millions of them."""
    place.refuses([member(f"{i}/{'a/' * 500}f") for i in range(3)], "^.*'1/a/.* more than 999 members", max_members=999)


def test_deep_names_take_no_memory() -> None:
    """No extraction, which such depth makes slow: 200 members that share nothing, each through 900 folders."""

    def peak(names: str) -> int:
        return peak_memory(_JUDGE, names)

    shallow = peak("[f'{i}/{j}' for i in range(200) for j in range(900)]")
    deep = peak("[f'{i}/' + 'abc/' * 900 + 'f' for i in range(200)]")

    assert deep < 2 * shallow


def test_too_many_bytes(place: Place) -> None:
    place.refuses([member("a", bytes(600)), member("b", bytes(600))], "'b': .*max_total_bytes", max_total_bytes=1000)


def test_too_good_a_ratio(place: Place) -> None:
    place.refuses(
        [member("zeros", bytes(20 * MIB))], "'zeros': .* looks like a bomb .*max_ratio", max_ratio=100, ratio_floor=MIB
    )
    place.unpack([member("zeros", bytes(20 * MIB))], max_ratio=100, ratio_floor=21 * MIB)


def test_a_sparse_file_counts_with_its_holes(place: Place) -> None:
    file = place.base / "sparse"
    file.touch()
    os.truncate(file, 1 << 42)
    packed = subprocess.run(["tar", "-czSf", "-", "-C", place.base, "sparse"], check=True, capture_output=True).stdout
    file.unlink()

    place.refuses(packed, "'sparse': .* looks like a bomb")


def test_padding_behind_the_end_counts(place: Place) -> None:
    place.refuses(gzip.compress(tar_bytes(GOOD) + bytes(30 * MIB)), "looks like a bomb", max_total_bytes=10 * MIB)


def test_a_huge_header_is_not_read_into_memory(place: Place) -> None:
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 50 * MIB

    place.refuses(gzip.compress(head.tobuf() + b"n" * (50 * MIB) + bytes(1024)), "absurd")


def test_a_negative_size_is_refused(place: Place) -> None:
    head = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" * 11 + b"\x00"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)

    place.refuses(gzip.compress(bytes(head) + bytes(1024)), "absurd")


def test_a_chain_of_long_names_is_refused(place: Place) -> None:
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 2

    place.refuses(gzip.compress((head.tobuf() + b"n\0" + bytes(510)) * 5000 + bytes(1024)), "refused")


# --- damaged archives -------------------------------------------------------------------------------------------------

NOISE = [member(f"f{i}", os.urandom(3000)) for i in range(20)]


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 100, 5000, 20_000, 50_000])
def test_a_gzip_that_is_cut_off(place: Place, cut: int) -> None:
    place.refuses(gzip.compress(tar_bytes(NOISE))[:-cut], "damaged or cut off")


def test_a_gzip_with_the_wrong_checksum(place: Place) -> None:
    data = bytearray(gzip.compress(tar_bytes(NOISE)))
    data[-8] ^= 1

    place.refuses(bytes(data), "damaged")


def test_a_gzip_with_the_wrong_length(place: Place) -> None:
    data = bytearray(gzip.compress(tar_bytes(NOISE)))
    data[-4] ^= 1

    place.refuses(bytes(data), "damaged")


def test_something_behind_the_gzip(place: Place) -> None:
    place.refuses(gzip.compress(tar_bytes(NOISE)) + b"garbage" * 100, "damaged")


@pytest.mark.parametrize("at", [512 * 5, 512 * 7 + 100, 512 * 30 + 7])
def test_a_flipped_bit(place: Place, at: int) -> None:
    data = bytearray(gzip.compress(tar_bytes(NOISE)))
    data[at] ^= 0x10

    place.refuses(bytes(data), "refused")


@pytest.mark.parametrize("keep", [512 * 8, 512 * 8 + 1, 512 * 9 - 1, 512 * 9, 512 * 10 + 100, 512 * 7])
def test_a_tar_that_is_cut_off(place: Place, keep: int) -> None:
    """Each member is a header and six blocks; the cut is at, in and behind a header, and in the data."""
    place.refuses(gzip.compress(tar_bytes(NOISE)[:keep]), "damaged or cut off")
    place.refuses(tar_bytes(NOISE)[:keep], "damaged or cut off")


def test_a_damaged_header_in_the_middle_is_not_the_end(place: Place) -> None:
    data = bytearray(tar_bytes(NOISE))
    data[512 * 7 + 5] ^= 1

    place.refuses(gzip.compress(bytes(data)), "header is damaged")


def test_two_archives_in_one_file_are_not_read_as_the_first(place: Place) -> None:
    place.refuses(gzip.compress(tar_bytes(GOOD)) + gzip.compress(tar_bytes(NOISE)), "behind its end")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04" + bytes(1000), "a zip file"),
        (b"\xfd7zXZ\0" + bytes(1000), "an xz file"),
        (b"BZh9" + bytes(1000), "a bzip2 file"),
        (b"", "no .tar.gz and no .tar"),
        (b"<html>Sign in</html>", "no .tar.gz and no .tar"),
        (gzip.compress(b"just a log\n" * 100), "refused"),
        (gzip.compress(b""), "refused"),
    ],
)
def test_what_is_no_tar_at_all(place: Place, content: bytes, kind: str) -> None:
    place.refuses(content, kind)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 255)), min_size=1, max_size=4), st.booleans())
def test_any_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], packed: bool
) -> None:
    """In a gzip every damage is found by its checksum; in a bare tar the content's may not be, but nothing leaks."""
    place = Place(tmp_path_factory.mktemp("damage"))
    whole = tar_bytes([*GOOD, symlink("l", "0/U"), hardlink("h", "0/U"), member("ü" * 90, b"pax")])
    data = bytearray(gzip.compress(whole) if packed else whole)
    for at, mask in flips:
        data[at % len(data)] ^= mask
    place.archive.write_bytes(bytes(data))

    try:
        unpack_archive(place.archive, place.out)
    except CloudHPCArchiveError:
        assert {p.name for p in place.base.rglob("*")} == {"work", "results.tar.gz"}
    else:
        assert {p.name for p in place.work.iterdir()} == {"results.tar.gz", "out"}
        assert {p.name for p in place.base.iterdir()} == {"work"}
        for path in place.out.rglob("*"):
            assert path.resolve().is_relative_to(place.out)


# --- space and interruption -------------------------------------------------------------------------------------------

FULL_DISK = """
import resource, sys
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError
from airflow_provider_cloudhpc.api.archive.unpack import unpack_archive
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
try:
    unpack_archive(sys.argv[1], sys.argv[2])
except CloudHPCArchiveError as error:
    print(error)
"""


def test_a_full_disk_leaves_nothing(place: Place) -> None:
    place.archive.write_bytes(gzip.compress(tar_bytes([member("a", b"1"), member("big", os.urandom(5 * MIB))])))

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, place.archive, place.out], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert "'big': it could not be unpacked: File too large" in done.stdout
    assert {p.name for p in place.work.iterdir()} == {"results.tar.gz"}


def test_too_little_space_is_found_before_anything_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with a byte too little free."""
    size = len(tar_bytes(GOOD))
    usage = shutil.disk_usage(place.work)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: usage._replace(free=size - 1))
    place.refuses(GOOD, "needs at least")

    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: usage._replace(free=size))
    place.unpack(GOOD)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing(place: Place, exception: type[BaseException]) -> None:
    place.archive.write_bytes(gzip.compress(tar_bytes(NOISE)))

    def progress(done: int, total: int | None) -> None:
        raise exception

    with pytest.raises(exception):
        unpack_archive(place.archive, place.out, progress=progress)

    assert {p.name for p in place.work.iterdir()} == {"results.tar.gz"}


def test_progress_ends_at_the_archives_size(place: Place) -> None:
    seen: list[tuple[int, int | None]] = []
    place.archive.write_bytes(gzip.compress(tar_bytes([member(f"f{i}", os.urandom(MIB)) for i in range(5)])))

    unpack_archive(place.archive, place.out, progress=lambda done, total: seen.append((done, total)))

    size = place.archive.stat().st_size
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)
    assert len(seen) >= 5


def test_a_python_that_cannot_filter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "results.tar.gz"
    with tarfile.open(archive, "w:gz"):
        pass
    monkeypatch.delattr(tarfile, "data_filter")

    with pytest.raises(CloudHPCArchiveError, match=r"results.tar.gz was not unpacked: .* Python 3.11.4 or newer"):
        unpack_archive(archive, tmp_path / "target")
    assert list(tmp_path.iterdir()) == [archive]
