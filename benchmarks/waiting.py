# SPDX-License-Identifier: Apache-2.0
"""
What it costs to wait: the poller of this provider beside one call per wait and minute, as other providers do.

Both run on simulated time against the emulator, which is a process of its own and counts the calls. ``steady``: all
run through the simulated hours, then all end at once. ``ending``: all end within the first hour at seeded random
times, a fifth of them in bursts. The account has a limit for our side (refused calls are counted) and none for the
other. Both read each run's output once at the end, as tasks do, from a process that is not measured. CPU, memory and
the lag of the event loop are those of the waiting process alone, under the load of hours pressed into seconds.

    python benchmarks/waiting.py --json

The last line is one JSON object. ``--waits 1000 --scheme ours`` and the like run a part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

INTERVAL = 60.0
SEED = 20
#: How long the last endings are waited for: a thousand reads on 95 calls an hour take half a day.
MOST_HOURS = 24
#: Seconds between two samples of the event loop's lag.
SAMPLING = 0.005


# -- the service, in a process of its own -------------------------------------------------------------------------


def read_output(emulator: Any, simulation_id: int) -> bool:
    """Read an output as a worker does when its task goes on, by a process that is not the waiting one."""
    address = f"{emulator.url}/api/v2/simulation/view/{simulation_id}"
    return requests.get(address, headers={"X-API-key": emulator.api_key}, timeout=60).ok


def let_pass(emulator: Any, seconds: float, reads: list[tuple[float, int]]) -> list[bool]:
    """Let time go by; meanwhile each of these outputs is read at its time."""
    done, passed = [], 0.0
    for after, simulation_id in reads:
        emulator.control.jump(after - passed)
        passed = after
        done.append(read_output(emulator, simulation_id))
    emulator.control.jump(seconds - passed)
    return done


def serve() -> None:
    """Serve an emulator whose time stands still; a line of JSON asks, a line of JSON answers."""
    from airflow_provider_cloudhpc.emulator import CloudHPCEmulator

    with CloudHPCEmulator(port=0, clock_speed=0.0) as emulator:
        print(json.dumps({"url": emulator.url, "key": emulator.api_key, "now": emulator.control.now()}), flush=True)
        for line in sys.stdin:
            name, argument = json.loads(line)
            if name == "make":
                answer: Any = [emulator.control.simulation(pending=1, running=seconds)[0] for seconds in argument]
            elif name == "calls":
                ledger = emulator.ledger
                refused = sum(call.status in (403, 429) for call in ledger.calls)
                answer = {"calls": ledger.api_calls, "refused": refused}
            elif name == "pass":
                answer = let_pass(emulator, **argument)
            else:
                answer = getattr(emulator.control, name)(**argument)
            print(json.dumps(answer), flush=True)


class Service:
    """The emulator's process, asked through pipes."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()
        self.about = json.loads(self._process.stdout.readline())

    def ask(self, name: str, argument: Any) -> Any:
        with self._lock:
            self._process.stdin.write(json.dumps([name, argument]) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)


@contextmanager
def service() -> Iterator[Service]:
    running = Service()
    try:
        yield running
    finally:
        running.stop()


# -- one run, in a process of its own -----------------------------------------------------------------------------


def durations(scenario: str, waits: int, hours: float) -> list[float]:
    """Seconds that each simulation runs."""
    if scenario == "steady":
        return [hours * 3600.0 + 17] * waits
    chance = random.Random(SEED)
    bursts = [chance.uniform(60, 3500) for _ in range(3)]
    return [chance.choice(bursts) if chance.random() < 0.2 else chance.uniform(30, 3540) for _ in range(waits)]


class Workers:
    """Read the output of every run when its ending was delivered, some seconds later, as tasks do."""

    def __init__(self, there: Service) -> None:
        self.read: dict[int, bool] = {}
        self.jumps = 0
        self._there = there
        self._now = there.about["now"]
        self._upcoming: list[tuple[float, int]] = []

    def take_over(self, simulation_id: int) -> None:
        heapq.heappush(self._upcoming, (self._now + 5.0 + simulation_id % 60, simulation_id))

    def jump(self, seconds: float) -> None:
        """Let the service's time go by, with what is read meanwhile."""
        self.jumps += 1
        due = []
        while self._upcoming and self._upcoming[0][0] <= self._now + seconds:
            due.append(heapq.heappop(self._upcoming))
        reads = [(when - self._now, simulation_id) for when, simulation_id in due]
        done = self._there.ask("pass", {"seconds": seconds, "reads": reads})
        self.read.update(zip((simulation_id for _, simulation_id in due), done, strict=True))
        self._now += seconds


