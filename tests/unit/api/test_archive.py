# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.archive import codec
from airflow_provider_cloudhpc.api.archive.pack import pack_folder
from airflow_provider_cloudhpc.api.archive.unpack import UnpackLimits, unpack_archive
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError, CloudHPCError, CloudHPCValueError
from tests.memory import peak_memory

MIB = 1 << 20


def write(path: Path, content: bytes | str = b"", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that matters of a folder's content: kind, mode, time in seconds, bytes or target."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            info = path.lstat()
            seconds = info.st_mtime_ns // 10**9
            if path.is_symlink():
                found[str(path.relative_to(root))] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[str(path.relative_to(root))] = ("folder", seconds)
            else:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(root))] = ("file", stat.S_IMODE(info.st_mode), seconds, digest)
    return found


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    write(folder / "system" / "controlDict", "application icoFoam;\n")
    write(folder / "0" / "U", "internalField uniform (0 0 0);\n")
    write(folder / "Allrun", "#!/bin/sh\n", 0o755)
    return folder


# --- what is packed ---------------------------------------------------------------------------------------------------


def test_the_content_is_packed_without_a_folder_around_it(case: Path, tmp_path: Path) -> None:
    packed = pack_folder(case, tmp_path / "upload.tar.gz")

    assert names(packed.path) == ["0", "0/U", "Allrun", "system", "system/controlDict"]
    assert packed.path == tmp_path / "upload.tar.gz"
    assert packed.size == packed.path.stat().st_size
    assert packed.members == 5
    assert packed.content_size == sum(p.stat().st_size for p in case.rglob("*") if p.is_file())


def test_gnu_tar_reads_it(case: Path, tmp_path: Path) -> None:
    write(case / ("long" * 60) / ("name" * 50) / "ünï\ncode%20", b"x" * 1000)
    pack_folder(case, tmp_path / "upload.tar.gz")

    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "upload.tar.gz", "-C", out], check=True)

    assert tree(out) == tree(case)


def test_hidden_files_and_folders_are_left_out_unless_asked_for(case: Path, tmp_path: Path) -> None:
    write(case / ".git" / "config")
    write(case / "system" / ".controlDict.swp")

    without = names(pack_folder(case, tmp_path / "a.tar.gz").path)
    with_them = names(pack_folder(case, tmp_path / "b.tar.gz", include_hidden=True).path)

    assert not [name for name in without if "." in name]
    assert set(with_them) - set(without) == {".git", ".git/config", "system/.controlDict.swp"}


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("*.orig", {"0/U.orig", "U.orig"}),
        ("processor*", {"processor0", "processor0/0", "processor0/0/U"}),
        ("processor*/", {"processor0", "processor0/0", "processor0/0/U"}),
        ("processor*/0", {"processor0/0", "processor0/0/U"}),
        ("/U.orig", {"U.orig"}),
        ("0/*", {"0/U", "0/U.orig"}),
        ("[sS]ystem", {"system", "system/controlDict"}),
        ("SYSTEM", set()),
    ],
)
def test_excluded_patterns(case: Path, tmp_path: Path, pattern: str, gone: set[str]) -> None:
    write(case / "U.orig")
    write(case / "0" / "U.orig")
    write(case / "processor0" / "0" / "U")
    everything = set(names(pack_folder(case, tmp_path / "all.tar.gz").path))

    left = set(names(pack_folder(case, tmp_path / "some.tar.gz", exclude=[pattern]).path))

    assert everything - left == gone


def test_a_lone_string_is_not_taken_for_a_list_of_one_letter_patterns(case: Path, tmp_path: Path) -> None:
    with pytest.raises(CloudHPCValueError, match=r"\*\.orig"):
        pack_folder(case, tmp_path / "upload.tar.gz", exclude="*.orig")


def test_empty_folders_modes_and_sparse_files_are_kept(case: Path, tmp_path: Path) -> None:
    (case / "postProcessing" / "empty").mkdir(parents=True)
    with (case / "sparse").open("wb") as file:
        file.seek(5 * MIB)
        file.write(b"end")
    before = tree(case)

    unpack_archive(pack_folder(case, tmp_path / "a.tar.gz").path, tmp_path / "out")

    assert tree(tmp_path / "out") == before


