# SPDX-License-Identifier: Apache-2.0
"""``openFoam-*``: the case's ``Allrun``, else its ``application``, where OpenFOAM is installed (Debian: openfoam)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.solvers.machine import processes
from airflow_provider_cloudhpc.emulator.solvers.process import ProcessRun
from airflow_provider_cloudhpc.emulator.solvers.results import pack

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.solvers.base import Case, Run

#: Where Debian has it; the environment's own (another installation, its ``bashrc`` sourced) wins.
_DEBIAN = Path("/usr/share/openfoam")
#: Seconds that a soft stop leaves the solver to notice the changed controlDict, before SIGTERM.
_PATIENCE = 30
#: How much of the end of a log is searched for errors, and how many lines are shown from the first error on: what MPI
#: has to say about it comes after it, and is long.
_TAIL_BYTES, _SHOWN_LINES = 64 * 1024, 40
_FATAL = re.compile(r"FOAM FATAL|Foam::sigFpe")

_DRIVER = Path(__file__).with_name("openfoam_run.sh")
_FUNCTIONS = Path(__file__).with_name("openfoam_functions.sh")
_STOP_AT = re.compile(r"^(\s*stopAt\s+)\w+(\s*;)", re.MULTILINE)


def _entry(dictionary: Path, key: str) -> str | None:
    """Value of an entry ``key value;`` of an OpenFOAM dictionary, None where there is none."""
    with contextlib.suppress(OSError):
        found = re.search(rf"^\s*{key}\s+([\w.+-]+)\s*;", dictionary.read_text(errors="replace"), re.MULTILINE)
        return found.group(1) if found else None
    return None


def _subdomains(case: Case) -> int:
    """``numberOfSubdomains``, 0 where it is not said."""
    said = _entry(case.workdir / "system/decomposeParDict", "numberOfSubdomains") or ""
    return int(said) if said.isdecimal() else 0


def available() -> bool:
    """Whether OpenFOAM is on this machine."""
    return shutil.which("icoFoam") is not None and ("WM_PROJECT_DIR" in os.environ or _DEBIAN.is_dir())


def refusal(case: Case) -> str | None:
    """What the platform says instead of starting the solver, None where it starts."""
    system = case.workdir / "system"
    if not (system / "controlDict").is_file():
        return "Cannot find system/controlDict"
    if processes(case) < 2:
        return f"openFoam script runs with nProc > 1: {case.cpu} vCPU of {case.ram} give nProc = 1"
    if (system / "decomposeParDict").is_file() and not 1 < _subdomains(case) <= processes(case):
        return f"incorrect decomposeParDict file: numberOfSubdomains {_subdomains(case)}, nProc {processes(case)}"
    if not (case.workdir / "Allrun").is_file() and _entry(system / "controlDict", "application") is None:
        return "no Allrun, and no application in system/controlDict"
    return None


def _environment(case: Case) -> dict[str, str]:
    """What OpenFOAM's programs and scripts look for."""
    kept = {k: v for k, v in os.environ.items() if k.startswith(("WM_", "FOAM_")) or k == "LD_LIBRARY_PATH"}
    if "WM_PROJECT_DIR" in kept:
        kept["PATH"] = os.environ["PATH"]
    else:  # Debian leaves out the functions that every Allrun sources
        root = case.private / "openfoam"
        (root / "bin/tools").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_FUNCTIONS, root / "bin/tools/RunFunctions")
        if not (root / "etc").exists():
            (root / "etc").symlink_to(_DEBIAN / "etc")
        kept["WM_PROJECT_DIR"] = str(root)
    # Open MPI refuses to work for root, and wants to be asked twice.
    return {
        **kept,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMP_NUM_THREADS": "1",
    }


def start(case: Case) -> Run:
    """
    Run the case.

    :param case: what to run; :func:`refusal` has nothing against it
    """
    mesh = case.mesh_dir / "constant/polyMesh" if case.mesh_dir else None
    if mesh and mesh.is_dir():
        shutil.copytree(mesh, case.workdir / "constant/polyMesh", dirs_exist_ok=True)
    if (case.workdir / "Allrun").is_file():
        command = ["/bin/bash", "./Allrun"]
    else:
        application = _entry(case.workdir / "system/controlDict", "application")
        assert application, "refusal() looked"
        command = ["/bin/bash", str(_DRIVER), application, str(_subdomains(case))]
    return OpenFoamRun(case, command, mesh_missing=bool(mesh and not mesh.is_dir()))


class OpenFoamRun(ProcessRun):
    """
    OpenFOAM at work.

    :param case: what to run
    :param command: how
    :param mesh_missing: whether a mesh folder was named that holds no mesh
    """

    def __init__(self, case: Case, command: list[str], *, mesh_missing: bool) -> None:
        self._control = case.workdir / "system/controlDict"
        self._control_before = self._control.read_text(errors="replace")
        self._stopping = False
        gentle = _entry(self._control, "runTimeModifiable") not in {"no", "false", "off", "n", "f"}
        super().__init__(
            case, command, archive="OPENFOAM-solution.tar.gz", env=_environment(case),
            soft_patience=_PATIENCE if gentle else 0,
        )  # fmt: skip
        if mesh_missing:
            self._lines += "@@@ WARNING: polyMesh folder not found in the mesh folder\n"

    def soft_stop(self) -> None:
        """Ask the solver to write and stop after its time step; one that does not look is ended by SIGTERM."""
        with self._lock:
            if self._code is None and not self._stopping:
                self._stopping = True
                text, times = _STOP_AT.subn(r"\g<1>writeNow\2", self._control_before)
                self._control.write_text(text if times else f"{text}\nstopAt writeNow;\n")
                # A change is only noticed where the file is newer by more than fileModificationSkew (10 s).
                later = time.time() + 60
                os.utime(self._control, (later, later))
        super().soft_stop()

    def verdict(self, code: int, reason: str, log: str) -> str:
        """An Allrun may end with 0 whatever its programs did: their logs are looked at, and shown where they failed."""
        if self._stopping:
            self._control.write_text(self._control_before)
            reason = "soft" if reason == "exit" else reason
        shown = ""
        for path in self.case.files("log.*"):
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                text = stream.read().decode(errors="replace")
            lines = text.splitlines()
            first = next((number for number, line in enumerate(lines) if _FATAL.search(line)), None)
            if first is not None:
                told = "\n".join(lines[first : first + _SHOWN_LINES])
                shown += f"@@@ FROM {path.name}:\n{told}\n@@@ ERROR: {path.name} ends with an error\n"
        return shown + super().verdict(code, reason, log)

    def pack_results(self, target: Path) -> list[Path]:
        """Three archives: what was computed, ``constant`` and ``system`` as they are now."""
        changed = self.changed_files()
        solution = [name for name in changed if not name.startswith(("constant/", "system/"))]
        packed = pack(self.case.workdir, solution, target / "OPENFOAM-solution.tar.gz", extra=self.log_file())
        for name in ("constant", "system"):
            paths = [p.relative_to(self.case.workdir) for p in sorted((self.case.workdir / name).rglob("*"))]
            files = [
                str(p) for p in paths if (self.case.workdir / p).is_file() and not (self.case.workdir / p).is_symlink()
            ]
            packed += pack(self.case.workdir, files, target / f"OPENFOAM-{name}.tar.gz")
        return packed
