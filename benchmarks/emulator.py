# SPDX-License-Identifier: Apache-2.0
"""
The emulator under load: a thousand simulations that run at once and ten thousand files in the storage.

It runs as users run it, a process of its own, filled over its control; then its listings are asked for by one client,
page by page, in every order, over one connection. Milliseconds are the client's, memory is the process's.

    python benchmarks/emulator.py --json

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ORDERS = [*itertools.product(("id", "edate", "status", "cost", "folder"), ("asc", "desc"))]
FILE_ORDERS = [*itertools.product(("name", "size", "timeCreated"), ("asc", "desc"))]


class Emulator:
    """A running emulator: its process, and a session that knows the key."""

    def __init__(self, url: str, key: str, token: str, pid: int) -> None:
        self.url, self.token, self.pid = url, token, pid
        self.session = requests.Session()
        self.session.headers["X-API-key"] = key

    def control(self, name: str, **arguments: object) -> object:
        answer = self.session.post(
            f"{self.url}/_emulator/{name}", json=arguments, headers={"X-Emulator-Token": self.token}, timeout=120
        )
        answer.raise_for_status()
        return answer.json()["response"]

    def get(self, path: str) -> tuple[list[dict[str, object]], float]:
        """A listing's page, and how long it took in milliseconds."""
        begun = time.perf_counter()
        answer = self.session.get(f"{self.url}/api/v2{path}", timeout=60)
        took = (time.perf_counter() - begun) * 1000
        answer.raise_for_status()
        return answer.json()["response"], took

    def memory(self, what: str = "VmRSS") -> float:
        """Megabytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(rf"{what}:\s+(\d+) kB", status)[0]) / 1000

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def emulator() -> Iterator[Emulator]:
    """Start one, and end it."""
    code = (
        "import sys; from airflow_provider_cloudhpc.emulator import CloudHPCEmulator\n"
        "with CloudHPCEmulator(port=0) as e: print(e.url, e.api_key, e.control_token, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdin
    try:
        running = Emulator(*process.stdout.readline().split(), process.pid)  # type: ignore[arg-type]
        running.control("set_quota", hourly_limit=0, daily_limit=0)
        yield running
    finally:
        process.stdin.close()
        process.wait(30)


def spread(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {
        "calls": len(times),
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
        "max_ms": round(max(times), 2),
    }


def walk(running: Emulator, pattern: str, pages: int) -> list[float]:
    """Every page of a listing; it must hold each item once."""
    times, seen = [], []
    for page in range(1, pages + 1):
        items, took = running.get(f"{pattern}/{page}")
        times.append(took)
        seen += [item["id"] for item in items]
    assert len(seen) == len(set(seen)) == pages * 20, (pattern, len(seen))
    return times


def measure(simulations: int, files: int) -> dict[str, object]:
    chance = random.Random(7)
    with emulator() as running:
        empty = running.memory()
        begun = time.perf_counter()
        for number in range(0, simulations, 50):
            running.control("simulation", count=50, folder=f"case{number}", pending=0, running=None, cpu=4)
        for number in range(files):
            running.control(
                "file", path=f"folder/part{number % 10}-{number:05d}.dat", content="x" * chance.randint(0, 99)
            )
        filled = time.perf_counter() - begun
        root, _ = running.get("/storage/index/name/asc/1")
        folder = root[0]["id"]

        cpu, waited = running.cpu(), time.perf_counter()
        time.sleep(5)
        idle = (running.cpu() - cpu) / (time.perf_counter() - waited)

        still: list[float] = []
        for sort, direction in ORDERS:
            still += walk(running, f"/simulation/index-short/{sort}/{direction}", simulations // 20)
        stored: list[float] = []
        for sort, direction in FILE_ORDERS:
            stored += walk(running, f"/storage/index/{sort}/{direction}/parent_id/{folder}", files // 20)
        # Each time something has ended since, the order is made anew.
        ids = [item["id"] for page in range(1, 11) for item in running.get(f"/simulation/index-short/id/asc/{page}")[0]]
        changing, changed = [], []
        for number, id_ in enumerate(ids):
            running.control("finish", id=id_)
            changing.append(running.get("/simulation/index-short/edate/asc/1")[1])
            running.control("file", path=f"folder/new{number}.dat", content="x")
            changed.append(running.get(f"/storage/index/name/asc/parent_id/{folder}/1")[1])
        return {
            "simulations": simulations,
            "files": files,
            "fill_seconds": round(filled, 1),
            "memory_mb": {
                "empty": round(empty, 1),
                "filled": round(running.memory(), 1),
                "peak": round(running.memory("VmHWM"), 1),
            },
            "idle_cpu": round(idle, 3),
            "simulations_listing": spread(still),
            "files_listing": spread(stored),
            "simulations_listing_after_a_change": spread(changing),
            "files_listing_after_a_change": spread(changed),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="one line, for programs")
    arguments = parser.parse_args()
    result = measure(arguments.simulations, arguments.files)
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