async def lag(samples: list[float], workers: Workers) -> None:
    """Note by how many milliseconds a sleep on the event loop is late, again and again; not while time is moved on."""
    while True:
        begun, jumps = time.perf_counter(), workers.jumps
        await asyncio.sleep(SAMPLING)
        if workers.jumps == jumps:
            samples.append((time.perf_counter() - begun - SAMPLING) * 1000)


async def ours(ids: list[int], clock: Any, done: dict[int, float], workers: Workers, triggerers: int = 1) -> Any:
    """Begin the waits as triggers do; gives what tells how many act by the clock."""
    from airflow_provider_cloudhpc.api.lifecycle import Watch
    from airflow_provider_cloudhpc.triggers.pollers import Pollers
    from airflow_provider_cloudhpc.triggers.waits import Wait

    all_pollers = [Pollers(clock) for _ in range(triggerers)]

    async def one(number: int, simulation_id: int) -> None:
        pollers = all_pollers[number % triggerers]
        account = await pollers.connect("cloudhpc_default")
        now = clock.time()
        watch = Watch(simulation_id, page="", started=now, now=now)
        await pollers.wait(Wait(watch, "cloudhpc_default", INTERVAL, reads=True), account)
        done[simulation_id] = clock.time()
        workers.take_over(simulation_id)

    tasks = [asyncio.create_task(one(number, identifier)) for number, identifier in enumerate(ids)]
    while sum(pollers.running for pollers in all_pollers) < triggerers:
        await asyncio.sleep(0.01)
    return tasks, lambda: sum(pollers.running for pollers in all_pollers)


async def naive(ids: list[int], clock: Any, done: dict[int, float], workers: Workers) -> Any:
    """One call for each wait and interval, in threads, on one session."""
    from airflow_provider_cloudhpc.triggers.accounts import find_account

    client = (await asyncio.to_thread(find_account, "cloudhpc_default")).client
    active = set(ids)

    async def one(simulation_id: int) -> None:
        while not (await asyncio.to_thread(client.view_simulation_short, simulation_id)).is_terminal:
            await clock.pause(INTERVAL, asyncio.Event())
        done[simulation_id] = clock.time()
        active.discard(simulation_id)
        workers.take_over(simulation_id)

    return [asyncio.create_task(one(identifier)) for identifier in ids], lambda: len(active)


