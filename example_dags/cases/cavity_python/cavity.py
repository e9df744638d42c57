# SPDX-License-Identifier: Apache-2.0
"""
Lid-driven cavity flow, Re = 100, in pure Python: a case for cloudHPC's ``custom-script``.

A square box of fluid whose lid slides at unit speed. The steady Navier-Stokes equations in stream function and
vorticity, second-order central differences on a uniform grid, Thom's wall vorticity; Gauss-Seidel sweeps with
over-relaxation, first on coarse grids, whose solution starts the finer one. The profiles along the centrelines are
compared with Ghia, Ghia & Shin (J. Comp. Phys. 48, 1982).

Written to ``results/``: ``summary.json``, ``residuals.csv``, ``fields.csv``, ``centreline_u.csv``,
``centreline_v.csv``, ``velocity.png``. Needs Python 3.10 or newer and nothing else. SIGTERM ends it after the current
iteration, results kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import signal
import struct
import time
import zlib
from itertools import pairwise
from pathlib import Path

#: Ghia et al. (1982), table I, Re = 100: (y, u) on the vertical centreline, walls left out.
GHIA_U = (
    (0.9766, 0.84123), (0.9688, 0.78871), (0.9609, 0.73722), (0.9531, 0.68717), (0.8516, 0.23151),
    (0.7344, 0.00332), (0.6172, -0.13641), (0.5000, -0.20581), (0.4531, -0.21090), (0.2813, -0.15662),
    (0.1719, -0.10150), (0.1016, -0.06434), (0.0703, -0.04775), (0.0625, -0.04192), (0.0547, -0.03717),
)  # fmt: skip
#: The same, table II: (x, v) on the horizontal centreline.
GHIA_V = (
    (0.9688, -0.05906), (0.9609, -0.07391), (0.9531, -0.08864), (0.9453, -0.10313), (0.9063, -0.16914),
    (0.8594, -0.22445), (0.8047, -0.24533), (0.5000, 0.05454), (0.2344, 0.17527), (0.2266, 0.17507),
    (0.1563, 0.16077), (0.0938, 0.12317), (0.0781, 0.10890), (0.0703, 0.10091), (0.0625, 0.09233),
)  # fmt: skip


class Stop:
    """Becomes true when somebody asks the program to end."""

    def __init__(self):
        self.asked = False

    def ask(self, *_):
        self.asked = True


# --- flow; a field is a list of rows (y, upwards) of floats (x) ----------------------------------------------------


def solve(cells, reynolds=100.0, tolerance=1e-6, max_iterations=20000, start=None, stop=None, log_every=0):
    """
    Steady flow on one grid.

    :param cells: intervals in each direction
    :param reynolds: lid speed * side / viscosity
    :param tolerance: for the largest imbalance of either equation in any node, where the lid's speed and the side are 1
    :param start: (psi, omega) on this grid to start from; default: fluid at rest
    :param stop: a :class:`Stop` to look at after each iteration
    :param log_every: iterations between two printed lines; 0: silent
    :return: psi, omega, and the history as a list of (iteration, residual of psi, residual of omega)
    """
    n, h = cells, 1.0 / cells
    psi, omega = start or ([[0.0] * (n + 1) for _ in range(n + 1)] for _ in range(2))
    h2, wall, quarter_re = h * h, -2.0 / (h * h), reynolds / 4.0
    over = 2.0 / (1.0 + math.sin(math.pi * h))  # optimal for Poisson's equation on this grid
    over = 1.0 + 0.93 * (over - 1.0)  # a little less: the vorticity under it moves
    under = 0.9  # for the vorticity: convection and the wall's lag make it stiffer
    history = []
    for iteration in range(1, max_iterations + 1):
        worst_psi = worst_omega = 0.0
        for j in range(1, n):
            below, row, above, vorticity = psi[j - 1], psi[j], psi[j + 1], omega[j]
            west = row[0]
            for i in range(1, n):
                old = row[i]
                change = 0.25 * (west + row[i + 1] + below[i] + above[i] + h2 * vorticity[i]) - old
                row[i] = west = old + over * change
                if change > worst_psi or -change > worst_psi:
                    worst_psi = abs(change)
        for i in range(1, n):
            omega[0][i] = wall * psi[1][i]
            omega[n][i] = wall * psi[n - 1][i] - 2.0 / h  # the lid slides
            omega[i][0] = wall * psi[i][1]
            omega[i][n] = wall * psi[i][n - 1]
        for j in range(1, n):
            psi_s, psi_c, psi_n = psi[j - 1], psi[j], psi[j + 1]
            below, row, above = omega[j - 1], omega[j], omega[j + 1]
            west = row[0]
            for i in range(1, n):
                old, east, north, south = row[i], row[i + 1], above[i], below[i]
                convection = (psi_n[i] - psi_s[i]) * (east - west) - (psi_c[i + 1] - psi_c[i - 1]) * (north - south)
                change = 0.25 * (east + west + north + south - quarter_re * convection) - old
                row[i] = west = old + under * change
                if change > worst_omega or -change > worst_omega:
                    worst_omega = abs(change)
        residuals = worst_psi * n, worst_omega  # psi's over a cell: a velocity
        history.append((iteration, *residuals))
        done = max(residuals) < tolerance or (stop is not None and stop.asked)
        if not math.isfinite(sum(residuals)):
            raise ArithmeticError(f"diverged in iteration {iteration}")
        if log_every and (done or iteration % log_every == 0):
            print(f"iteration {iteration:5d}  residual psi {residuals[0]:.3e}  omega {residuals[1]:.3e}", flush=True)
        if done:
            break
    return psi, omega, history


def blend(first, second, t):
    """Linear interpolation between two sequences, element by element."""
    return [a + t * (b - a) for a, b in zip(first, second, strict=True)]


def refine(field):
    """Bilinear interpolation onto the grid with twice as many cells."""
    wide = []
    for row in field:
        fine = [row[0]]
        for left, right in pairwise(row):
            fine += [0.5 * (left + right), right]
        wide.append(fine)
    tall = [wide[0]]
    for lower, upper in pairwise(wide):
        tall += [blend(lower, upper, 0.5), upper]
    return tall


def velocities(psi):
    """Velocity components from the stream function; the walls at rest, the lid at unit speed."""
    n = len(psi) - 1
    u = [[0.0] * (n + 1) for _ in range(n)] + [[1.0] * (n + 1)]
    v = [[0.0] * (n + 1) for _ in range(n + 1)]
    for j in range(1, n):
        for i in range(1, n):
            u[j][i] = (psi[j + 1][i] - psi[j - 1][i]) * n / 2.0
            v[j][i] = (psi[j][i - 1] - psi[j][i + 1]) * n / 2.0
    return u, v


def profile_at(values, place):
    """Value of a profile over [0, 1] at a place, through the four nearest nodes (cubic)."""
    n = len(values) - 1
    first = min(max(int(place * n) - 1, 0), n - 3)
    total = 0.0
    for k in range(first, first + 4):
        weight = 1.0
        for m in range(first, first + 4):
            if m != k:
                weight *= (place * n - m) / (k - m)
        total += weight * values[k]
    return total


def compare_with_ghia(u, v):
    """Largest differences from the reference profiles: (of u, of v), in units of the lid's speed."""
    middle = len(u) // 2
    vertical, horizontal = [row[middle] for row in u], v[middle]
    return (
        max(abs(profile_at(vertical, y) - value) for y, value in GHIA_U),
        max(abs(profile_at(horizontal, x) - value) for x, value in GHIA_V),
    )


