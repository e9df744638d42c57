# SPDX-License-Identifier: Apache-2.0
"""The decisions of a wait, fed with what is seen and with the time."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCConnectionError,
    CloudHPCNotFoundError,
    CloudHPCQuotaError,
    CloudHPCRefusedError,
    CloudHPCValueError,
)
from airflow_provider_cloudhpc.api.lifecycle import CONFIRM_AFTER, Ending, EndingKind, Watch, duration, ending_of
from airflow_provider_cloudhpc.api.models import Simulation, SimulationStatus

RUNNING = SimulationStatus.RUNNING
LOST_CONNECTION = CloudHPCConnectionError("The service could not be reached.")


class Story:
    """A watch, and what it told."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
        self.watch = Watch(7, page="https://x/7", started=0.0, tell=self.lines.append, **options)

    def sees(self, status: int, now: float, **record: Any) -> Ending | None:
        record = {"cpu": 4, "script": "fds6.9.1", **record}
        return self.watch.seen(Simulation(7, status, **record), now)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (SimulationStatus.COMPLETED, EndingKind.COMPLETED),
        (SimulationStatus.ERROR, EndingKind.ERROR),
        (SimulationStatus.STOPPED, EndingKind.STOPPED),
    ],
)
def test_the_simulation_s_own_endings(status: SimulationStatus, kind: EndingKind) -> None:
    ending = Story().sees(status, 1)
    assert ending is not None
    assert ending.kind is kind
    assert Ending.from_dict(ending.to_dict()) == ending


@pytest.mark.parametrize("status", [SimulationStatus.PENDING, RUNNING, SimulationStatus.STOPPING, 70, None])
def test_what_is_no_ending(status: int | None) -> None:
    assert ending_of(Simulation(7, status)) is None


def test_an_unknown_status_is_told_once_and_waited_on() -> None:
    story = Story()
    assert [story.sees(70, now) for now in (1, 2, 3)] == [None] * 3
    assert len([line for line in story.lines if "not known to this version" in line]) == 1


def test_a_status_change_is_told_with_how_long_it_took() -> None:
    story = Story()
    story.sees(SimulationStatus.PENDING, 0)
    story.sees(RUNNING, 600)
    assert story.lines == ["Simulation 7 is PENDING", "Simulation 7 is RUNNING after 10 min of PENDING"]


def test_the_deadline_says_that_it_still_bills() -> None:
    story = Story(deadline=100.0)
    assert story.sees(RUNNING, 99) is None
    ending = story.sees(RUNNING, 100)
    assert ending is not None
    assert ending.kind is EndingKind.DEADLINE
    assert "may still run and BILL: https://x/7" in ending.message


def test_vcpu_hours_are_counted_from_the_first_sight_of_running() -> None:
    story = Story(max_vcpu_hours=2)
    story.sees(SimulationStatus.PENDING, 1000)
    story.sees(RUNNING, 5000)
    assert story.watch.deadline == 5000 + 1800
    assert story.watch.check_deadline(6799) is None
    ending = story.watch.check_deadline(6800)
    assert ending is not None
    assert ending.kind is EndingKind.LIMIT


def test_a_wait_that_goes_on_counts_what_the_service_tells_and_not_the_queue() -> None:
    """Half an hour of 2 hours on 4 vCPUs is gone; the wait began long before, in another process."""
    story = Story(max_vcpu_hours=2, now=9000.0)
    assert story.sees(RUNNING, 9000, cpu_hours=1.0) is None
    assert story.watch.deadline == 9000 + 900
    assert story.sees(RUNNING, 9300, cpu_hours=1.0) is None, "an old number postpones nothing"
    assert story.watch.deadline == 9000 + 900
    assert story.sees(RUNNING, 9400, cpu_hours=1.9) is None
    assert story.watch.deadline == pytest.approx(9400 + 90)


def test_without_a_word_of_the_service_the_queue_counts_too() -> None:
    story = Story(max_vcpu_hours=2, now=900.0)
    assert story.sees(RUNNING, 900) is None
    assert story.watch.deadline == 1800


