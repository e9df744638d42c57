# SPDX-License-Identifier: Apache-2.0
"""The matchers that hold client and emulator against the wire must themselves say no."""

from __future__ import annotations

import pytest

from tests.wire.matching import differences, fill, pointed, transcripts


@pytest.mark.parametrize(
    ("matcher", "right", "wrong"),
    [
        (1, 1, "1"),
        (1, 1, True),
        ({"a": 1}, {"a": 1, "b": 2}, {"b": 1}),
        ([1, 2], [1, 2], [1, 2, 3]),
        ({"a": {"$absent": True}}, {"b": 1}, {"a": None}),
        ({"a": {"$anything": True}}, {"a": None}, {"b": None}),
        ({"$is": 10}, "10", "11"),
        ({"$any": [1, {"$type": "nothing"}]}, "", 2),
        ({"$match": "^a"}, "abc", "cba"),
        ({"$match": "a"}, "a", None),
        ({"$each": {"$type": "int"}}, [1, 2], [1, "2"]),
        ({"$each": {"$type": "int"}}, [1], []),
        ({"$contains": [{"$is": 1}, 2]}, [2, "1", 3], [1, 3]),
        ({"$count": 2}, [1, 1], [1]),
        ({"$all": [{"$type": "str"}, {"$match": "x"}]}, "x", "y"),
        ({"$type": "int"}, 4, True),
        ({"$type": "numeric"}, "16.00", "many"),
        ({"$type": "date"}, "2026-01-10 08:15:00", "2026-01-10T08:15:00Z"),
        ({"$type": "url"}, "http://h/x?y", "h/x"),
    ],
)
def test_matcher_takes_the_right_and_names_the_wrong(matcher, right, wrong):
    assert differences(matcher, right) == []
    assert differences(matcher, wrong) != []


def test_fill_keeps_the_type_of_a_whole_value():
    assert fill({"a": "{n}", "b": ["/x/{n}", "{other}"]}, {"n": 7}) == {"a": 7, "b": ["/x/7", "{other}"]}


def test_pointer():
    assert pointed({"response": [{"id": 3}]}, "/response/0/id") == 3


def test_transcripts_are_named_once_and_complete():
    entries = [*transcripts("server"), *transcripts("client")]
    names = [entry["id"] for entry in entries]
    assert len(names) == len(set(names))
    assert {entry["source"] for entry in entries} <= {"seed", "seen", "one", "lenient"}
    assert all(step["request"] and step["answer"] for entry in transcripts("server") for step in entry["steps"])
    assert all(("result" in entry) != ("error" in entry) for entry in transcripts("client"))
