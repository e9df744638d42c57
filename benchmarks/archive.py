# SPDX-License-Identifier: Apache-2.0
"""
Packing and unpacking beside what the service's users run today: ``tar -I pigz`` and ``tar -zxf``.

Runs are interleaved and each is a process of its own, imports included; ``inner`` is the call alone. Ratios are of
medians, ours over theirs: below 1 we are faster. It works in memory (``/dev/shm``, 2 GB) where it can, since a disk
that writes back what others left behind decides otherwise: a limit of the CPU.

    python benchmarks/archive.py --json

Needs GNU tar and pigz. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PACK = """
import sys, time
from airflow_provider_cloudhpc.api.archive.pack import pack_folder
begun = time.perf_counter()
pack_folder(sys.argv[1], sys.argv[2], level=int(sys.argv[3]))
print(time.perf_counter() - begun)
"""
UNPACK = """
import sys, time
from airflow_provider_cloudhpc.api.archive.unpack import unpack_archive
begun = time.perf_counter()
unpack_archive(sys.argv[1], sys.argv[2])
print(time.perf_counter() - begun)
"""


def ascii_field(size: int, seed: int) -> bytes:
    """Bytes of an OpenFOAM vector field in ASCII: one ``(x y z)`` a line, six digits, smooth with noise."""
    chance = random.Random(seed)
    lines, length, value = [], 0, 1.0
    while length < size:
        value += chance.gauss(0, 0.01)
        line = f"({value:.6g} {chance.gauss(0, 1e-3):.6g} {value * chance.random():.6g})\n"
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size]


def large_case(folder: Path, megabytes: int) -> None:
    """Eight processors, a few times, files of 8 MB. Deflate looks back 32 kB, so repeating 16 MB costs no realism."""
    field = ascii_field(16_000_000, seed=1)
    for number in range(megabytes * 1_000_000 // 8_000_000):
        path = folder / f"processor{number % 8}" / f"{number // 8 * 0.5:g}" / "U"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = number * 1_234_567 % 8_000_000
        path.write_bytes(field[start : start + 8_000_000])


def small_files(folder: Path, count: int) -> None:
    """A decomposed case of many times: 20 files a folder, 10 kB each."""
    field = ascii_field(4_000_000, seed=2)
    for number in range(count):
        path = folder / f"processor{number // 1000}" / f"{number // 20 % 50 * 0.1:.1f}" / f"field{number % 20}"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = number * 7919 % 3_900_000
        path.write_bytes(field[start : start + 5_000 + number % 10_000])


def run(command: list[str | Path]) -> tuple[float, float | None]:
    """Run a process; give its wall time and the one it printed, in seconds."""
    begun = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - begun, float(done.stdout) if done.stdout else None


def compare(
    variants: dict[str, list[str | Path]], runs: int, clean: Callable[[], None]
) -> dict[str, dict[str, float | list[float]]]:
    """Run the variants in turns; the first is the reference."""
    whole: dict[str, list[float]] = {name: [] for name in variants}
    inner: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(runs):
        for name, command in variants.items():
            clean()
            wall, alone = run(command)
            whole[name].append(wall)
            inner[name].append(wall if alone is None else alone)
    clean()
    reference = statistics.median(next(iter(whole.values())))
    return {
        name: {
            "seconds": round(statistics.median(whole[name]), 3),
            "ratio": round(statistics.median(whole[name]) / reference, 3),
            "ratio_spread": [round(min(whole[name]) / reference, 3), round(max(whole[name]) / reference, 3)],
            "inner_ratio": round(statistics.median(inner[name]) / reference, 3),
        }
        for name in variants
    }


def default_dir() -> str:
    """A file system in memory where there is one with room, else the temporary folder."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 4_000_000_000:
        return str(memory)
    return tempfile.gettempdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    parser.add_argument("--runs", type=int, default=3, help="of each variant")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the large case")
    parser.add_argument("--files", type=int, default=8000, help="number of small files")
    parser.add_argument("--dir", default=default_dir(), help="where to work (default: %(default)s)")
    options = parser.parse_args()
    for tool in ("tar", "pigz"):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is not installed")

    results: dict[str, object] = {"cpus": os.cpu_count(), "runs": options.runs, "dir": options.dir}
    python = [sys.executable, "-c"]
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        base = Path(name)
        large_case(base / "large", options.megabytes)
        small_files(base / "small", options.files)
        for case in ("large", "small"):
            folder, archive, out = base / case, base / f"{case}.tar.gz", base / "out"
            theirs: list[str | Path] = ["tar", "-I", "pigz", "-cf", archive, "-C", folder, "."]
            packs: dict[str, list[str | Path]] = {"tar -I pigz": theirs}
            packs |= {f"pack_folder level {n}": [*python, PACK, folder, archive, str(n)] for n in (1, 3)}
            sizes: dict[str, int] = {}
            for variant, command in packs.items():
                run(command)
                sizes[variant] = archive.stat().st_size
            packed = compare(packs, options.runs, lambda archive=archive: archive.unlink(missing_ok=True))
            for variant, numbers in packed.items():
                numbers["megabytes"] = round(sizes[variant] / 1e6, 1)
            results[f"pack {case}"] = packed

            run(theirs)

            def fresh(out: Path = out) -> None:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()

            unpacks: dict[str, list[str | Path]] = {
                "tar -zxf": ["tar", "-zxf", archive, "-C", out],
                "unpack_archive": [*python, UNPACK, archive, out],
            }
            results[f"unpack {case}"] = compare(unpacks, options.runs, fresh)

    if not options.json:
        for what, variants in results.items():
            if isinstance(variants, dict):
                print(what)
                for variant, numbers in variants.items():
                    print(f"  {variant:22}", *(f"{key} {value}" for key, value in numbers.items()), sep="  ")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
