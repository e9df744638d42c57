# SPDX-License-Identifier: Apache-2.0
"""The rows of the chaos table: what strikes where, and what the ledger must say in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

#: What the simulations of a row do, told by their script.
SOON, LONG, FOREVER = "custom-script", "openFoam-v2406", "fds6.9.1"
#: Seconds that they run.
RUNNING: dict[str, float | None] = {SOON: 6.0, LONG: 40.0, FOREVER: None}
#: Seconds that the service, or Airflow's API, is away.
AWAY = 30.0


@dataclass(frozen=True)
class Row:
    """
    One row: a DAG whose task ``run`` launches.

    :param name: the DAG's id; a mode is added to it
    :param what: what happens, for the table
    :param kind: ``run``, ``add`` (with a sensor behind it) or ``add with teardown``
    :param point: where the process of the task or of its trigger is struck, see ``injection/sitecustomize.py``
    :param how: and how
    :param faults: of the service, for this row's account: kind, endpoint, how often (None: until taken back), options
    :param fault_seconds: when they are taken back
    :param person: what somebody does once it runs: ``failed``, ``success``, ``clear`` or ``fail run``
    :param phase: ``together``; or ``api down`` and ``triggerer down``, which strike all
    :param script: what the simulation does
    :param callback: whose ``on_failure_callback`` stops what is left: ``task`` (``stop_simulation``) or ``dag``
        (``stop_simulations``)
    :param state: how the DAG run must end
    :param launches: how many simulations must have been launched
    :param stops: how many of them must have been stopped by a signal
    :param folders: how many folders they must have been launched in, None for one each
    :param left: how many are left running: other than 0 only where that is documented
    :param says: what the task's log must say
    :param versions: of Airflow that have what the row is about
    :param old: what must be otherwise in Airflow 2
    :param short: whether it is part of the short run
    """

    name: str
    what: str
    kind: str = "run"
    deferrable: bool = False
    point: str = ""
    how: str = ""
    faults: tuple[tuple[str, str, int | None, dict[str, Any]], ...] = ()
    fault_seconds: float | None = None
    person: str = ""
    phase: str = "together"
    script: str = SOON
    retries: int = 3
    settle: float = 15.0
    callback: str = ""
    mapped: int = 0
    execution_timeout: float | None = None
    state: str = "success"
    launches: int = 1
    stops: int = 0
    folders: int | None = None
    left: int = 0
    says: str = ""
    versions: tuple[str, ...] = ("3.3", "2.11")
    old: dict[str, Any] = field(default_factory=dict)
    short: bool = False

    @property
    def mode(self) -> str:
        """Which operator, how it waits."""
        operator = "Run" if self.kind == "run" else "Add"
        return f"{operator}, {'deferrable' if self.deferrable else 'sync'}"


KILL, LOST, MOVE = "SIGKILL", "SIGKILL of the worker", "SIGTERM"
POST = "POST simulation/add"
NEW = ("3.3",)


def _both(row: Row, **deferrable: Any) -> tuple[Row, Row]:
    """Give a row in both modes; what differs in the second one is given."""
    return (
        replace(row, name=f"{row.name}_sync"),
        replace(row, name=f"{row.name}_deferrable", deferrable=True, **deferrable),
    )


def _rows() -> Iterator[Row]:
    # -- the worker is killed around each effect and each write
    # The intent is kept and nothing tells that the post never left: a person has to look. Airflow 2 keeps nothing, and
    # a folder in which nothing is seen is launched in.
    unknown: dict[str, Any] = {
        "state": "failed",
        "launches": 0,
        "says": "the listing shows none",
        "old": {"state": "success", "launches": 1, "says": ""},
    }
    yield from _both(Row("before_post", "killed before the post", point="before the post", how=KILL, **unknown))
    after_post = "after the post, before its answer is kept"
    yield from _both(Row("after_post", "killed after the post, before its answer is kept", point=after_post, how=KILL))
    yield replace(
        Row("add_after_post", "killed after the post, before its answer is kept", point=after_post, how=KILL),
        kind="add",
        deferrable=True,
        short=True,
    )
    for phase, what in (("posting", "the intent"), ("launched", "the id")):
        for when in ("before", "after"):
            point = f"{when} the state {phase!r} is kept"
            left_unknown = unknown if point == "after the state 'posting' is kept" else {}
            row = Row(f"{when}_{phase}", f"killed {when} {what} is kept", point=point, how=KILL, versions=NEW)
            yield replace(row, **left_unknown)
    yield Row("told", "killed after the id is told", deferrable=True, point="after the id is told", how=KILL)
    yield Row("before_defer", "killed before it defers", deferrable=True, point="before the deferral", how=KILL)
    yield Row(
        "after_defer",
        "killed after Airflow knows of the deferral",
        deferrable=True,
        point="after the deferral",
        how=KILL,
        versions=NEW,
    )
    yield Row("waiting", "killed while it waits", script=LONG, point="while it waits", how=KILL)
    yield Row("event", "killed before it takes the event", deferrable=True, point="before the event is taken", how=KILL)
    yield Row("result", "killed before its result is kept", deferrable=True, point="after the event is taken", how=KILL)
    # -- the machine is gone
    yield Row("machine_post", "machine lost after the post", point=after_post, how=LOST)
    yield Row("machine_waiting", "machine lost while it waits", script=LONG, point="while it waits", how=LOST)
    yield Row(
        "machine_event",
        "machine lost before it takes the event",
        deferrable=True,
        point="before the event is taken",
        how=LOST,
    )
    # -- the pod moves
    yield from _both(Row("moved_post", "pod moved after the post", point=after_post, how=MOVE))
    yield Row(
        "moved_waiting",
        "pod moved while it waits",
        point="while it waits",
        how=MOVE,
        short=True,
        says="This process ends",
    )
    yield Row(
        "moved_event",
        "pod moved before it takes the event",
        deferrable=True,
        point="before the event is taken",
        how=MOVE,
    )
    # -- the triggerer is killed around the event
    for name, point in (
        ("trigger_waiting", "while its trigger waits"),
        ("trigger_event", "before the trigger's event"),
        ("trigger_after_event", "after the trigger's event"),
    ):
        what = f"triggerer killed {point.replace('its trigger', 'it')}"
        yield Row(name, what, deferrable=True, point=point, how="SIGKILL of the triggerer", script=SOON)
    # -- the service and the way to it
    yield Row(
        "reset_before",
        "post reset, without effect",
        faults=(("reset_before", POST, 1, {}),),
        state="failed",
        launches=0,
        says="the listing shows none",
    )
    yield from _both(
        Row("reset_after", "answer of the post lost, listing lags", faults=(("reset_after", POST, 1, {}),)), short=True
    )
    late = (("late_effect", POST, 1, {"after": 8}),)
    yield from _both(Row("late", "answer lost, effect 8 s later", faults=late))
    yield Row("add_late", "answer lost, effect 8 s later", kind="add", deferrable=True, faults=late)
    yield Row(
        "late_killed",
        "answer lost, effect 8 s later, killed while it looks for it",
        faults=late,
        point="while it looks for its launch",
        how=KILL,
    )
    away = (("unavailable", "*", None, {}),)
    before: dict[str, Any] = {"fault_seconds": AWAY, "settle": 60, "point": "before the post", "how": "hold"}
    yield Row(
        "away_post",
        "service answers 503 for 30 s from before the post on",
        faults=away,
        **before,
        **{**unknown, "old": {}},
    )
    lost_and_away = (("reset_after", POST, 1, {}), ("unavailable", "GET *", None, {}))
    yield from _both(Row("away_lost", "answer of the post lost, then 503 for 30 s", faults=lost_and_away, **before))
    yield from _both(
        Row(
            "away_wait",
            "service answers 503 for 30 s while it waits",
            script=LONG,
            faults=away,
            fault_seconds=AWAY,
            point="after the id is told",
            how="hold",
        ),
    )
    # -- mapped tasks, whose requests are equal
    yield Row(
        "mapped_lost",
        "3 mapped tasks lose their answers at once",
        mapped=3,
        launches=3,
        deferrable=True,
        faults=(("reset_after", POST, 3, {}),),
    )
    yield Row(
        "mapped_killed", "1 of 3 mapped tasks killed after the post", mapped=3, launches=3, point=after_post, how=KILL
    )
    # -- somebody ends the task
    for state in ("failed", "success"):
        ended = Row(f"marked_{state}", f"marked {state}", person=state, script=FOREVER, state=state, stops=1)
        yield from _both(ended, short=state == "failed")
    yield from _both(
        Row("run_failed", "its run marked failed", person="fail run", script=FOREVER, state="failed", stops=1)
    )
    cleared = Row("cleared", "cleared while it runs", person="clear", script=FOREVER, launches=2, stops=1)
    # Airflow 2 leaves max_tries alone where a running task is cleared, so its folder stays.
    yield from _both(replace(cleared, old={"folders": 1}), old={})
    yield Row(
        "timed_out",
        "execution_timeout",
        script=FOREVER,
        execution_timeout=8,
        state="failed",
        stops=1,
        says="This task itself stopped it",
        old={"says": "was STOPPED"},
    )
    # -- the last try is killed, and nothing of the task can act any more
    last = {"point": "after the id is told", "how": KILL, "retries": 0, "script": FOREVER, "state": "failed"}
    yield Row(
        "last_callback", "killed on the last try; on_failure_callback of the DAG", stops=1, callback="dag", **last
    )
    yield Row(
        "last_callback_machine",
        "machine lost on the last try; on_failure_callback of the task",
        stops=1,
        callback="task",
        **{**last, "how": LOST},
    )
    yield Row(
        "last_callback_post",
        "killed on the last try after the post; on_failure_callback of the DAG",
        stops=1,
        callback="dag",
        **{**last, "point": after_post},
    )
    yield Row(
        "last_callback_machine_post",
        "machine lost on the last try after the post; on_failure_callback of the task",
        stops=1,
        callback="task",
        **{**last, "how": LOST, "point": after_post},
    )
    yield Row(
        "last_teardown",
        "wait killed on the last try; teardown",
        stops=1,
        kind="add with teardown",
        short=True,
        **{**last, "point": "while it waits"},
    )
    yield Row(
        "last_teardown_post",
        "killed on the last try after the post; teardown by folder",
        stops=1,
        kind="add with teardown",
        **{**last, "point": after_post},
    )
    yield Row("last_alone", "killed on the last try, neither callback nor teardown", left=1, **last)
    # -- Airflow's own parts are away
    down = Row("", "", phase="api down", versions=NEW, retries=8)
    yield from _both(replace(down, name="api_wait", what="Airflow's API down for 30 s while it waits", script=LONG))
    yield from _both(
        replace(
            down, name="api_post", what="Airflow's API down for 30 s from the post on", point=after_post, how="hold"
        )
    )
    gone = Row("", "", phase="triggerer down", deferrable=True, script=FOREVER, person="failed", state="failed")
    yield replace(gone, name="no_triggerer", what="marked failed before its trigger began", left=1)
    yield replace(
        gone,
        name="no_triggerer_callback",
        what="marked failed before its trigger began; on_failure_callback of the DAG",
        callback="dag",
        stops=1,
    )
    yield replace(
        gone,
        name="no_triggerer_teardown",
        what="marked failed before its trigger began; teardown",
        kind="add with teardown",
        stops=1,
    )


ROWS = tuple(_rows())