def primary_vortex(psi, omega):
    """Centre of the vortex: the node where the stream function is smallest."""
    n = len(psi) - 1
    value, j, i = min((psi[j][i], j, i) for j in range(n + 1) for i in range(n + 1))
    return {"x": i / n, "y": j / n, "psi": value, "omega": omega[j][i]}


# --- picture ------------------------------------------------------------------------------------------------------

#: Colours of the scale from slow to fast (viridis).
SCALE = (
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
)  # fmt: skip
#: Values of the stream function that are drawn, dense where the corner eddies are.
LEVELS = (-0.1, -0.09, -0.07, -0.05, -0.03, -0.01, -1e-3, -1e-4, 1e-6, 5e-6)
#: A 5 x 7 font: seven rows of five bits for each letter that is used.
FONT = {
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e", "4": "02060a121f0202",
    "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e", "9": "0e11110f01020c",
    ".": "00000000000c0c", "=": "00001f001f0000", "x": "0000110a040a11", " ": "00000000000000", "R": "1e11111e141211",
    "e": "00000e111f100e", "s": "00000e100e011e", "p": "00001e111e1010", "d": "01010d1311110f", "g": "00000f110f010e",
    "r": "00001619101010", "i": "04000c0404040e", "/": "00010204081000", "l": "0c04040404040e", "c": "00000e1010110e",
    "a": "00000e010f110f", "v": "00001111110a04", "t": "08081c08080906", "y": "0000110a040810", ",": "00000000040408",
    "n": "00001619111111", "-": "0000001f000000",
}  # fmt: skip


def colour(fraction):
    """Colour of the scale at a fraction in [0, 1]."""
    place = min(max(fraction, 0.0), 1.0) * (len(SCALE) - 1)
    k = min(int(place), len(SCALE) - 2)
    t = place - k
    return blend(SCALE[k], SCALE[k + 1], t)