def test_what_the_service_tells_counts_at_once() -> None:
    for limit, told in (({"max_cost": 2}, {"cost": 2.5}), ({"max_vcpu_hours": 2}, {"cpu_hours": 2.0})):
        story = Story(**limit)
        assert story.sees(RUNNING, 1) is None
        ending = story.sees(RUNNING, 2, **told)
        assert ending is not None
        assert ending.kind is EndingKind.LIMIT


def test_a_bare_machine_is_not_waited_for_by_accident() -> None:
    ending = Story().sees(RUNNING, 1, script="ubuntu-2404-static")
    assert ending is not None
    assert ending.kind is EndingKind.ENDLESS
    assert Story(endless_allowed=True).sees(RUNNING, 1, script="ubuntu-2404-static") is None


@pytest.mark.parametrize(
    "error",
    [
        CloudHPCAuthError("The key is wrong."),
        CloudHPCNotFoundError("Gone."),
        CloudHPCRefusedError("Not yours.", status=403),
        CloudHPCAnswerError("That is no record.", status=200),
    ],
)
def test_once_is_no_proof_and_twice_a_minute_apart_is(error: Exception) -> None:
    story = Story()
    story.sees(RUNNING, 0)
    assert story.watch.missed(error, 10) is None  # type: ignore[arg-type]
    assert story.watch.confirm_at == 10 + CONFIRM_AFTER
    assert story.watch.missed(error, 30) is None  # type: ignore[arg-type]
    ending = story.watch.missed(error, 10 + CONFIRM_AFTER)  # type: ignore[arg-type]
    assert ending is not None
    assert ending.kind is EndingKind.LOST
    assert "last seen: RUNNING" in ending.message


def test_a_key_that_works_again_is_forgotten() -> None:
    story = Story()
    story.watch.missed(CloudHPCAuthError("The key is wrong."), 10)
    story.sees(RUNNING, 20)
    assert story.watch.confirm_at is None
    assert story.watch.missed(CloudHPCAuthError("The key is wrong."), 100) is None


def test_an_answer_about_others_clears_the_key_and_no_simulation() -> None:
    for error, stays in ((CloudHPCAuthError("The key is wrong."), False), (CloudHPCNotFoundError("Gone."), True)):
        story = Story()
        story.watch.missed(error, 10)
        story.watch.heard(20)
        assert (story.watch.confirm_at is not None) is stays
        assert (story.watch.missed(error, 100) is not None) is stays


def test_a_lost_connection_is_outlived_up_to_the_patience() -> None:
    story = Story(patience=1000)
    story.sees(RUNNING, 0)
    assert story.watch.missed(LOST_CONNECTION, 999) is None
    story.sees(RUNNING, 1000)
    assert story.watch.missed(LOST_CONNECTION, 1999) is None
    ending = story.watch.missed(LOST_CONNECTION, 2000)
    assert ending is not None
    assert ending.kind is EndingKind.LOST
    assert "This says nothing about the simulation itself" in ending.message


def test_a_page_of_something_else_is_outlived_up_to_the_patience() -> None:
    story = Story(patience=1000)
    story.sees(RUNNING, 0)
    page = CloudHPCAnswerError("Not the API answered.", status=404)
    assert [story.watch.missed(page, now) for now in (10, 70, 999)] == [None] * 3
    ending = story.watch.missed(page, 1000)
    assert ending is not None
    assert ending.kind is EndingKind.LOST


def test_a_connection_that_cannot_be_used_is_not_waited_for() -> None:
    ending = Story().watch.missed(CloudHPCValueError("The API key is empty."), 1)
    assert ending is not None
    assert ending.kind is EndingKind.LOST


def test_the_quota_never_ends_a_wait() -> None:
    story = Story(patience=10)
    assert story.watch.missed(CloudHPCQuotaError("Used up."), 10_000) is None


def test_heartbeats_come_ever_more_rarely() -> None:
    story = Story()
    story.sees(RUNNING, 0)
    for now in range(60, 4 * 3600, 60):
        story.sees(RUNNING, now)
    beats = [line for line in story.lines if "waiting for" in line]
    assert 4 <= len(beats) <= 8


@pytest.mark.parametrize("data", [{}, {"kind": "fine"}, {"kind": "completed", "simulation_id": "x"}, {"status": "ok"}])
def test_an_event_that_is_not_understood_is_no_success(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Not the end of a wait"):
        Ending.from_dict(data)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (11_100, "3 h 05 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
