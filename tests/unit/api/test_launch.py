# SPDX-License-Identifier: Apache-2.0
"""The launch machine bills once: every step x every fault x retry and Clear, exhaustively and by random stories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.errors import CloudHPCError
from airflow_provider_cloudhpc.api.launch.attempts import Attempt
from airflow_provider_cloudhpc.api.launch.types import (
    CloudHPCLaunchError,
    How,
    Launched,
    LaunchState,
    OnAmbiguous,
    OnConflict,
    Ownership,
    Post,
)
from airflow_provider_cloudhpc.api.models import SimulationStatus
from tests.unit.api.launch_world import LAG, LATE, SETTLE, Choose, World, every_story, is_retryable

#: What is kept and whose folder it is; in the last combination only the guard protects, as the docs say.
GUARANTEED = [
    (Ownership.NAMED, True),
    (Ownership.RUN, True),
    (Ownership.TASK, True),
    (Ownership.RUN, False),
    (Ownership.TASK, False),
]
WEAK = (Ownership.NAMED, False)
TRIES = 3


def tell(world: World, choose: Choose, check: Callable[[World, Any], None]) -> list[Any]:
    """Let Airflow run the task, again after failures, now and then cleared, and check after every try."""
    outcomes: list[Any] = []
    for _ in range(TRIES):
        outcome = world.run_try()
        outcomes.append(outcome)
        check(world, outcome)
        # Long enough apart, or at once; the simulation may have ended meanwhile.
        world.pass_time(choose((0.0, 300.0)))
        if choose((False, True)):
            for record in world.records:
                if record.owner is not None and record.status is SimulationStatus.RUNNING:
                    record.status = SimulationStatus.COMPLETED
        nexts = ["end"] if isinstance(outcome, Launched) else ["retry"] if is_retryable(outcome) else ["end"]
        if isinstance(outcome, Launched) and not world.remembers and world.cleared is None:
            nexts.append("clear while it waits")
        what = choose((*nexts, "clear"))
        if what == "end":
            break
        if what == "clear" and world.generation and not world.remembers:
            # Without memory a launch from before one Clear hides that another is on its way; see docs/launching.md.
            world.pass_time(LATE + LAG)
        if what == "clear while it waits":
            assert isinstance(outcome, Launched)
            world.clear_while_it_waits(outcome.simulation_id)
        else:
            world.retry() if what == "retry" else world.clear()
    world.pass_time(10 * SETTLE)
    check(world, None)
    return outcomes


def billed_once(world: World, outcome: Any) -> None:
    """Check the laws that hold after every try."""
    for generation in range(world.generation + 1):
        bills = world.ours(generation)
        assert len(bills) <= 1, f"generation {generation} is billed {len(bills)} times"
    assert len(world.active()) <= 1, "two of ours are active at once"
    others = [record for record in world.records if record.owner is None]
    assert all(record.status is SimulationStatus.RUNNING for record in others), "somebody else's was stopped"
    if isinstance(outcome, Launched):
        mine = next(record for record in world.records if record.id == outcome.simulation_id)
        if (world.ownership, world.remembers) == (Ownership.RUN, False) and outcome.how is How.REATTACHED:
            # Nothing tells a retry after a Clear which of the two an active one is from; see docs/launching.md.
            assert mine.owner is not None
            return
        assert mine.owner == world.generation, "taken: somebody else's, or one from before a Clear"
        assert all(record is mine for record in world.active()), "one from before a Clear still runs"


@pytest.mark.parametrize(("ownership", "remembers"), GUARANTEED)
def test_every_step_and_every_fault(ownership: Ownership, remembers: bool) -> None:
    reached: set[str] = set()

    def story(choose: Choose) -> None:
        world = World(choose, ownership, remembers)
        world.add("elsewhere", None)
        for outcome in tell(world, choose, billed_once):
            reached.add(outcome.how.value if isinstance(outcome, Launched) else type(outcome).__name__)

    stories = sum(1 for _ in every_story(story))
    assert stories > 1000
    # The stories did reach the places that they are about.
    assert {"launched", "WorkerDied", "CloudHPCRefusedError", "CloudHPCLaunchError", "reattached"} <= reached
    assert ("adopted" in reached) is (ownership is not Ownership.NAMED)


@pytest.mark.parametrize(("ownership", "remembers"), GUARANTEED)
@settings(max_examples=400)
@given(data=st.data())
def test_random_stories_of_several_faults(ownership: Ownership, remembers: bool, data: st.DataObject) -> None:
    def choose(possible: Sequence[Any]) -> Any:
        return data.draw(st.sampled_from(possible))

    world = World(choose, ownership, remembers, faults=4)
    tell(world, choose, billed_once)


def test_without_memory_a_named_folder_is_only_guarded() -> None:
    """Two bills are possible there; two active ones, or touching somebody else's, are not."""
    twice = 0

    def story(choose: Choose) -> None:
        nonlocal twice
        world = World(choose, *WEAK)

        def check(world: World, outcome: Any) -> None:
            assert all(r.status is SimulationStatus.RUNNING for r in world.records if r.owner is None)
            if not world.crashes:
                billed_once(world, outcome)

        tell(world, choose, check)
        twice += len(world.ours(0)) > 1

    assert sum(1 for _ in every_story(story)) > 1000
    assert twice, "the docs call this combination weaker: it no longer is"