def write_text(image, x, y, text, size=2, ink=(40, 40, 40)):
    """Put text into an image (rows of RGB bytes), its upper left corner at x, y."""
    for position, letter in enumerate(text):
        bits = bytes.fromhex(FONT[letter])
        for row in range(7 * size):
            for column in range(5 * size):
                if bits[row // size] >> (4 - column // size) & 1:
                    at = 3 * (x + position * 6 * size + column)
                    image[y + row][at : at + 3] = bytes(ink)


def draw(u, v, psi, title, pixels=576, fastest=0.6):
    """
    Speed in colour, streamlines in white, a scale beside.

    :param pixels: side of the square
    :param fastest: speed from which on everything has the last colour (only the layer under the lid is faster)
    :return: rows of RGB bytes
    """
    n = len(u) - 1
    left, top, right, bottom = 20, 48, 110, 20
    width = left + pixels + right
    image = [bytearray(b"\xff" * (3 * width)) for _ in range(top + pixels + bottom)]
    speed = [list(map(math.hypot, row_u, row_v)) for row_u, row_v in zip(u, v, strict=True)]
    for row in range(pixels):
        y = (1.0 - (row + 0.5) / pixels) * n
        j = min(int(y), n - 1)
        t = y - j
        # Interpolate the row once, then along it.
        fast = blend(speed[j], speed[j + 1], t)
        stream = blend(psi[j], psi[j + 1], t)
        line = image[top + row]
        for column in range(pixels):
            x = (column + 0.5) / pixels * n
            i = min(int(x), n - 1)
            s = x - i
            magnitude = fast[i] + s * (fast[i + 1] - fast[i])
            value = stream[i] + s * (stream[i + 1] - stream[i])
            # The stream function's gradient is the speed: so this is a distance in pixels, and the line is smooth.
            reach = max(magnitude, 1e-6) / pixels
            distance = min(abs(value - level) for level in LEVELS) / reach
            red, green, blue = colour(magnitude / fastest)
            white = 0.75 * min(max(1.4 - distance, 0.0), 1.0)
            at = 3 * (left + column)
            line[at : at + 3] = bytes(round(c + white * (255 - c)) for c in (red, green, blue))
    scale = left + pixels + 24
    for row in range(pixels):
        image[top + row][3 * scale : 3 * (scale + 20)] = bytes(map(round, colour(1.0 - row / pixels))) * 20
    ticks = round(fastest * 10)
    for tick in range(ticks + 1):
        y = top + round((pixels - 1) * (1 - tick / ticks))
        image[y][3 * (scale + 20) : 3 * (scale + 26)] = bytes((40, 40, 40)) * 6
        write_text(image, scale + 32, min(max(y - 7, top), top + pixels - 14), f"{tick / 10:.1f}")
    write_text(image, left, 18, title)
    write_text(image, scale, 18, "speed")
    return image


def png(image):
    """An image (rows of RGB bytes) as a PNG file's bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(image[0]) // 3, len(image), 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in image), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# --- files --------------------------------------------------------------------------------------------------------


def write_csv(path, header, rows):
    """Write rows under a header."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def main():
    """Solve from coarse to fine, compare, write the results."""
    parser = argparse.ArgumentParser(description="Lid-driven cavity flow")
    parser.add_argument("--cells", type=int, default=64, help="intervals in each direction, 16 times a power of 2")
    parser.add_argument("--reynolds", type=float, default=100.0)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--output", type=Path, default=Path("results"))
    options = parser.parse_args()
    grids = [options.cells]
    while grids[0] > 16 and grids[0] % 2 == 0:
        grids.insert(0, grids[0] // 2)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.ask)

    began, start, residuals = time.perf_counter(), None, []
    for cells in grids:
        print(f"grid {cells} x {cells}, Re = {options.reynolds:g}", flush=True)
        tolerance = options.tolerance if cells == options.cells else 1e-3
        psi, omega, history = solve(cells, options.reynolds, tolerance, start=start, stop=stop, log_every=50)
        residuals += [(cells, *row) for row in history]
        if cells == options.cells or stop.asked:
            break
        start = refine(psi), refine(omega)
    u, v = velocities(psi)
    reached = max(history[-1][1:])
    summary = {
        "case": "lid-driven cavity",
        "reynolds": options.reynolds,
        "cells": cells,
        "iterations": len(residuals),
        "residual": reached,
        "tolerance": options.tolerance,
        "converged": cells == options.cells and reached < options.tolerance,
        "vortex": primary_vortex(psi, omega),
        "seconds": round(time.perf_counter() - began, 2),
    }
    if options.reynolds == 100.0:
        summary["difference_from_ghia"] = dict(zip("uv", compare_with_ghia(u, v), strict=True))

    out, n = options.output, cells
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_csv(out / "residuals.csv", ("grid", "iteration", "psi", "omega"), residuals)
    nodes = [(j, i) for j in range(n + 1) for i in range(n + 1)]
    fields = [(i / n, j / n, *(f"{f[j][i]:.6g}" for f in (u, v, psi, omega))) for j, i in nodes]
    write_csv(out / "fields.csv", ("x", "y", "u", "v", "psi", "omega"), fields)
    write_csv(out / "centreline_u.csv", ("y", "u"), [(j / n, f"{u[j][n // 2]:.6g}") for j in range(n + 1)])
    write_csv(out / "centreline_v.csv", ("x", "v"), [(i / n, f"{v[n // 2][i]:.6g}") for i in range(n + 1)])
    title = f"lid-driven cavity, Re = {options.reynolds:g}, {n} x {n} cells"
    (out / "velocity.png").write_bytes(png(draw(u, v, psi, title)))
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
