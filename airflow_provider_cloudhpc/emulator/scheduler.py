# SPDX-License-Identifier: Apache-2.0
"""Simulations from launch to end: machines come, solvers run, signals arrive, results are saved, bills are written."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.emulator.ledger import Launch, Stop
from airflow_provider_cloudhpc.emulator.machines import Input, Machine
from airflow_provider_cloudhpc.emulator.settings import RESULT_INTERVAL
from airflow_provider_cloudhpc.emulator.simulations import CRASH_OUTPUT, ENDINGS, Ending, Plan, Simulation, Status
from airflow_provider_cloudhpc.emulator.solvers import Limits

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.accounts import User
    from airflow_provider_cloudhpc.emulator.blobs import Blob
    from airflow_provider_cloudhpc.emulator.world import World

_log = logging.getLogger(__name__)


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
        clean: int = 0, plan: Plan | None = None,
    ) -> Simulation:  # fmt: skip
        """Accept a simulation: from here on it exists and will bill. ``POST /simulation/add``."""
        now, settings = self._world.clock.now(), self._world.settings
        plan = plan or self._planned(script)
        simulation = Simulation(
            next(self._ids), user.name, user.id, cpu, ram, script, folder, mesh, nopre, now, clean=clean, plan=plan,
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
            simulation.machine = Machine(self._directory / f"{simulation.id}-{simulation.restarts}")
            self._world.spawn(self._start(simulation, simulation.machine, when))
            self._world.agenda.at(when + RESULT_INTERVAL, lambda due: self._save_from_time_to_time(simulation, due))
        elif plan.running is not None:
            self._step(simulation, when + plan.running, lambda s, due: self._end(s, due, plan.ending))

    async def _start(self, simulation: Simulation, machine: Machine, when: float) -> None:
        with self._world.blobs.borrowed():
            await machine.start(
                self._input(simulation, simulation.folder), self._input(simulation, simulation.mesh) if simulation.mesh
                else None, script=simulation.script, cpu=simulation.cpu, ram=simulation.ram, limits=self._limits,
                clock=self._world.clock.now, started=when, seed=simulation.id,
            )  # fmt: skip
        if simulation.machine is machine:
            self._at_work.add(simulation)
            if simulation.stop_signal:
                self._signal(simulation)

    def _input(self, simulation: Simulation, folder: str) -> Input:
        storage = self._world.storage(simulation.user)
        node, archive = storage.folder(folder), storage.root_archive(folder)
        return Input(
            folder,
            None
            if node is None
            else [(PurePosixPath(f.name).relative_to(folder), f.blob.path) for f in node.files() if f.blob],
            (archive.name, archive.blob.path) if archive and archive.blob else None,
        )

    def poll(self) -> None:
        """Notice which solvers have ended."""
        for simulation in list(self._at_work):
            machine = simulation.machine
            if machine and not simulation.held and not machine.collecting and machine.ended:
                machine.collecting = True
                self._world.spawn(self._collect(simulation, machine))

    async def _collect(self, simulation: Simulation, machine: Machine) -> None:
        """A solver ended: save what it left (unless it was killed by a hard stop), write the record."""
        saved = simulation.stop_signal == "SIGINT" or await self._save(simulation, machine)
        run = machine.run
        if simulation.machine is not machine or run is None:
            return
        failed = run.failed or not saved
        ending: Ending = "stopped" if simulation.stop_signal else "error" if failed else "completed"
        self._end(simulation, run.ended_at or self._world.clock.now(), ending)

    def _end(
        self,
        simulation: Simulation,
        when: float,
        ending: Ending,
        output: str = "",
        results: dict[str, bytes] | None = None,
    ) -> None:
        plan = simulation.plan
        self._drop_machine(simulation)
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

    def _drop_machine(self, simulation: Simulation) -> None:
        """Whatever still runs ends now; its output is kept, its directory is not."""
        self._at_work.discard(simulation)
        machine, simulation.machine = simulation.machine, None
        if machine:
            simulation.log += machine.drop()

    # -- results

    async def _save(self, simulation: Simulation, machine: Machine) -> bool:
        """Upload the result archives of what is there now; False where that failed."""
        try:
            saved = await machine.save(self._world.blobs, self._world.clock.now())
        except Exception as error:  # a full disk, say: a solver that has ended must not count as running
            if simulation.machine is not machine:  # it ended, or was taken away, amid the packing
                return False
            _log.exception("results of simulation %s could not be saved", simulation.id)
            simulation.log += f"@@@ ERROR: results could not be saved: {type(error).__name__}: {error}\n"
            return False
        for name, blob in saved:
            if simulation.machine is machine:
                self._keep(simulation, name, blob)
            else:
                self._world.blobs.drop(blob)
        return True

    def _keep(self, simulation: Simulation, name: str, blob: Blob) -> None:
        path = f"{simulation.folder}/{name}"
        self._world.store_result(simulation.user, path, blob)
        simulation.result_paths.add(path)

    def _save_soon(self, simulation: Simulation) -> None:
        machine = simulation.machine
        if machine and machine.ask_to_save():
            self._world.spawn(self._save(simulation, machine))

    def _save_from_time_to_time(self, simulation: Simulation, when: float) -> None:
        if simulation.status == Status.RUNNING:
            self._save_soon(simulation)
            # All that a jump passed over are this one.
            passed = max(0.0, self._world.clock.now() - when) // RESULT_INTERVAL
            later = when + (passed + 1) * RESULT_INTERVAL
            self._world.agenda.at(later, lambda due: self._save_from_time_to_time(simulation, due))

    def sync(self, simulation: Simulation) -> None:
        """
        Save partial results now. ``PUT /simulation/sync/{id}``.

        :raises NotPossible: unless it runs
        """
        if simulation.status != Status.RUNNING:
            raise NotPossible(f"simulation {simulation.id} is not running")
        self._save_soon(simulation)

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
            wait = self._world.settings.soft_stop_seconds if simulation.stop_signal == "SIGTSTP" else 0.0
            self._step(simulation, now + wait, lambda s, due: self._end(s, due, "stopped"))
        else:
            self._signal(simulation)

    def _signal(self, simulation: Simulation) -> None:
        run = simulation.machine.run if simulation.machine else None
        if run and simulation.stop_signal == "SIGINT":
            self._world.spawn(asyncio.to_thread(run.kill))  # it waits until all is gone
        elif run:
            run.soft_stop()

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
        self._drop_machine(simulation)
        simulation.log += "@@@ the spot machine was taken away; starting again on another one\n"
        simulation.billed_seconds, simulation.started = simulation.seconds(now), None
        simulation.status = Status.PENDING
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
            self._drop_machine(simulation)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._changed()