@pytest.mark.parametrize("ownership", [Ownership.RUN, Ownership.TASK])
@pytest.mark.parametrize("remembers", [True, False])
def test_in_a_minted_folder_a_launch_costs_one_call(ownership: Ownership, remembers: bool) -> None:
    world = World(lambda possible: possible[0], ownership, remembers)
    assert isinstance(world.run_try(), Launched)
    assert [call for call in world.calls if call not in ("Save", "Prepare")] == ["Post"]


def test_in_a_named_folder_it_costs_two() -> None:
    world = World(lambda possible: possible[0], Ownership.NAMED, True)
    assert isinstance(world.run_try(), Launched)
    assert [call for call in world.calls if call != "Save"] == ["Find", "Prepare", "Post"]


@pytest.mark.parametrize("fault", ["lost, effect", "lost, late effect", "lost, listing lags"])
@pytest.mark.parametrize(("ownership", "remembers"), [*GUARANTEED, WEAK])
def test_a_lost_answer(fault: str, ownership: Ownership, remembers: bool) -> None:
    world = World(lambda possible: fault if fault in possible else possible[0], ownership, remembers)
    outcome = world.run_try()
    if ownership is Ownership.NAMED:
        assert isinstance(outcome, CloudHPCLaunchError)
        assert [candidate.id for candidate in outcome.candidates] == [100]
        assert "adopt=<id>" in str(outcome)
    else:
        assert isinstance(outcome, Launched)
        assert outcome.how is How.ADOPTED
    assert world.posts == 1


@pytest.mark.parametrize(("on_ambiguous", "posts"), [(OnAmbiguous.FAIL, 1), (OnAmbiguous.RELAUNCH, 2)])
def test_a_launch_that_left_no_trace(on_ambiguous: OnAmbiguous, posts: int) -> None:
    fault = "lost, no effect"
    choose: Choose = lambda possible: fault if fault in possible else possible[0]  # noqa: E731
    world = World(choose, Ownership.RUN, True, on_ambiguous=on_ambiguous)
    outcome = world.run_try()
    assert world.posts == posts
    assert isinstance(outcome, Launched) is (on_ambiguous is OnAmbiguous.RELAUNCH)
    assert world.now >= SETTLE


def test_a_relaunch_that_is_refused_leaves_the_first_post_in_doubt() -> None:
    """What that one began comes after the settling time: the next try takes it, and posts no third one."""
    world = World(lambda possible: possible[0], Ownership.RUN, True, on_ambiguous=OnAmbiguous.RELAUNCH, faults=0)
    faults = iter(["lost, no effect", "refused"])
    world.do = lambda action: world.effect(action, next(faults) if isinstance(action, Post) else None)  # type: ignore[method-assign]
    assert is_retryable(world.run_try())
    world.add(world.folder(), world.generation)
    world.retry()
    assert world.run_try() == Launched(100, How.ADOPTED)
    assert world.posts == 2


