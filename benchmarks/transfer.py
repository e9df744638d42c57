# SPDX-License-Identifier: Apache-2.0
"""
Uploads and downloads beside what the service's own page tells its users to run: ``curl -T`` and ``wget``.

nginx on loopback takes and gives the bytes, over http and https, and names their CRC32C as the real store does: ours
checks it, the others do not. Runs are interleaved and each is a process of its own, imports included; ``inner`` is the
call alone. Ratios are of medians, ours over theirs: below 1 we are faster; ``pair_ratio`` is the median over pairs of
neighbours, which a machine that changes its speed within a series cannot bend. It is a limit of the CPU; on a network
of 1 Gbit/s the difference is CPU time.

What is uploaded is stored once and compared; then it is read and thrown away, since nginx takes longer to store than
either client to send. ``server_share`` is nginx's CPU time over the call alone: near 1 both wait for the server.

    python benchmarks/transfer.py --json

Needs nginx (with its WebDAV module), curl, wget and openssl. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from operator import truediv
from pathlib import Path

from airflow_provider_cloudhpc.api.transfer.checksums import cheapest, hash_of

CHILD = """
import sys, time
from pathlib import Path
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions
from airflow_provider_cloudhpc.api.transfer.sources import FileSource
from airflow_provider_cloudhpc.api.transfer.signed_urls import Transfer
way, url, path, bundle = sys.argv[1:]
transfer = Transfer(NetworkOptions(ca_bundle=bundle), attempts=1)
begun = time.perf_counter()
if way == "upload":
    done = transfer.upload(lambda: url, FileSource(Path(path)))
else:
    done = transfer.download(lambda: url, Path(path))
print(time.perf_counter() - begun)
assert done.proven
"""

NGINX = """
daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log; worker_processes 1; {user}
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; tcp_nopush on; client_max_body_size 0; client_body_buffer_size 1m;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; ssl_protocols TLSv1.3;
  server {{
    listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl;
    root {dir}/www; dav_methods PUT; add_header x-goog-hash "{hash}" always;
    location = /sink {{ return 200; }}
  }}
}}
"""


#: An installed package has its bytecode beside it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nginx(base: Path, named_hash: str) -> Iterator[tuple[dict[str, str], int]]:
    """Serve ``base/www``; give the addresses by scheme, and the process."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", base / "key.pem"]
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-out", base / "cert.pem", "-days", "2", *subject],
        check=True,
        capture_output=True,
    )
    ports = {"http": free_port(), "https": free_port()}
    user = "user root;" if os.geteuid() == 0 else ""
    (base / "nginx.conf").write_text(NGINX.format(dir=base, user=user, hash=named_hash, **ports))
    server = subprocess.Popen(["nginx", "-p", base, "-c", base / "nginx.conf", "-e", base / "error.log"])
    try:
        for port in ports.values():
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
        yield {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}, server.pid
    finally:
        server.terminate()
        server.wait(10)


def cpu_of(master: int) -> float:
    """Give the CPU seconds that nginx's worker has had."""
    worker = Path(f"/proc/{master}/task/{master}/children").read_text().split()[0]
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command: list[str | Path]) -> tuple[float, float, float]:
    """Run a process; give its wall time, its CPU time, and the time of its work alone if it prints it, in seconds."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, float(done.stdout) if done.stdout.strip() else wall


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    parser.add_argument("--runs", type=int, default=5, help="of each variant")
    parser.add_argument("--megabytes", type=int, default=1000)
    memory = Path("/dev/shm")
    room = memory.is_dir() and shutil.disk_usage(memory).free > 6_000_000_000
    parser.add_argument("--dir", default=str(memory) if room else tempfile.gettempdir(), help="default: %(default)s")
    options = parser.parse_args()
    for tool in ("nginx", "curl", "wget", "openssl"):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is not installed")

    results: dict[str, object] = {
        "cpus": os.cpu_count(),
        "runs": options.runs,
        "megabytes": options.megabytes,
        "hash": cheapest(),
        "dir": options.dir,
    }
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        base = Path(name)
        (base / "www").mkdir()
        data = base / "www" / "object"
        with data.open("wb") as file:
            for _ in range(options.megabytes):
                file.write(os.urandom(1_000_000))
        with data.open("rb") as file:
            named_hash = f"{cheapest()}={hash_of(file, cheapest())}"
        with nginx(base, named_hash) as (addresses, server):
            for way in ("upload", "download"):
                for scheme, address in addresses.items():
                    results[f"{way} {scheme}"] = compare(way, address, base, data, options.runs, server)
    if not options.json:
        for what, numbers in results.items():
            print(f"{what:16}", numbers)
    print(json.dumps(results))


def warm(out: Path) -> None:
    """
    Have the kernel take as much memory as a download needs, and free it again.

    A virtual machine may have given free pages back to its host, and who touches them next pays for their return: up
    to two seconds a GB, at random.
    """
    block = bytes(1 << 20)
    with out.open("wb", buffering=0) as file:
        for _ in range(1200):
            file.write(block)
    out.unlink()


def compare(way: str, address: str, base: Path, data: Path, runs: int, server: int) -> dict[str, object]:
    """Run theirs and ours in turns, after one of each whose bytes are compared."""
    bundle, stored, out = base / "cert.pem", base / "www" / "put", base / "out"
    made = stored if way == "upload" else out

    def commands(name: str) -> dict[str, list[str | Path]]:
        ours = [sys.executable, "-c", CHILD, way, f"{address}/{name}"]
        if way == "upload":
            header = "Content-Type: application/octet-stream"
            curl = ["curl", "-sSf", "--cacert", bundle, "-H", header, "-T", data, f"{address}/{name}"]
            return {"theirs": curl, "ours": [*ours, data, bundle]}
        wget = ["wget", "-q", f"--ca-certificate={bundle}", "-O", out, f"{address}/{name}"]
        return {"theirs": wget, "ours": [*ours, out, bundle]}

    for who, command in commands("put" if way == "upload" else "object").items():
        measure(command)
        if not filecmp.cmp(made, data, shallow=False):
            raise SystemExit(f"{who}: {made} is not what was sent")
        made.unlink()
    walls: dict[str, list[float]] = {"theirs": [], "ours": []}
    cpus: dict[str, list[float]] = {"theirs": [], "ours": []}
    inner: list[float] = []
    served: list[float] = []
    for _ in range(runs):
        for who, command in commands("sink" if way == "upload" else "object").items():
            out.unlink(missing_ok=True)
            warm(out)
            before = cpu_of(server)
            wall, cpu, alone = measure(command)
            walls[who].append(wall)
            cpus[who].append(cpu)
            if who == "ours":
                inner.append(alone)
                served.append((cpu_of(server) - before) / alone)
    out.unlink(missing_ok=True)
    reference = statistics.median(walls["theirs"])
    return {
        "their_seconds": round(reference, 3),
        "our_seconds": round(statistics.median(walls["ours"]), 3),
        "ratio": round(statistics.median(walls["ours"]) / reference, 3),
        "ratio_spread": [round(min(walls["ours"]) / reference, 3), round(max(walls["ours"]) / reference, 3)],
        "pair_ratio": round(statistics.median(map(truediv, walls["ours"], walls["theirs"])), 3),
        "inner_ratio": round(statistics.median(inner) / reference, 3),
        "server_share": round(statistics.median(served), 2),
        "cpu_ratio": round(statistics.median(cpus["ours"]) / statistics.median(cpus["theirs"]), 3),
    }


if __name__ == "__main__":
    main()