def test_sockets_and_pipes_are_left_out_with_a_word(
    case: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(case / "pipe")
    monkeypatch.chdir(case)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        packed = pack_folder(case, tmp_path / "a.tar.gz")

    assert packed.skipped == ("pipe", "sock")
    assert "pipe, sock" in caplog.text
    assert not {"pipe", "sock"} & set(names(packed.path))


def test_hard_links_become_two_files(case: Path, tmp_path: Path) -> None:
    (case / "Allrun.copy").hardlink_to(case / "Allrun")

    packed = pack_folder(case, tmp_path / "a.tar.gz")

    with tarfile.open(packed.path) as tar:
        assert [tar.getmember(name).isreg() for name in ("Allrun", "Allrun.copy")] == [True, True]


# --- links ------------------------------------------------------------------------------------------------------------


def test_links_to_what_is_packed_stay_links(case: Path, tmp_path: Path) -> None:
    (case / "constant").symlink_to("system")
    (case / "0" / "p").symlink_to("../system/controlDict")
    (case / "0" / "again").symlink_to("p")
    (case / "0" / "top").symlink_to("..")
    before = tree(case)

    unpack_archive(pack_folder(case, tmp_path / "a.tar.gz").path, tmp_path / "out")

    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(
    "text", ["{case}/system/controlDict", "../../case/system/controlDict", "../0/../system/controlDict"]
)
def test_links_that_reach_inside_by_a_detour_are_made_plain(case: Path, tmp_path: Path, text: str) -> None:
    (case / "0" / "link").symlink_to(text.format(case=case))

    unpack_archive(pack_folder(case, tmp_path / "a.tar.gz").path, tmp_path / "out")

    assert str((tmp_path / "out" / "0" / "link").readlink()) == "../system/controlDict"


@pytest.mark.parametrize("text", [".now", ".there/controlDict", "./left.out"])
def test_a_link_by_way_of_one_that_is_not_packed_leads_there_directly(case: Path, tmp_path: Path, text: str) -> None:
    (case / ".now").symlink_to("system/controlDict")
    (case / ".there").symlink_to("system")
    (case / "left.out").symlink_to(".now")
    (case / "link").symlink_to(text)

    unpack_archive(pack_folder(case, tmp_path / "a.tar.gz", exclude=["*.out"]).path, tmp_path / "out")

    assert str((tmp_path / "out" / "link").readlink()) == "system/controlDict"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/etc/passwd", "leaves the folder"),
        ("../secret", "leaves the folder"),
        ("..", "leaves the folder"),
        ("nowhere", "leads to nothing"),
        ("link", "leads in a circle"),
        (".hidden", "hidden or excluded"),
        ("skipped/me", "hidden or excluded"),
    ],
)
def test_links_that_would_leak_or_dangle_are_refused(case: Path, tmp_path: Path, target: str, why: str) -> None:
    write(tmp_path / "secret")
    write(case / ".hidden")
    write(case / "skipped" / "me")
    (case / "link").symlink_to(target)

    with pytest.raises(CloudHPCValueError, match=why) as caught:
        pack_folder(case, tmp_path / "a.tar.gz", exclude=["skipped"])

    assert "'link'" in str(caught.value)
    assert target in str(caught.value)
    assert not (tmp_path / "a.tar.gz").exists()


def test_an_excluded_link_may_lead_anywhere(case: Path, tmp_path: Path) -> None:
    (case / "link").symlink_to("/etc/passwd")

    assert "link" not in names(pack_folder(case, tmp_path / "a.tar.gz", exclude=["link"]).path)


# --- same folder, same bytes ------------------------------------------------------------------------------------------


