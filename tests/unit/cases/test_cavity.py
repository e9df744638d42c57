# SPDX-License-Identifier: Apache-2.0
"""The cavity case computes the flow that the literature has."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

CASE = Path(__file__).parents[3] / "example_dags/cases/cavity_python/cavity.py"


@pytest.fixture(scope="module")
def cavity():
    spec = importlib.util.spec_from_file_location("cavity", CASE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def coarse(cavity):
    return cavity.solve(32, tolerance=1e-6)


def run(tmp_path, *arguments):
    """The case as the service runs it."""
    return subprocess.run(
        [sys.executable, CASE, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )


def test_centrelines_agree_with_ghia(cavity, coarse):
    psi, _, _ = coarse
    u, v = cavity.compare_with_ghia(*cavity.velocities(psi))
    assert u < 0.02
    assert v < 0.02


def test_a_finer_grid_is_nearer_to_ghia(cavity, coarse):
    u, _ = cavity.compare_with_ghia(*cavity.velocities(coarse[0]))
    start = cavity.refine(coarse[0]), cavity.refine(coarse[1])
    fine, _, _ = cavity.solve(64, tolerance=1e-5, start=start)
    finer_u, finer_v = cavity.compare_with_ghia(*cavity.velocities(fine))
    assert finer_u < 0.004 < u
    assert finer_v < 0.008


def test_primary_vortex_is_where_ghia_has_it(cavity, coarse):
    vortex = cavity.primary_vortex(*coarse[:2])
    assert vortex["x"] == pytest.approx(0.6172, abs=1 / 32)
    assert vortex["y"] == pytest.approx(0.7344, abs=1 / 32)
    assert vortex["psi"] == pytest.approx(-0.1034, abs=0.004)


def test_solution_satisfies_the_equations(cavity, coarse):
    """The residual is not only said: both equations hold in every inner node, the wall's vorticity too."""
    psi, omega, history = coarse
    n, h = 32, 1 / 32
    u, v = cavity.velocities(psi)
    worst_psi = worst_omega = 0.0
    for j in range(1, n):
        for i in range(1, n):
            laplace = lambda f: (f[j][i + 1] + f[j][i - 1] + f[j + 1][i] + f[j - 1][i] - 4 * f[j][i]) / h**2  # noqa: B023, E731
            worst_psi = max(worst_psi, abs(laplace(psi) + omega[j][i]))
            x = (omega[j][i + 1] - omega[j][i - 1]) / (2 * h)
            y = (omega[j + 1][i] - omega[j - 1][i]) / (2 * h)
            worst_omega = max(worst_omega, abs(u[j][i] * x + v[j][i] * y - laplace(omega) / 100))
    assert max(history[-1][1:]) < 1e-6
    assert worst_psi < 1e-3
    assert worst_omega < 1e-3


def test_a_diverging_flow_is_an_error(cavity):
    with pytest.raises(ArithmeticError, match="diverged"):
        cavity.solve(16, reynolds=1e6)


def test_refine_keeps_linear_fields(cavity):
    field = [[2.0 * i + 3.0 * j for i in range(5)] for j in range(5)]
    assert cavity.refine(field) == [[i + 1.5 * j for i in range(9)] for j in range(9)]


def test_files_of_a_whole_run(tmp_path):
    ran = run(tmp_path, "--cells", "32")
    results = tmp_path / "results"
    summary = json.loads((results / "summary.json").read_text())
    assert summary["converged"]
    assert summary["residual"] < 1e-6
    assert "residual psi" in ran.stdout
    with (results / "fields.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 33 * 33
    with (results / "centreline_u.csv").open() as stream:
        rows = [(float(row["y"]), float(row["u"])) for row in csv.DictReader(stream)]
    assert rows[0] == (0, 0)
    assert rows[-1] == (1, 1)
    assert min(u for _, u in rows) == pytest.approx(-0.21, abs=0.02)


def test_the_picture_is_a_whole_png(tmp_path):
    run(tmp_path, "--cells", "16")
    data = (tmp_path / "results/velocity.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        chunks[body[:4]] = body[4:]
        at += 12 + length
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == height * (1 + 3 * width)
    assert len(set(pixels)) > 100  # not blank


def test_sigterm_keeps_what_there_is(tmp_path):
    """A soft stop: the iteration is ended, the results are written and say that they have not converged."""
    process = subprocess.Popen(
        [sys.executable, "-u", CASE, "--cells", "128"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("iteration"):
            os.kill(process.pid, signal.SIGTERM)
            break
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((tmp_path / "results/summary.json").read_text())["converged"] is False
