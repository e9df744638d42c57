# SPDX-License-Identifier: Apache-2.0
"""Rented machines: a case is laid out on one, a solver works there, results are saved from it, and all of it goes."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.emulator import workdir
from airflow_provider_cloudhpc.emulator.solvers import RefusedRun, Run, start_run

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.blobs import Blob, BlobStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """
    What a folder of the storage brings to a machine.

    :param folder: its name
    :param files: every file: its name inside the folder, and where its bytes are; None where there is no such folder
    :param archive: file name and bytes of an archive in the storage's root that is named like the folder, if any
    """

    folder: str
    files: list[tuple[PurePosixPath, Path]] | None
    archive: tuple[str, Path] | None = None


class Machine:
    """
    One machine, for one start of one simulation.

    :param directory: all that is on it
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.run: Run | None = None
        #: Whether its end is being dealt with.
        self.collecting = False
        self._gone = False
        self._saving = asyncio.Lock()
        self._save_asked = False

    async def start(self, case: Input, mesh: Input | None, **options: Any) -> None:
        """
        Lay out the case and start the solver; both may take a while, so in a thread. Whatever goes wrong is said by the
        run.

        :param options: what :func:`~airflow_provider_cloudhpc.emulator.solvers.start_run` takes
        """
        run = await asyncio.to_thread(self._start, case, mesh, options)
        if self._gone:  # it was taken away meanwhile
            await asyncio.to_thread(self._clean, run)
        else:
            self.run = run

    def _start(self, case: Input, mesh: Input | None, options: dict[str, Any]) -> Run:
        shutil.rmtree(self._directory, ignore_errors=True)
        mesh_dir = self._directory / "mesh" if mesh else None
        try:
            message = workdir.prepare(self._directory / "case", case.folder, case.files, case.archive)
            if mesh and mesh_dir:
                message += workdir.prepare(mesh_dir, mesh.folder, mesh.files, mesh.archive)
            return start_run(workdir=self._directory / "case", mesh_dir=mesh_dir, message=message, **options)
        except workdir.NoCase as error:
            return RefusedRun(f"@@@ ERROR: {error}\n")
        except Exception as error:  # a full disk, say: a simulation that nobody runs must not count as running
            _log.exception("a machine could not be set up")
            return RefusedRun(f"@@@ ERROR: the machine could not be set up: {type(error).__name__}: {error}\n")

    @property
    def ended(self) -> bool:
        """Whether its solver has ended."""
        return self.run is not None and self.run.poll() is not None

    def ask_to_save(self) -> bool:
        """Ask for a save; False where one that has not begun yet will do."""
        asked, self._save_asked = self._save_asked, True
        return not asked

    async def save(self, blobs: BlobStore, now: float) -> list[tuple[str, Blob]]:
        """
        Pack the results of what is there now; one save at a time.

        :param now: virtual seconds since the epoch, the files' date
        :return: names and bytes of what there is to keep
        """
        async with self._saving:
            self._save_asked = False
            run, target = self.run, self._directory / "results"
            if run is None or self._gone:
                return []

            def pack() -> list[tuple[str, Blob]]:
                shutil.rmtree(target, ignore_errors=True)
                return [(path.name, blobs.from_file(path, now)) for path in run.pack_results(target)]

            return await asyncio.to_thread(pack)

    def drop(self) -> str:
        """
        Give the machine back: whatever still runs ends now.

        :return: what the solver had said
        """
        self._gone = True
        run, self.run = self.run, None
        return self._clean(run) if run else ""

    def _clean(self, run: Run) -> str:
        if run.poll() is None:
            run.kill()
        output = run.output()
        shutil.rmtree(self._directory, ignore_errors=True)
        return output