def test_a_copy_packs_to_the_same_bytes(case: Path, tmp_path: Path) -> None:
    write(case / "big", os.urandom(3 * MIB) + bytes(3 * MIB))
    subprocess.run(["cp", "-a", case, tmp_path / "copy"], check=True)
    os.utime(tmp_path / "copy" / "big", ns=(0, (case / "big").stat().st_mtime_ns // 10**9 * 10**9))

    first = pack_folder(case, tmp_path / "first.tar.gz")
    second = pack_folder(tmp_path / "copy", tmp_path / "another-name.tar.gz")

    assert first.path.read_bytes() == second.path.read_bytes()


def test_the_number_of_threads_does_not_change_the_bytes(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(case / "big", os.urandom(MIB) * 5)
    archives = []
    for threads in (1, 2, 4):
        monkeypatch.setattr(codec, "_MAX_THREADS", threads)
        archives.append(pack_folder(case, tmp_path / f"{threads}.tar.gz").path.read_bytes())

    assert archives[0] == archives[1] == archives[2]


PACK = """
import os, sys
os.umask(0o077)
from airflow_provider_cloudhpc.api.archive.pack import pack_folder
pack_folder(sys.argv[1], sys.argv[2], exclude=["ausgeschlossen-\\xfc"])
"""


def test_another_machine_packs_the_same_bytes(case: Path, tmp_path: Path) -> None:
    """Another locale, time zone, umask and mask of hashes; names in UTF-8 and in none."""
    for name in (
        "Zeta",
        "alpha",
        "ärger",
        "ausgeschlossen-ü",
        os.fsdecode(b"latin-\xe4"),
        os.fsdecode(b"\xf0\x9f"),
        "😀",
    ):
        write(case / name, name.encode("utf-8", "surrogateescape"))
    (case / "link").symlink_to("ärger")
    (case / "old link").symlink_to(os.fsdecode(b"latin-\xe4"))
    here = pack_folder(case, tmp_path / "here.tar.gz", exclude=["ausgeschlossen-ü"]).path.read_bytes()
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}

    subprocess.run(
        [sys.executable, "-c", PACK, case, tmp_path / "there.tar.gz"], check=True, env={**os.environ, **plain}
    )

    assert (tmp_path / "there.tar.gz").read_bytes() == here
    unpack_archive(tmp_path / "there.tar.gz", tmp_path / "out")
    (case / "ausgeschlossen-ü").unlink()
    assert tree(tmp_path / "out") == tree(case)


def test_the_header_of_the_gzip_names_nothing(case: Path, tmp_path: Path) -> None:
    head = pack_folder(case, tmp_path / "a.tar.gz").path.read_bytes()[:10]

    assert head[3] == 0, "flags: no name, no comment"
    assert head[4:8] == bytes(4), "no time"


# --- without isal -----------------------------------------------------------------------------------------------------


def test_zlib_stands_in_for_igzip(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(case / "big", b"0123456789\n" * MIB)
    before = tree(case)
    pack_folder(case, tmp_path / "fast.tar.gz")
    monkeypatch.setattr(codec, "igzip_threaded", None)

    packed = pack_folder(case, tmp_path / "plain.tar.gz")
    unpack_archive(packed.path, tmp_path / "out")
    unpack_archive(tmp_path / "fast.tar.gz", tmp_path / "out2")

    assert tree(tmp_path / "out") == tree(tmp_path / "out2") == before
    assert packed.path.read_bytes()[3:8] == bytes(5)
    assert packed.path.read_bytes() == pack_folder(case, tmp_path / "again.tar.gz").path.read_bytes()


# --- round trips ------------------------------------------------------------------------------------------------------


def nasty_name(raw: bytes) -> str:
    name = os.fsdecode(raw.replace(b"/", b"|").replace(b"\0", b"0"))
    return name if name.strip(".") else "x"


NAMES = st.one_of(
    st.binary(min_size=1, max_size=255).map(nasty_name),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
    .filter(lambda name: name.strip("."))
    .filter(lambda name: len(name.encode()) < 256),
    st.sampled_from(["-rf", "--", "a%2Fb", "%", "ä" * 120, "n" * 255, "new\nline", "tab\t", " ", "\\", "#", "..."]),
)
SIZES = st.sampled_from([0, 1, 511, 512, 513, 1023, 1024, 1025, MIB - 512, MIB - 1, MIB, MIB + 1])
FILES = st.tuples(SIZES, st.integers(0, 0o777).map(lambda mode: mode | 0o400), st.integers(-(10**6), 2**33))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), FILES, min_size=1, max_size=8))
@example({("d" * 200, "e" * 200, "f" * 200): (513, 0o755, 2**33)})
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, ...], tuple[int, int, int]]
) -> None:
    base = tmp_path_factory.mktemp("trip")
    folder = base / "case"
    folder.mkdir()
    for parts, (size, mode, seconds) in files.items():
        path = folder.joinpath(*parts)
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue
        write(path, (b"0123456789abcde\n" * (size // 16 + 1))[:size], mode)
        os.utime(path, (seconds, seconds))
    for path in folder.rglob("*"):
        if path.is_dir():
            os.utime(path, (1, 2**32))
    before = {
        name: (facts[0], _as_data_filter(facts[1]), *facts[2:]) if facts[0] == "file" else facts
        for name, facts in tree(folder).items()
    }

    packed = pack_folder(folder, base / "a.tar.gz", include_hidden=True)
    unpacked = unpack_archive(packed.path, base / "out", limits=UnpackLimits(allow_case_collisions=True))

    assert tree(base / "out") == before
    assert (unpacked.members, unpacked.content_size) == (packed.members, packed.content_size)


def _as_data_filter(mode: object) -> int:
    """Others' write permission goes, execution stands or falls with the owner's, the owner can read and write."""
    assert isinstance(mode, int)
    kept = mode & 0o755
    return (kept if kept & 0o100 else kept & ~0o111) | 0o600


# --- what goes wrong leaves nothing -----------------------------------------------------------------------------------


def only(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def on_progress(action: Callable[[], object]) -> Callable[[int, int | None], None]:
    """Do something to the folder when packing has begun."""
    state = {"done": False}

    def progress(done: int, total: int | None) -> None:
        if not state["done"]:
            state["done"] = True
            action()

    return progress


def test_a_file_that_vanishes_is_named(case: Path, tmp_path: Path) -> None:
    write(case / "0" / "big", os.urandom(2 * MIB))

    with pytest.raises(CloudHPCArchiveError, match="'system/controlDict' vanished"):
        pack_folder(case, tmp_path / "a.tar.gz", progress=on_progress((case / "system" / "controlDict").unlink))

    assert only(tmp_path) == {"case"}


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer than before" * 10),
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["grows", "shrinks", "becomes a link", "becomes a pipe", "becomes a folder"],
)
def test_a_file_that_changes_before_its_turn_is_named(
    case: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    write(case / "0" / "big", os.urandom(2 * MIB))
    victim = case / "system" / "controlDict"

    with pytest.raises(CloudHPCArchiveError, match=r"'system/controlDict' changed"):
        pack_folder(case, tmp_path / "a.tar.gz", progress=on_progress(lambda: change(victim)))

    assert only(tmp_path) == {"case"}


@pytest.mark.parametrize("size", [3 * MIB - 10, 3 * MIB, 3 * MIB + 10], ids=["shrinks", "same size", "grows"])
def test_a_file_that_changes_while_it_is_read_is_named(case: Path, tmp_path: Path, size: int) -> None:
    victim = write(case / "0" / "big", os.urandom(3 * MIB))
    os.utime(victim, (1, 1))

    with pytest.raises(CloudHPCArchiveError, match="'0/big' changed"):
        pack_folder(case, tmp_path / "a.tar.gz", progress=on_progress(lambda: victim.write_bytes(bytes(size))))

    assert only(tmp_path) == {"case"}


def test_a_folder_that_is_replaced_by_a_file_is_named(case: Path, tmp_path: Path) -> None:
    write(case / "0" / "big", os.urandom(2 * MIB))
    (case / "z").mkdir()

    with pytest.raises(CloudHPCArchiveError, match="'z' changed"):
        pack_folder(
            case, tmp_path / "a.tar.gz", progress=on_progress(lambda: ((case / "z").rmdir(), write(case / "z")))
        )

    assert only(tmp_path) == {"case"}


def test_an_exception_of_the_callback_goes_through_and_leaves_nothing(case: Path, tmp_path: Path) -> None:
    def progress(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_folder(case, tmp_path / "a.tar.gz", progress=progress)

    assert only(tmp_path) == {"case"}


def test_what_was_there_stays_when_packing_fails(case: Path, tmp_path: Path) -> None:
    there = write(tmp_path / "a.tar.gz", "yesterday's")
    (case / "link").symlink_to("/etc/passwd")

    with pytest.raises(CloudHPCValueError):
        pack_folder(case, there)

    assert there.read_text() == "yesterday's"


def test_what_was_there_is_replaced_when_packing_ends(case: Path, tmp_path: Path) -> None:
    there = write(tmp_path / "a.tar.gz", "yesterday's")

    pack_folder(case, there)

    assert "Allrun" in names(there)
    assert only(tmp_path) == {"case", "a.tar.gz"}


FULL_DISK = """
import resource, sys
from airflow_provider_cloudhpc.api.archive.pack import pack_folder
from airflow_provider_cloudhpc.api.errors import CloudHPCArchiveError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    pack_folder(sys.argv[1], sys.argv[2])
except CloudHPCArchiveError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", [1, 10, 100_000, 18 * MIB])
def test_a_full_disk_leaves_nothing(case: Path, tmp_path: Path, missing: int) -> None:
    """The last bytes are the trap: the system takes a part of them and calls that a success."""
    write(case / "noise", os.urandom(20 * MIB))
    packed = pack_folder(case, tmp_path / "a.tar.gz")
    packed.path.unlink()

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, case, packed.path, str(packed.size - missing)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "a.tar.gz' could not be written: File too large" in done.stdout
    assert only(tmp_path) == {"case"}


def test_a_folder_where_the_mark_is_to_be_is_refused_by_name(case: Path, tmp_path: Path) -> None:
    (case / "mark").mkdir()
    archive = pack_folder(case, tmp_path / "a.tar.gz").path

    with pytest.raises(CloudHPCArchiveError, match="refused at its member 'mark'"):
        unpack_archive(archive, tmp_path / "out", mark=("mark", "of a"))

    assert only(tmp_path) == {"case", "a.tar.gz"}


def test_folders_nested_without_end_are_refused_by_name(case: Path, tmp_path: Path) -> None:
    deep = case / "deep"
    try:
        for _ in range(1500):
            deep.mkdir()
            deep /= "d"
        with pytest.raises(CloudHPCArchiveError, match=r"'deep/d/d/.* is nested too deep"):
            pack_folder(case, tmp_path / "a.tar.gz")
    finally:
        subprocess.run(["rm", "-rf", case / "deep"], check=True)  # Python's own way recurses, too
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_is_named(case: Path, tmp_path: Path) -> None:
    write(case / "secret", mode=0)

    with pytest.raises(CloudHPCArchiveError, match="'secret' could not be read: Permission denied"):
        pack_folder(case, tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    ("folder", "target", "message"),
    [
        ("nowhere", "a.tar.gz", "no folder"),
        ("case/Allrun", "a.tar.gz", "no folder"),
        ("case", "case/a.tar.gz", "outside of the folder"),
        ("case", "case/system/a.tar.gz", "outside of the folder"),
        ("empty", "a.tar.gz", "nothing to pack"),
    ],
)
def test_wrong_arguments(case: Path, tmp_path: Path, folder: str, target: str, message: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(CloudHPCValueError, match=message):
        pack_folder(tmp_path / folder, tmp_path / target)

    assert only(tmp_path) == {"case", "empty"}


def test_a_target_that_cannot_be_written_is_told(case: Path, tmp_path: Path) -> None:
    with pytest.raises(CloudHPCError, match="could not be written: No such file or directory"):
        pack_folder(case, tmp_path / "nowhere" / "a.tar.gz")


@pytest.mark.parametrize("level", [0, 4, 9])
def test_levels_that_igzip_does_not_have_are_refused(case: Path, tmp_path: Path, level: int) -> None:
    with pytest.raises(CloudHPCValueError, match="level"):
        pack_folder(case, tmp_path / "a.tar.gz", level=level)


# --- how far ----------------------------------------------------------------------------------------------------------


def test_progress_counts_the_content_to_its_end(case: Path, tmp_path: Path) -> None:
    write(case / "big", os.urandom(5 * MIB))
    seen: list[tuple[int, int | None]] = []

    packed = pack_folder(case, tmp_path / "a.tar.gz", progress=lambda done, total: seen.append((done, total)))

    assert len(seen) >= 5
    assert seen == sorted(seen)
    assert seen[-1] == (packed.content_size, packed.content_size)
    assert {total for _, total in seen} == {packed.content_size}


MOVE = """
import sys
from airflow_provider_cloudhpc.api.archive.pack import pack_folder
from airflow_provider_cloudhpc.api.archive.unpack import UnpackLimits, unpack_archive
from tests.memory import peak_memory
if sys.argv[1] == "pack":
    pack_folder(sys.argv[2], sys.argv[3])
else:
    unpack_archive(sys.argv[2], sys.argv[3], limits=UnpackLimits(max_ratio=2000))
"""


def test_memory_does_not_grow_with_the_size(tmp_path: Path) -> None:
    peaks: dict[str, dict[str, int]] = {"pack": {}, "unpack": {}}
    for name, size in (("small", 10 * MIB), ("large", 2048 * MIB)):
        folder = tmp_path / name
        write(folder / "head", b"not only zeros")
        os.truncate(write(folder / "sparse"), size)
        archive, out = tmp_path / f"{name}.tar.gz", tmp_path / f"{name}.out"
        peaks["pack"][name] = peak_memory(MOVE, "pack", folder, archive)
        peaks["unpack"][name] = peak_memory(MOVE, "unpack", archive, out)
        assert (out / "sparse").stat().st_size == size
        os.truncate(out / "sparse", 0)

    for what, kib in peaks.items():
        assert kib["large"] - kib["small"] < 16 * 1024, (what, peaks)


def test_the_checksum_is_right(case: Path, tmp_path: Path) -> None:
    write(case / "noise", os.urandom(3 * MIB + 17))

    content = gzip.decompress(pack_folder(case, tmp_path / "a.tar.gz").path.read_bytes())

    assert content[-1024:] == bytes(1024)
