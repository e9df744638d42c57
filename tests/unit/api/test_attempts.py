# SPDX-License-Identifier: Apache-2.0
"""Retry or Clear, told by Airflow's counters: held against a small model of how Airflow counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.launch.attempts import Attempt, Verdict, compare, guess


def retry(attempt: Attempt, retries: int) -> Attempt:
    return replace(attempt, try_number=attempt.try_number + 1, retries=retries)


def clear(attempt: Attempt, retries: int) -> Attempt:
    return Attempt(attempt.try_number + 1, attempt.try_number + retries, retries)


@given(
    retries=st.integers(0, 5),
    edited=st.integers(0, 5),
    story=st.lists(st.sampled_from(["retry", "clear", "edit"]), max_size=6),
)
def test_a_verdict_is_never_the_wrong_one(retries: int, edited: int, story: list[str]) -> None:
    """With ``retries`` edited to one other value at the most between the two tries."""
    kept = now = Attempt(1, retries, retries)
    setting, steps = retries, []
    for what in story:
        if what == "edit":
            setting = edited
            continue
        if what == "retry" and now.try_number > now.max_tries:
            continue  # Airflow gives no retry here
        now = retry(now, setting) if what == "retry" else clear(now, setting)
        steps.append(what)
    now = replace(now, retries=setting)
    if not steps:
        return
    verdict = compare(kept, now)
    right = Verdict.CLEAR if "clear" in steps else Verdict.RETRY
    if right is Verdict.CLEAR and steps[-1] == "retry" and setting != retries:
        # Cleared, then edited, then retried: taken for a retry at the worst, which launches nothing.
        return
    assert verdict is right or (verdict is Verdict.UNSURE and setting != retries)


@given(retries=st.integers(0, 5), story=st.lists(st.sampled_from(["retry", "clear"]), max_size=6))
def test_without_memory_and_with_retries_unedited(retries: int, story: list[str]) -> None:
    now = Attempt(1, retries, retries)
    last, cleared_ever = Verdict.NEW, False
    for what in story:
        if what == "retry" and now.try_number > now.max_tries:
            continue
        now = retry(now, retries) if what == "retry" else clear(now, retries)
        last = Verdict.RETRY if what == "retry" else Verdict.CLEAR
        cleared_ever = cleared_ever or what == "clear"
    if last is Verdict.RETRY and cleared_ever:
        last = Verdict.UNSURE
    assert guess(now) is last


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (Attempt(1, 2, 2), Attempt(2, 2, 2), Verdict.RETRY),
        (Attempt(1, 2, 2), Attempt(2, 3, 2), Verdict.CLEAR),
        # cleared while it ran on its last try: max_tries may stay
        (Attempt(3, 2, 2), Attempt(4, 2, 2), Verdict.CLEAR),
        # retries 2 -> 1: a retry, or a Clear after try 1
        (Attempt(1, 2, 2), Attempt(2, 2, 1), Verdict.UNSURE),
        # retries 2 -> 5: no Clear gives max_tries 2 then
        (Attempt(1, 2, 2), Attempt(2, 2, 5), Verdict.RETRY),
        (Attempt(1, 0, 0), Attempt(2, 1, 0), Verdict.CLEAR),
    ],
)
def test_examples(before: Attempt, now: Attempt, verdict: Verdict) -> None:
    assert compare(before, now) is verdict
    assert Attempt.from_dict(now.to_dict()) == now
