# SPDX-License-Identifier: Apache-2.0
"""
A model of several tasks that launch at once on one account, in any order of steps, with any faults.

The tasks ask for equal launches; those in a folder that a user named share it. Hypothesis drives them step by step:
it lets them die, retries and clears them, edits their ``retries``, lets simulations end and other people launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_cloudhpc.api.launch.types import CloudHPCLaunchError, How, Launched, Ownership
from airflow_provider_cloudhpc.api.models import SimulationStatus
from tests.unit.api.launch_world import LAG, LATE, Service, World, is_retryable
from tests.unit.api.test_launch import GUARANTEED

TASKS = st.integers(0, 2)


class Tasks(RuleBasedStateMachine):
    """Three tasks, a service that they share, and the laws."""

    @initialize(kinds=st.lists(st.sampled_from(GUARANTEED), min_size=3, max_size=3))
    def begin(self, kinds: list[tuple[Ownership, bool]]) -> None:
        self.service = Service()
        self.worlds = [
            World(self.never, ownership, remembers, faults=3, service=self.service, task=number)
            for number, (ownership, remembers) in enumerate(kinds)
        ]
        #: What the last try of a task came to; None while it has not ended.
        self.outcomes: list[Launched | Exception | None] = [None, None, None]
        self.edited = [False, False, False]

    @staticmethod
    def never(possible: Sequence[Any]) -> Any:
        return possible[0]

    # -- what tasks do --------------------------------------------------------------------------------------------

    def goes_on(self, number: int) -> bool:
        """Whether a try runs; Airflow begins the next one where there is none and one may follow."""
        world, outcome = self.worlds[number], self.outcomes[number]
        if not world.is_running:
            if isinstance(outcome, Launched) or (outcome is not None and not is_retryable(outcome)):
                return False
            if outcome is not None:
                if world.attempt.try_number > world.attempt.max_tries:
                    return False  # that was the last one
                world.retry()
            self.outcomes[number] = None
            world.begin()
        return True

    @rule(number=TASKS, data=st.data())
    def step(self, number: int, data: st.DataObject) -> None:
        """Take one step of a try: those of several tasks mix."""
        if self.goes_on(number):
            self.advance(number, data)

    @rule(number=TASKS, data=st.data())
    def try_once(self, number: int, data: st.DataObject) -> None:
        """Run a try to its end."""
        if self.goes_on(number):
            while self.worlds[number].is_running:
                self.advance(number, data)

    @rule(data=st.data())
    def race(self, data: st.DataObject) -> None:
        """Let all tasks launch at the same moment: step by step, in turn."""
        running = [number for number in range(3) if self.goes_on(number)]
        while running := [number for number in running if self.worlds[number].is_running]:
            for number in running:
                self.advance(number, data)

    def advance(self, number: int, data: st.DataObject) -> None:
        world = self.worlds[number]
        world.choose = lambda possible: data.draw(st.sampled_from(possible))
        self.outcomes[number] = world.step()
        world.choose = self.never
        self.check(number)

    def check(self, number: int) -> None:
        world, outcome = self.worlds[number], self.outcomes[number]
        gave_up = isinstance(outcome, CloudHPCLaunchError) and "answer lost" in str(outcome)
        if gave_up and world.ownership is not Ownership.NAMED and not self.edited[number]:
            landing = [record for _, record in self.service.landing if record.task == number]
            assert not world.ours(world.generation), "one that is there was given up"
            assert not landing, "one that was to come was given up"
        if not isinstance(outcome, Launched):
            return
        mine = next(record for record in self.service.records if record.id == outcome.simulation_id)
        assert mine.owner is not None, "somebody else's was taken"
        assert mine.task == number, "another task's was taken"
        # Where nothing tells a retry from a Clear, an active one from before it may be gone on with; see the docs.
        unsure = (world.ownership, world.remembers) == (Ownership.RUN, False) and outcome.how is How.REATTACHED
        if not unsure and not self.edited[number]:
            assert mine.owner == world.generation, "one from before a Clear was taken"
            assert all(record is mine for record in world.active()), "one from before a Clear still runs"

    # -- what happens to them -------------------------------------------------------------------------------------

    @rule(number=TASKS)
    def clear(self, number: int) -> None:
        """Clear a task, whatever it does at the moment."""
        world = self.worlds[number]
        if self.outcomes[number] is None and not world.is_running:
            return  # it never ran
        if world.generation and not world.remembers:
            # Without memory a launch from before one Clear hides that another is on its way; see docs/launching.md.
            self.service.pass_time(LATE + LAG)
        world.die()
        world.clear()
        self.outcomes[number] = None
        world.begin()

    @rule(number=TASKS)
    def clear_while_it_waits(self, number: int) -> None:
        """Clear a task that waits, where only its own note tells of that."""
        world, outcome = self.worlds[number], self.outcomes[number]
        if isinstance(outcome, Launched) and not world.remembers:
            world.clear_while_it_waits(outcome.simulation_id)
            self.outcomes[number] = None
            world.begin()

    @rule(number=TASKS, retries=st.integers(0, 4))
    def edit_retries(self, number: int, retries: int) -> None:
        """Somebody edits the DAG; a task that nothing is kept of cannot be told then, see docs/launching.md."""
        world = self.worlds[number]
        if world.remembers and not world.is_running:
            world.edit_retries(retries)
            self.edited[number] = True

    @rule(seconds=st.sampled_from([1.0, LAG, LATE, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.service.pass_time(seconds)

    @precondition(lambda self: self.service.records)
    @rule(data=st.data(), status=st.sampled_from([SimulationStatus.COMPLETED, SimulationStatus.ERROR]))
    def a_simulation_ends(self, data: st.DataObject, status: SimulationStatus) -> None:
        record = data.draw(st.sampled_from(self.service.records))
        if record.status is SimulationStatus.RUNNING:
            record.status = status

    @rule()
    def somebody_launches_in_the_named_folder(self) -> None:
        self.worlds[0].add("case", None)

    # -- the laws -------------------------------------------------------------------------------------------------

    @invariant()
    def each_is_billed_once(self) -> None:
        for world in self.worlds:
            for generation in range(world.generation + 1):
                assert len(world.ours(generation)) <= 1, f"task {world.task} is billed twice"

    @invariant()
    def nobody_stops_what_is_not_his(self) -> None:
        for record in self.service.records:
            if record.stopped_by_us:
                assert record.owner is not None
                assert record.stopped_by == record.task, "another task's was stopped"

    @invariant()
    def two_of_one_task_are_never_active(self) -> None:
        for world in self.worlds:
            assert len(world.active()) <= 1


TestTasks = Tasks.TestCase
TestTasks.settings = settings(max_examples=1500, stateful_step_count=30)
