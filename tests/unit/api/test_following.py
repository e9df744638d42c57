# SPDX-License-Identifier: Apache-2.0
"""The new lines of an output, each once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.waiting.following import LAST_LINES, OutputFollower

LINES = st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1), min_size=1)


@given(lines=LINES, data=st.data())
def test_each_line_is_told_once_however_the_output_grows(lines, data):
    output = "\n".join(lines)
    # Answers come in any order: one out of a cache may be older than the one before.
    cuts = data.draw(st.lists(st.integers(0, len(output)), max_size=20))
    follower = OutputFollower()
    told = [follower.new_lines(output[:cut]) for cut in cuts]
    told.append(follower.new_lines(output, ended=True))
    assert "\n".join(filter(None, told)) == output
    assert follower.new_lines(output, ended=True) == ""


def test_half_a_line_waits_for_its_end():
    follower = OutputFollower()
    assert follower.new_lines("one\ntw") == "one"
    assert follower.new_lines("one\ntwo") == ""
    assert follower.new_lines("one\ntwo\n") == "two"


def test_after_a_restart_a_marker_and_the_last_lines_then_only_new_ones():
    output = "".join(f"line {number}\n" for number in range(100))
    follower = OutputFollower(resumed=True)
    assert follower.new_lines("") == ""
    marker, *lines = follower.new_lines(output).splitlines()
    assert marker == "--- the wait went on in a new process; the last 20 lines so far:"
    assert lines == [f"line {number}" for number in range(100 - LAST_LINES, 100)]
    assert follower.new_lines(output) == ""
    assert follower.new_lines(output + "line 100\n") == "line 100"


def test_an_output_that_begins_anew_is_told_as_such():
    follower = OutputFollower()
    assert follower.new_lines("a\nb\n") == "a\nb"
    assert follower.new_lines("c\n").splitlines() == [
        "--- the output began anew (the machine restarted?); its last 20 lines so far:",
        "c",
    ]
    assert follower.new_lines("c\nd\n") == "d"


def test_a_line_that_is_written_over_is_told_as_it_ends():
    follower = OutputFollower()
    bar = "".join(f"\r{percent} %" for percent in range(100))
    assert follower.new_lines("begin\r\nmeshing:" + bar) == "begin"
    assert follower.new_lines("begin\r\nmeshing:" + bar + "\r100 %\r\nnext\n") == "100 %\nnext"


def test_a_long_bar_without_an_end_takes_no_long_time():
    follower = OutputFollower(resumed=True)
    assert follower.new_lines("x\r" * 2_500_000 + "done\n").splitlines()[1:] == ["done"]
