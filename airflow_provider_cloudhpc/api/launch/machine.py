# SPDX-License-Identifier: Apache-2.0
"""
The launch as a state machine: a simulation is billed once, whatever breaks in between.

A post to ``/simulation/add`` is no more than a wish: its answer may be lost, its effect may come late, the process may
die around it. So what is asked for, and the newest id seen before (the baseline), are kept *before* the post; after any
doubt the listing decides.

    nothing kept --guard--> POSTING --answer--> LAUNCHED(id)
                              |  ^ refused, or never left: IDLE, the next try posts again
                              v
                 doubt (lost answer, crash): look, again and again for ``settle`` seconds
                    found, folder is ours ------------> LAUNCHED(id)
                    found, folder was named by a user -> CONFLICT, the candidates are listed
                    absent ---------------------------> ``on_ambiguous``

:class:`LaunchMachine` is pure: its :meth:`~LaunchMachine.steps` yield what is to be done, take what came of it, and may
be dropped at any step; the next try begins again with the state that was kept last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCRefusedError
from airflow_provider_cloudhpc.api.launch.attempts import Attempt, Cleared, Verdict, compare, guess
from airflow_provider_cloudhpc.api.launch.types import (
    DEFAULT_SETTLE,
    Action,
    CloudHPCLaunchError,
    Find,
    How,
    Judge,
    Launched,
    LaunchState,
    Listing,
    Look,
    OnAmbiguous,
    OnConflict,
    Ownership,
    Pause,
    Phase,
    Post,
    Prepare,
    Save,
    Stop,
    Tell,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from airflow_provider_cloudhpc.api.models import LaunchRequest, Simulation

    Steps = Generator[Action, Any, Launched]

#: Pages of the listing that are read for a launch of a moment ago, and for one that an earlier try may have made.
RECENT_PAGES, ALL_PAGES = 3, 100
#: Longest pause between two looks while settling, seconds.
MAX_PAUSE = 30.0


@dataclass(frozen=True)
class LaunchMachine:
    """
    One task's launch in one try.

    :param request: what is to be launched
    :param attempt: Airflow's counters of this try
    :param ownership: whose the folder is
    :param remembers: whether what is saved is there again at the next try
    :param earlier_folders: folders that this task had before Clears
    :param cleared: the last Clear of this task while it ran, where nothing is remembered and it is known
    :param adopt: take this simulation in place of a launch
    :param judges: whether a simulation that has ended is judged before a retry takes it
    :param settle: seconds to look for a launch that is not seen
    """

    request: LaunchRequest
    attempt: Attempt
    ownership: Ownership = Ownership.NAMED
    remembers: bool = True
    earlier_folders: tuple[str, ...] = ()
    cleared: Cleared | None = None
    adopt: int | None = None
    on_conflict: OnConflict = OnConflict.FAIL
    on_ambiguous: OnAmbiguous = OnAmbiguous.FAIL
    judges: bool = False
    settle: float = DEFAULT_SETTLE

    def steps(self, state: LaunchState | None) -> Steps:
        """
        Go from what was kept to a simulation.

        :param state: what an earlier try kept last; None where nothing was
        :raises CloudHPCLaunchError: going on might bill twice; the state is kept
        :raises CloudHPCError: nothing was started, or nothing could be learned now; another try goes on from here
        """
        if self.adopt is not None:
            return (yield from self._take_given(self.adopt))
        if state is None:
            verdict = Verdict.NEW if self.remembers else guess(self.attempt)
            return (yield from self._without_state(verdict))
        verdict = compare(state.attempt, self.attempt)
        if state.simulation_id is not None:
            return (yield from self._after_launch(state.simulation_id, state, verdict))
        if state.phase is Phase.IDLE:
            follows = state if state.judged and verdict is not Verdict.CLEAR else None
            return (yield from self._start(state.baseline, follows))
        return (yield from self._after_post(state, verdict))

    # -- the first try, and every one that begins afresh ----------------------------------------------------------

    def _start(self, known: int = 0, follows: LaunchState | None = None, *, again: bool = False) -> Steps:
        """
        Launch, unless the folder is a user's and something is active there.

        :param known: newest id that is known already
        :param follows: launched in place of what the task asks for, in a folder that is prepared already
        :param again: whether an active one in a folder that a user named may be what an earlier try launched
        """
        baseline = known
        planned = follows or self._state()
        # A minted folder is new to the run: nothing that is not known can be there, and no call is needed to see that.
        if planned.ownership is Ownership.NAMED:
            listing = yield Find((planned.request.folder,))
            if listing.error is not None:
                raise listing.error
            baseline = max(known, listing.newest)
            if listing.active and (again or self.on_conflict is not OnConflict.LAUNCH):
                if self.on_conflict is OnConflict.ADOPT_ACTIVE and len(listing.active) == 1:
                    return (yield from self._take(listing.active[0].id, How.ADOPTED, planned))
                raise self._conflict(planned.request.folder, "is already used by", listing.active)
        if follows is None:
            yield Prepare()
        posting = replace(planned, phase=Phase.POSTING, attempt=self.attempt, baseline=baseline, simulation_id=None)
        return (yield from self._post(posting))

    def _post(self, state: LaunchState, *, again: bool = False) -> Steps:
        yield Save(state, vital=True)
        answer = yield Post(state.request)
        if answer.simulation_id is not None:
            return (yield from self._take(answer.simulation_id, How.LAUNCHED, state))
        if answer.started is False:
            if not again:  # after a first post whose answer was lost, the doubt about that one stays
                yield Save(replace(state, phase=Phase.IDLE))
            raise answer.error or CloudHPCError("The launch was refused.")
        listing = yield from self._settle(state.baseline, RECENT_PAGES, state.request.folder)
        if listing.found:
            return (yield from self._decide(listing.found, state))
        return (yield from self._give_up(listing, state, again=again, lost=answer.error))

    # -- what may have been left by an earlier try ----------------------------------------------------------------

    def _after_launch(self, simulation_id: int, state: LaunchState, verdict: Verdict) -> Steps:
        if verdict is Verdict.RETRY:
            yield Save(replace(state, attempt=self.attempt))
            return (yield from self._reattach(simulation_id, state))
        simulation = yield Look(simulation_id)
        is_active = simulation is not None and not simulation.is_terminal
        if verdict is Verdict.CLEAR:
            if is_active:
                yield Stop(simulation_id)
            return (yield from self._start(simulation_id))
        # From here on Airflow's counters are clear again: a Clear will be seen as one.
        yield Save(replace(state, attempt=self.attempt))
        if is_active:
            return self._launched(simulation_id, How.REATTACHED, state.request.folder)
        raise self._unsure(simulation_id)

    def _after_post(self, state: LaunchState, verdict: Verdict) -> Steps:
        """Resolve a post that an earlier try made, or was about to make."""
        listing = yield from self._settle(state.baseline, ALL_PAGES, state.request.folder)
        if verdict is not Verdict.CLEAR:
            if not listing.found:
                return (yield from self._give_up(listing, replace(state, attempt=self.attempt)))
            if verdict is Verdict.UNSURE and not listing.active:
                raise self._unsure(listing.found[0].id)
            return (yield from self._decide(listing.found, state))
        if listing.error is not None:
            raise listing.error
        for simulation in listing.active:
            if state.ownership is not Ownership.NAMED:
                yield Stop(simulation.id)
            elif state.request.folder != self.request.folder:  # else the guard speaks of it
                yield Tell(
                    f"Simulation {simulation.id} in folder {state.request.folder!r} may be what this task launched "
                    "there before it was cleared, or somebody else's: it is left as it is and STILL BILLING. If it is "
                    "this task's, stop it."
                )
        return (yield from self._start(max(state.baseline, *(found.id for found in listing.found), 0)))

    def _without_state(self, verdict: Verdict) -> Steps:
        """Go by the listing where nothing is kept over tries; in a folder that a user named, by the guard alone."""
        if self.cleared and self.cleared.try_number == self.attempt.try_number - 1:
            yield Stop(self.cleared.simulation_id)  # it was, and may take its time
            return (yield from self._start(self.cleared.simulation_id))
        if verdict is Verdict.NEW or self.ownership is Ownership.NAMED:
            return (yield from self._start(again=verdict in (Verdict.RETRY, Verdict.UNSURE)))
        asked, here = self._state(), self.request.folder
        known = self.cleared.simulation_id if self.cleared else 0
        if verdict is Verdict.CLEAR:
            listing = yield from self._settle(known, ALL_PAGES, here, *self.earlier_folders)
            if listing.error is not None:
                raise listing.error
            own = [found for found in listing.found if found.folder.strip("/") == here]
            if own and self.ownership is Ownership.TASK:
                # A Clear would have minted another folder: `retries` was edited between two tries.
                return (yield from self._reattach(own[0].id, asked))
            for simulation in listing.active:
                yield Stop(simulation.id)
            return (yield from self._start(max(known, listing.newest)))
        listing = yield from self._settle(known, ALL_PAGES, here)
        if listing.error is not None:
            raise listing.error
        if not listing.found:
            if self.cleared:  # the try that waited for its end may have died
                yield Stop(self.cleared.simulation_id)
            # A lost answer ends a task for good, so the last try died; what it may have posted had its time to be seen.
            if self.earlier_folders:  # it may have died before it had stopped what is from before a Clear
                earlier = yield Find(self.earlier_folders, pages=ALL_PAGES)
                if earlier.error is not None:
                    raise earlier.error
                for simulation in earlier.active:
                    yield Stop(simulation.id)
            yield Tell(
                f"Folder {here!r} shows no simulation of an earlier try after {self.settle:g} s: this one launches. "
                "Nothing is kept between tries on this version of Airflow: had an earlier one died in its launch, what "
                "came of that later would BILL too."
            )
            return (yield from self._start(max(known, listing.newest)))
        simulation = listing.found[0]
        if verdict is Verdict.UNSURE and self.ownership is Ownership.RUN and simulation.is_terminal:
            raise self._unsure(simulation.id)
        return (yield from self._reattach(simulation.id, asked, listing.found))

    def _reattach(self, simulation_id: int, state: LaunchState, seen: Sequence[Simulation] = ()) -> Steps:
        """
        Go on with what an earlier try launched, or with what follows it where it failed.

        :param state: what is known of its launch
        :param seen: all that was seen in its folder, the newest first, where nothing was kept
        """
        if self.judges:
            simulation = seen[0] if seen else (yield Look(simulation_id))
            if simulation is not None and simulation.is_terminal:
                request = yield Judge(simulation)
                if request is not None:
                    if seen and len(seen) < self.attempt.try_number - 1:
                        # A try in between may have launched what follows it already, and died.
                        listing = yield from self._settle(simulation_id, RECENT_PAGES, state.request.folder)
                        if listing.error is not None:
                            raise listing.error
                        if listing.found:
                            return (yield from self._reattach(listing.found[0].id, state, (*listing.found, *seen)))
                    return (yield from self._start(simulation_id, replace(state, request=request, judged=True)))
        return self._launched(simulation_id, How.REATTACHED, state.request.folder)

    # -- looking, deciding ----------------------------------------------------------------------------------------

    def _settle(self, after: int, pages: int, *folders: str) -> Generator[Action, Any, Listing]:
        """
        Look until something is found or the time is up; a look that fails is no answer.

        :param pages: how many pages the first look reads at the most; what comes later comes at the head
        """
        listing = Listing()
        for pause in pauses(self.settle):
            if pause:
                yield Pause(pause)
            listing = yield Find(folders, after, pages)
            if listing.found:
                break
            if listing.error is None:
                pages = RECENT_PAGES
        return listing

    def _decide(self, found: tuple[Simulation, ...], state: LaunchState) -> Steps:
        """Take what was found in the folder of a post if it is ours for sure."""
        active = tuple(simulation for simulation in found if not simulation.is_terminal)
        if state.ownership is not Ownership.NAMED:
            others = tuple(simulation.id for simulation in active if simulation.id != found[0].id)
            return (yield from self._take(found[0].id, How.ADOPTED, state, others))
        if self.on_conflict is OnConflict.ADOPT_ACTIVE and len(found) == len(active) == 1:
            return (yield from self._take(found[0].id, How.ADOPTED, state))
        raise self._conflict(state.request.folder, "got, while the launch's answer was lost,", found)

    def _give_up(
        self, listing: Listing, state: LaunchState, *, again: bool = False, lost: CloudHPCError | None = None
    ) -> Steps:
        """End a doubt in which nothing was found."""
        if listing.error is not None and (self.remembers or state.ownership is not Ownership.NAMED):
            raise listing.error  # the next try looks again
        if listing.error is None and self.on_ambiguous is OnAmbiguous.RELAUNCH and not again:
            return (yield from self._post(state, again=True))
        seen = "the listing could not be read" if listing.error else f"the listing shows none after {self.settle:g} s"
        unclear = isinstance(lost, CloudHPCRefusedError)
        answer = "its answer does not say whether it began" if unclear else "its answer lost"
        raise CloudHPCLaunchError(
            f"The launch in folder {state.request.folder!r} was sent and {answer}; {seen}. It may still come, "
            "run and BILL, so it is not sent again. Look on the service's page for a simulation in this folder: if "
            "there is one, set adopt=<its id> and clear this task; if there is none, clear this task to launch again. "
            f"(on_ambiguous='relaunch' does that by itself.){f' {lost}' if lost else ''}"
        )

    def _state(self) -> LaunchState:
        """Give what this try is asked for, as it is kept."""
        return LaunchState(Phase.IDLE, self.attempt, self.request, self.ownership)

    def _take(self, simulation_id: int, how: How, state: LaunchState, others: tuple[int, ...] = ()) -> Steps:
        """
        Take a simulation as this task's.

        :param state: of its launch
        """
        launched = LaunchState(
            Phase.LAUNCHED, self.attempt, state.request, state.ownership, simulation_id=simulation_id
        )
        yield Save(launched)
        return self._launched(simulation_id, how, state.request.folder, others)

    def _launched(self, simulation_id: int, how: How, folder: str, others: tuple[int, ...] = ()) -> Launched:
        return Launched(simulation_id, how, others, "" if folder == self.request.folder else folder)

    def _take_given(self, simulation_id: int) -> Steps:
        simulation = yield Look(simulation_id)
        if simulation is None:
            raise CloudHPCLaunchError(f"adopt is {simulation_id}: there is no such simulation. Nothing was launched.")
        folder = simulation.folder.strip("/")
        # What an error of a try before a Clear said to adopt is in the folder that the task had then.
        if folder not in (self.request.folder, *self.earlier_folders):
            raise CloudHPCLaunchError(
                f"adopt is {simulation_id}: that simulation is in folder {simulation.folder!r}, this task's folder is "
                f"{self.request.folder!r}. Nothing was launched.",
                [simulation],
            )
        there = replace(self._state(), request=replace(self.request, folder=folder))
        return (yield from self._take(simulation_id, How.ADOPTED, there))

    def _conflict(self, folder: str, what: str, candidates: Sequence[Simulation]) -> CloudHPCLaunchError:
        listed = "; ".join(f"{found.id} ({found.status_name}, {found.script})" for found in candidates)
        unknown_past = not self.remembers and self.attempt.try_number > 1
        earlier = " It may be what an earlier try of this task began." if unknown_past else ""
        return CloudHPCLaunchError(
            f"Folder {folder!r} {what} {listed}.{earlier} Whether that is this task's cannot be known, "
            "so nothing more was sent; active ones BILL. If it is this task's, set adopt=<id> and clear this task; "
            "else wait for its end, stop it, or use another folder (without `folder`, an upload mints one), then clear "
            "this task. Two simulations in one folder overwrite each other's results.",
            candidates,
        )

    @staticmethod
    def _unsure(simulation_id: int) -> CloudHPCLaunchError:
        return CloudHPCLaunchError(
            f"Simulation {simulation_id} of an earlier try is over. Whether this try is a retry, which takes it, or "
            "a Clear, which launches again, cannot be known: `retries` was edited, or nothing is kept on this version "
            f"of Airflow. Nothing was launched. Set adopt={simulation_id} and clear this task to take it, or clear "
            "this task to launch again."
        )


def pauses(settle: float) -> Iterator[float]:
    """Give the pauses before each look: none, then growing ones, which together last as long as ``settle``."""
    yield 0.0
    left, pause = settle, min(2.0, settle)
    while left > 0:
        pause = min(pause, left)
        yield pause
        left -= pause
        pause = min(2 * pause, MAX_PAUSE)
