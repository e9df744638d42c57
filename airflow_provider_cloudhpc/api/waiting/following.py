# SPDX-License-Identifier: Apache-2.0
"""The new lines of a growing text, each once."""

from __future__ import annotations

#: Longest answer that is followed, bytes: each look brings all of the output again.
MOST_FOLLOWED = 5_000_000
#: How many lines are shown again where it is not known which were shown before.
LAST_LINES = 20


class OutputFollower:
    """
    Tell the new lines of a simulation's output, which every look brings as a whole.

    :param resumed: whether an earlier follower, which is gone, may have told lines already
    """

    def __init__(self, *, resumed: bool = False) -> None:
        self._told = ""
        self._resumed = resumed

    def new_lines(self, output: str, *, ended: bool = False) -> str:
        """
        Give the new whole lines as one text; "" where there are none.

        :param output: the whole output so far
        :param ended: whether no more will come: then the last line is told though its end is missing
        """
        whole = output if ended else output[: output.rfind("\n") + 1]
        marker = ""
        if self._resumed and whole:
            marker = f"--- the wait went on in a new process; the last {LAST_LINES} lines so far:"
        elif not whole.startswith(self._told):
            if self._told.startswith(whole):
                return ""  # an older answer from a cache
            marker = f"--- the output began anew (the machine restarted?); its last {LAST_LINES} lines so far:"
        self._resumed = self._resumed and not whole
        new = whole.removeprefix(self._told) if not marker else ""
        if marker:
            new = "\n".join([marker, *whole.removesuffix("\n").split("\n")[-LAST_LINES:]])
        self._told = whole
        return "\n".join(_last_state(line) for line in new.removesuffix("\n").split("\n"))


def _last_state(line: str) -> str:
    """What a terminal shows in the end of a line that was written over, as progress bars are."""
    return line.rstrip("\r").rpartition("\r")[2]