async def run(options: argparse.Namespace, there: Service) -> dict[str, Any]:
    from airflow_provider_cloudhpc.triggers.accounts import find_account
    from tests.simulated_time import SimulatedClock

    # What a process imports once, with its first connection, is no part of the waiting.
    find_account("cloudhpc_default")
    limit = options.limit if options.scheme != "naive" else 0
    there.ask("set_quota", {"hourly_limit": limit, "window": options.window})
    lengths = durations(options.scenario, options.waits, options.hours)
    ids = there.ask("make", lengths)
    ends = {identifier: there.about["now"] + 1 + length for identifier, length in zip(ids, lengths, strict=True)}
    workers = Workers(there)
    clock = SimulatedClock(workers.jump, there.about["now"])
    done: dict[int, float] = {}
    samples: list[float] = []
    cpu = time.process_time()
    if options.scheme == "naive":
        tasks, actors = await naive(ids, clock, done, workers)
    else:
        tasks, actors = await ours(ids, clock, done, workers, options.triggerers)

    watcher = asyncio.create_task(lag(samples, workers))
    hourly = []
    for _ in range(int(options.hours)):
        await clock.advance(3600.0, actors)
        hourly.append(there.ask("calls", None)["calls"] - sum(hourly))
    steady = there.ask("calls", None)["calls"]
    for _ in range(6 * MOST_HOURS):
        if len(workers.read) == len(ids):
            break
        await clock.advance(600.0, actors)
    cpu = time.process_time() - cpu
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    delays = sorted(done[identifier] - ends[identifier] for identifier in done)
    for task in tasks:
        task.cancel()
    counted = there.ask("calls", None)
    return {
        "calls": counted["calls"],
        "calls_before_the_ends": steady if options.scenario == "steady" else None,
        "calls_by_hour": hourly,
        "refused": counted["refused"],
        "delivered": len(done),
        "outputs_read": sum(workers.read.values()),
        "all_read_after_h": round((clock.time() - there.about["now"]) / 3600, 1),
        "delay_p50_s": round(statistics.median(delays), 1) if delays else None,
        "delay_p99_s": round(delays[int(0.99 * (len(delays) - 1))], 1) if delays else None,
        "cpu_s": round(cpu, 2),
        "lag_p99_ms": round(sorted(samples)[int(0.99 * (len(samples) - 1))], 2) if samples else None,
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def one_run(options: argparse.Namespace) -> None:
    with service() as there:
        about = {"conn_type": "cloudhpc", "host": there.about["url"], "password": there.about["key"]}
        os.environ["AIRFLOW_CONN_CLOUDHPC_DEFAULT"] = json.dumps(about)
        print(json.dumps(asyncio.run(run(options, there))), flush=True)


# -- all of them --------------------------------------------------------------------------------------------------


def measure(**options: Any) -> dict[str, Any]:
    arguments = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, __file__, "--one", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def ratio(other: float, mine: float) -> float | None:
    return round(other / mine, 1) if mine else None


def everything(options: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for waits in options.waits_list:
        for scenario in ("steady", "ending"):
            common = {"waits": waits, "scenario": scenario, "hours": options.hours}
            theirs = measure(scheme="naive", **common)
            for limit in (100, 500):
                mine = measure(scheme="ours", limit=limit, **common)
                count = "calls_before_the_ends" if scenario == "steady" else "calls"
                row = {
                    "waits": waits,
                    "scenario": scenario,
                    "limit": limit,
                    "ours": mine,
                    "naive": theirs,
                    "calls_ratio": ratio(theirs[count], mine[count]),
                    "cpu_ratio": ratio(theirs["cpu_s"], mine["cpu_s"]),
                }
                rows.append(row)
                print(
                    f"{waits:5d} waits, {scenario}, {limit}/h: {mine[count]} calls, naive {theirs[count]} "
                    f"(x{row['calls_ratio']}), refused {mine['refused']}, delivered {mine['delivered']}, "
                    f"read {mine['outputs_read']} after {mine['all_read_after_h']} h, delay p50/p99 "
                    f"{mine['delay_p50_s']}/{mine['delay_p99_s']} s (naive {theirs['delay_p50_s']}/"
                    f"{theirs['delay_p99_s']}), CPU {mine['cpu_s']} s (naive {theirs['cpu_s']}), lag p99 "
                    f"{mine['lag_p99_ms']} ms, RSS {mine['rss_mb']} MB",
                    flush=True,
                )
    shared = {"waits": 60, "scenario": "steady", "hours": 4, "limit": 100, "scheme": "ours", "triggerers": 2}
    two = {window: measure(window=window, **shared) for window in ("fixed", "rolling")}
    print("Two triggerers on 100/h:", {window: (run["calls_by_hour"], run["refused"]) for window, run in two.items()})
    return {"interval_s": INTERVAL, "rows": rows, "two_triggerers": two}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, last")
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--waits", type=int, help="run only with so many waits")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scheme", choices=("ours", "naive"), default="ours", help=argparse.SUPPRESS)
    parser.add_argument("--scenario", choices=("steady", "ending"), default="steady", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, default=500, help=argparse.SUPPRESS)
    parser.add_argument("--window", choices=("fixed", "rolling"), default="rolling", help=argparse.SUPPRESS)
    parser.add_argument("--triggerers", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.one:
        one_run(options)
    else:
        options.waits_list = [options.waits] if options.waits else [1, 10, 100, 1000]
        result = everything(options)
        if options.json:
            print(json.dumps(result))


if __name__ == "__main__":
    main()
