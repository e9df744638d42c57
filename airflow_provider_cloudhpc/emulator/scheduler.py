# SPDX-License-Identifier: Apache-2.0
"""Simulations from launch to end: machines come, solvers run, signals arrive, results are saved, bills are written."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator import workdir
from airflow_provider_cloudhpc.emulator.ledger import Launch, Stop
from airflow_provider_cloudhpc.emulator.settings import RESULT_INTERVAL
from airflow_provider_cloudhpc.emulator.simulations import CRASH_OUTPUT, ENDINGS, Ending, Plan, Simulation, Status
from airflow_provider_cloudhpc.emulator.solvers import Limits, start_run

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.accounts import User
    from airflow_provider_cloudhpc.emulator.blobs import Blob
    from airflow_provider_cloudhpc.emulator.world import World


class NotPossible(Exception):
    """What was asked cannot be done in the simulation's state; the message says why."""


class Scheduler:
    """
    All simulations of all accounts.

    :param world: what they happen in
    :param directory: for the working directories
    :param limits: what a solver that really runs may use
    """

    def __init__(self, world: World, directory: Path, limits: Limits) -> None:
        self._world = world
        self._directory = directory
        self._limits = limits
        self._ids = itertools.count(10001)
        self.all: dict[int, Simulation] = {}
        self._at_work: set[Simulation] = set()
        self.plans: list[tuple[Plan, int | None, str]] = []
        #: Counts up with every change of any record, so that sorted listings can be kept.
        self.version = 0

    # -- launch

    def launch(
        self, user: User, *, cpu: int, ram: str, script: str, folder: str, mesh: str = "", nopre: int = 0,
        plan: Plan | None = None,
    ) -> Simulation:  # fmt: skip
        """Accept a simulation: from here on it exists and will bill. ``POST /simulation/add``."""
        now, settings = self._world.clock.now(), self._world.settings
        plan = plan or self._planned(script)
        simulation = Simulation(
            next(self._ids), user.name, user.id, cpu, ram, script, folder, mesh, nopre, now, plan=plan,
            held=settings.hold_launches, listed_at=now + settings.simulation_lag,
        )  # fmt: skip
        self.all[simulation.id] = simulation
        if settings.simulation_lag:
            self._world.agenda.at(simulation.listed_at, lambda when: self._changed())
        self._world.ledger.launches.append(Launch(simulation.id, user.name, cpu, ram, script, folder, mesh, nopre, now))
        self._step(simulation, now + (plan.pending if plan else settings.pending_seconds), self._begin)
        self._changed()
        return simulation

    def _planned(self, script: str) -> Plan | None:
        for index, (plan, times, wanted) in enumerate(self.plans):
            if fnmatchcase(script, wanted):
                if times is not None:
                    self.plans[index : index + 1] = [(plan, times - 1, wanted)] if times > 1 else []
                return plan
        return None

    def _changed(self) -> None:
        self.version += 1

    def _step(self, simulation: Simulation, when: float, step: Callable[[Simulation, float], None]) -> None:
        """The next thing that happens to a simulation by itself; one that is held waits for its release."""
        if simulation.next_step:
            simulation.next_step.cancelled = True

        def due(when: float) -> None:
            if simulation.held:
                simulation.next_step = self._world.agenda.at(float("inf"), due)
            else:
                simulation.next_step = None
                step(simulation, when)

        simulation.next_step = self._world.agenda.at(when, due)

    # -- run

    def _begin(self, simulation: Simulation, when: float) -> None:
        simulation.status, simulation.started = Status.RUNNING, when
        self._changed()
        plan = simulation.plan
        if plan is None:
            self._world.spawn(self._start(simulation))
            self._world.agenda.at(when + RESULT_INTERVAL, lambda due: self._save_from_time_to_time(simulation, due))
        elif plan.running is not None:
            self._step(simulation, when + plan.running, lambda s, due: self._end(s, due, plan.ending))

    async def _start(self, simulation: Simulation) -> None:
        """Lay out the case and start the solver; both may take a while, so in a thread."""
        storage = self._world.storage(simulation.user)
        files, mesh = storage.folder_files(simulation.folder), storage.folder_files(simulation.mesh)
        directory = self._directory_of(simulation)
        speed = self._world.clock.speed

        def start() -> None:
            shutil.rmtree(directory, ignore_errors=True)
            message = workdir.prepare(directory / "case", files)
            mesh_dir = directory / "mesh" if simulation.mesh else None
            if mesh_dir:
                message += workdir.prepare(mesh_dir, mesh)
            simulation.log += message
            simulation.run = start_run(
                script=simulation.script, cpu=simulation.cpu, ram=simulation.ram, workdir=directory / "case",
                limits=self._limits, clock_speed=speed or 1.0, mesh_dir=mesh_dir, seed=simulation.id,
            )  # fmt: skip

        await asyncio.to_thread(start)
        self._at_work.add(simulation)
        if not simulation.status.active or simulation.id not in self.all:
            self._drop_run(simulation)
        elif simulation.stop_signal:
            self._signal(simulation)

    def _directory_of(self, simulation: Simulation) -> Path:
        return self._directory / f"{simulation.id}-{simulation.restarts}"

    def poll(self) -> None:
        """Notice which solvers have ended."""
        for simulation in list(self._at_work):
            run = simulation.run
            if run and not simulation.held and not simulation.collecting and run.poll() is not None:
                simulation.collecting = True
                self._world.spawn(self._collect(simulation))

    async def _collect(self, simulation: Simulation) -> None:
        """A solver ended: save what it left (unless it was killed by a hard stop), write the record."""
        run = simulation.run
        if run is None:
            return
        if simulation.stop_signal != "SIGINT":
            await self._save(simulation)
        if simulation.run is not run or not simulation.status.active:
            return
        ending: Ending = "stopped" if simulation.stop_signal else "error" if run.failed else "completed"
        self._end(simulation, self._world.clock.now(), ending)

    def _end(
        self,
        simulation: Simulation,
        when: float,
        ending: Ending,
        output: str = "",
        results: dict[str, bytes] | None = None,
    ) -> None:
        plan = simulation.plan
        self._drop_run(simulation)
        simulation.log += output or (plan.output if plan else "")
        if ending == "crashed" and not (output or (plan and plan.output)):
            simulation.log += CRASH_OUTPUT
        if simulation.stop_signal == "SIGINT":
            self._world.storage(simulation.user).delete_results(simulation.result_paths)
        else:
            for name, content in (results or (plan.results if plan else {})).items():
                self._keep(simulation, name, self._world.blobs.from_bytes(content, when))
        simulation.status, simulation.ended = ENDINGS[ending], when
        if simulation.next_step:
            simulation.next_step.cancelled = True
        self._changed()

    def _drop_run(self, simulation: Simulation) -> None:
        """Whatever still runs ends now; its output is kept, its directory is not."""
        self._at_work.discard(simulation)
        run, simulation.run = simulation.run, None
        if run:
            if run.poll() is None:
                run.kill()
            simulation.log += run.output()
            shutil.rmtree(self._directory_of(simulation), ignore_errors=True)

    # -- results

    async def _save(self, simulation: Simulation) -> None:
        """Upload the result archives of what is there now."""
        run = simulation.run
        if run is None:
            return
        target = self._directory_of(simulation) / "results"
        now = self._world.clock.now()

        def pack() -> list[tuple[str, Blob]]:
            shutil.rmtree(target, ignore_errors=True)
            return [(path.name, self._world.blobs.from_file(path, now)) for path in run.pack_results(target)]

        for name, blob in await asyncio.to_thread(pack):
            self._keep(simulation, name, blob)

    def _keep(self, simulation: Simulation, name: str, blob: Blob) -> None:
        path = f"{simulation.folder}/{name}"
        self._world.store_result(simulation.user, path, blob)
        simulation.result_paths.add(path)

    def _save_from_time_to_time(self, simulation: Simulation, when: float) -> None:
        if simulation.status == Status.RUNNING:
            self._world.spawn(self._save(simulation))
            self._world.agenda.at(when + RESULT_INTERVAL, lambda due: self._save_from_time_to_time(simulation, due))

    def sync(self, simulation: Simulation) -> None:
        """
        Save partial results now. ``PUT /simulation/sync/{id}``.

        :raises NotPossible: unless it runs
        """
        if simulation.status != Status.RUNNING:
            raise NotPossible(f"simulation {simulation.id} is not running")
        self._world.spawn(self._save(simulation))

    # -- stop, hold, advance

    def stop(self, simulation: Simulation, signal: str) -> None:
        """
        Carry out a stop signal. ``PUT /simulation/stop/{id}``.

        :param signal: ``SIGTSTP`` or ``SIGINT``
        :raises NotPossible: where it has ended already
        """
        if not simulation.status.active:
            raise NotPossible(f"simulation {simulation.id} has ended already")
        if simulation.stop_signal != "SIGINT":
            simulation.stop_signal = signal
        was, simulation.status = simulation.status, Status.STOPPING
        self._changed()
        now = self._world.clock.now()
        self._world.ledger.stops.append(Stop(simulation.id, signal, now))
        if was == Status.PENDING:
            self._step(simulation, now, lambda s, due: self._end(s, due, "stopped"))
        elif simulation.plan is not None:
            wait = self._world.settings.soft_stop_seconds if signal == "SIGTSTP" else 0.0
            self._step(simulation, now + wait, lambda s, due: self._end(s, due, "stopped"))
        elif simulation.run:
            self._signal(simulation)

    def _signal(self, simulation: Simulation) -> None:
        if simulation.run:
            simulation.run.kill() if simulation.stop_signal == "SIGINT" else simulation.run.soft_stop()

    def release(self, simulation: Simulation) -> None:
        """Let a held simulation go on."""
        simulation.held = False
        if simulation.next_step and simulation.next_step.when == float("inf"):
            step = simulation.next_step
            step.cancelled = True
            self._world.agenda.at(self._world.clock.now(), step.action)

    def advance(self, simulation: Simulation) -> None:
        """
        Take the next step now, held or not: PENDING to RUNNING, RUNNING to COMPLETED, STOPPING to STOPPED.

        :raises NotPossible: where it has ended already
        """
        now = self._world.clock.now()
        if simulation.status == Status.PENDING:
            if simulation.next_step:
                simulation.next_step.cancelled = True
            self._begin(simulation, now)
        else:
            self.finish(simulation, "stopped" if simulation.status == Status.STOPPING else "completed")

    def finish(
        self, simulation: Simulation, ending: Ending, output: str = "", results: dict[str, bytes] | None = None
    ) -> None:
        """
        End it now, in a chosen way.

        :raises NotPossible: where it has ended already
        :raises ValueError: for an unknown ending
        """
        if ending not in ENDINGS:
            raise ValueError(f"unknown ending {ending!r}; there are: {', '.join(ENDINGS)}")
        if not simulation.status.active:
            raise NotPossible(f"simulation {simulation.id} has ended already")
        now = self._world.clock.now()
        if simulation.started is None and ending != "stopped":
            simulation.started = now
        self._end(simulation, now, ending, output, results)

    def preempt(self, simulation: Simulation) -> None:
        """
        Take a spot machine away: the solver starts again from the beginning on another one, under the same id.

        :raises NotPossible: for one that does not run, or on a regular machine
        """
        if simulation.nopre:
            raise NotPossible(f"simulation {simulation.id} runs on a regular machine, which is never taken away")
        if simulation.status != Status.RUNNING:
            raise NotPossible(f"simulation {simulation.id} is not running")
        now = self._world.clock.now()
        self._drop_run(simulation)
        simulation.log += "@@@ the spot machine was taken away; starting again on another one\n"
        simulation.billed_seconds, simulation.started = simulation.seconds(now), None
        simulation.status, simulation.collecting = Status.PENDING, False
        simulation.restarts += 1
        wait = simulation.plan.pending if simulation.plan else self._world.settings.pending_seconds
        self._step(simulation, now + wait, self._begin)
        self._changed()

    def clear(self) -> None:
        """End everything that runs and forget all of it."""
        simulations = list(self.all.values())
        self.all.clear()
        self.plans.clear()
        for simulation in simulations:
            if simulation.status.active:
                simulation.status = Status.STOPPED
            self._drop_run(simulation)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._changed()