def test_what_was_in_a_named_folder_before_the_post_is_no_candidate() -> None:
    fault = "lost, no effect"
    world = World(lambda possible: fault if fault in possible else possible[0], Ownership.NAMED, True)
    world.add("case", None).status = SimulationStatus.COMPLETED
    outcome = world.run_try()
    assert isinstance(outcome, CloudHPCLaunchError)
    assert outcome.candidates == ()
    assert "the listing shows none" in str(outcome)


def test_two_equal_launches_that_lose_their_answers_never_take_each_others() -> None:
    """Both land in one folder that a user named, or only one does: nobody takes anything."""
    for fault in ("others land too", "lost, effect"):
        world = World(lambda possible, fault=fault: fault if fault in possible else possible[0], Ownership.NAMED, True)
        outcome = world.run_try()
        assert isinstance(outcome, CloudHPCLaunchError)
        assert len(world.records) == 1


@pytest.mark.parametrize("active", [1, 2])
@pytest.mark.parametrize("on_conflict", list(OnConflict))
def test_the_guard_of_a_named_folder(on_conflict: OnConflict, active: int) -> None:
    world = World(lambda possible: possible[0], Ownership.NAMED, True, on_conflict=on_conflict)
    ended = world.add("case", None)
    ended.status = SimulationStatus.COMPLETED
    running = [world.add("case", None).id for _ in range(active)]
    outcome = world.run_try()
    if on_conflict is OnConflict.LAUNCH:
        assert isinstance(outcome, Launched)
        assert outcome.how is How.LAUNCHED
    elif on_conflict is OnConflict.ADOPT_ACTIVE and active == 1:
        assert outcome == Launched(running[0], How.ADOPTED)
    else:
        assert isinstance(outcome, CloudHPCLaunchError)
        assert [candidate.id for candidate in outcome.candidates] == running[::-1]
    assert world.posts == (on_conflict is OnConflict.LAUNCH)


@pytest.mark.parametrize("what", ["retry", "clear"])
@pytest.mark.parametrize("remembers", [True, False])
def test_beside_what_others_run_a_retry_bills_nothing_again(what: str, remembers: bool) -> None:
    """Where nothing is kept the one that is active may be this task's own: only a Clear launches beside it."""
    world = World(lambda possible: possible[0], Ownership.NAMED, remembers, OnConflict.LAUNCH)
    others = world.add("case", None)
    assert world.run_try() == Launched(101, How.LAUNCHED)
    world.retry() if what == "retry" else world.clear()
    outcome = world.run_try()
    if what == "clear":
        assert outcome == Launched(102, How.LAUNCHED)
    elif remembers:
        assert outcome == Launched(101, How.REATTACHED)
    else:
        assert isinstance(outcome, CloudHPCLaunchError)
        assert [candidate.id for candidate in outcome.candidates] == [101, others.id]
        assert "It may be what an earlier try of this task began" in str(outcome)
    assert world.posts == (2 if what == "clear" else 1)


def test_after_a_failed_look_the_next_try_looks_again() -> None:
    """The service stays away after the answer was lost: no verdict, and no second bill, until it is back."""
    world = World(lambda possible: possible[0], Ownership.RUN, True, faults=0)
    machine_fault = {"Post": "lost, effect", "Find": "no answer"}
    do = world.do
    world.do = lambda action: world.effect(action, machine_fault.get(type(action).__name__))  # type: ignore[method-assign]
    outcome = world.run_try()
    assert isinstance(outcome, CloudHPCError)
    assert is_retryable(outcome)
    world.do = do  # type: ignore[method-assign]
    world.retry()
    assert world.run_try() == Launched(100, How.ADOPTED)
    assert world.posts == 1


@pytest.mark.parametrize("first", ["dies after", None])
@pytest.mark.parametrize("ownership", [Ownership.RUN, Ownership.NAMED])
def test_after_a_clear_what_was_launched_before_is_not_taken_for_the_new_one(
    ownership: Ownership, first: str | None
) -> None:
    """The second post's answer is lost, and the listing shows the first launch long before the second."""
    faults = iter([first, "lost, listing lags"])
    choose: Choose = lambda possible: next(faults) if "lost, listing lags" in possible else possible[0]  # noqa: E731
    world = World(choose, ownership, True, faults=9)
    world.run_try()
    world.records[0].status = SimulationStatus.COMPLETED
    world.clear()
    outcome = world.run_try()
    if ownership is Ownership.RUN:
        assert outcome == Launched(101, How.ADOPTED)
    else:
        assert isinstance(outcome, CloudHPCLaunchError)
        assert [candidate.id for candidate in outcome.candidates] == [101]


@pytest.mark.parametrize("ownership", list(Ownership))
def test_a_clear_that_only_the_task_noted_launches_at_once_when_what_it_stopped_is_over(ownership: Ownership) -> None:
    world = World(lambda possible: possible[0], ownership, False)
    assert world.run_try() == Launched(100, How.LAUNCHED)
    world.clear_while_it_waits(100)
    world.calls.clear()
    assert world.run_try() == Launched(101, How.LAUNCHED)
    guard = ["Find"] if ownership is Ownership.NAMED else []
    assert [call for call in world.calls if call != "Save"] == ["Stop", *guard, "Prepare", "Post"]
    world.retry()
    outcome = world.run_try()
    if ownership is Ownership.NAMED:
        assert isinstance(outcome, CloudHPCLaunchError)
    else:
        assert outcome == Launched(101, How.REATTACHED)


@pytest.mark.parametrize("ownership", [Ownership.RUN, Ownership.TASK])
def test_after_a_noted_clear_nothing_is_launched_beside_what_takes_its_time_to_stop(ownership: Ownership) -> None:
    world = World(lambda possible: possible[0], ownership, False)
    world.run_try()
    world.clear_while_it_waits(100)
    world.records[0].status = SimulationStatus.STOPPING
    world.choose = lambda possible: "dies before"  # the first try after the Clear, while it waits for that
    assert not isinstance(world.run_try(), Launched)
    world.choose = lambda possible: possible[0]
    world.retry()
    assert world.run_try() == Launched(101, How.LAUNCHED)
    assert world.records[0].status is SimulationStatus.STOPPED


def test_retries_that_were_edited_once_are_no_doubt_for_ever() -> None:
    world = World(lambda possible: possible[0], Ownership.RUN, True)
    world.attempt = Attempt(1, 3, 3)
    assert world.run_try() == Launched(100, How.LAUNCHED)
    world.edit_retries(1)
    world.retry()
    assert world.run_try() == Launched(100, How.REATTACHED)
    world.records[0].status = SimulationStatus.COMPLETED
    world.retry()
    assert world.run_try() == Launched(100, How.REATTACHED)


def test_a_late_effect_beyond_settling_is_ours_at_the_next_try() -> None:
    """Later than anybody waits: the task has failed by then, and a Clear stops the stray before it launches."""
    world = World(lambda possible: possible[0], Ownership.RUN, True, faults=0)
    assert world.stored is None
    effect = world.effect
    world.do = lambda action: effect(action, "lost, no effect")  # type: ignore[method-assign]
    assert isinstance(world.run_try(), CloudHPCLaunchError)
    stray = world.add(world.folder(), 0)
    world.do = lambda action: effect(action, None)  # type: ignore[method-assign]
    world.clear()
    outcome = world.run_try()
    assert isinstance(outcome, Launched)
    assert stray.stopped_by_us
    assert outcome.simulation_id != stray.id


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"phase": "launched"},
        {"phase": "elsewhere", "attempt": {}, "request": {}, "judged": False, "baseline": 0, "simulation_id": None},
        {
            "phase": "launched",
            "attempt": {"try_number": 1, "max_tries": 1, "retries": 1},
            "request": {"cpu": 1, "ram": "highcpu", "script": "x", "folder": "case"},
            "judged": False,
            "baseline": 0,
            "simulation_id": None,
        },
    ],
)
def test_a_state_that_is_not_understood_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Not the state of a launch"):
        LaunchState.from_dict(data)
