# SPDX-License-Identifier: Apache-2.0
"""An output whose end is on its way when the run is over already."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.api.diagnosis.examination import END_PAUSE, examine
from airflow_provider_cloudhpc.api.lifecycle import Ending, EndingKind
from tests.integration.scripted import Answer, ScriptedServer

BEGUN = "@@@ Starting FDS ...\n Time Step 1\n"
WHOLE = f"{BEGUN} STOP: FDS completed successfully (CHID: room)\n"
KILLED = f"{BEGUN}mpirun noticed that process rank 0 was KILLED BY SIGNAL: 9\n"
GONE = Answer({"errors": ["A technical problem has occurred, try again later."]}, status=403)


def viewed(output: str) -> Answer:
    record: dict[str, Any] = {"id": 7, "status": 10, "folder": "room", "script": "fds6.9.1", "cpu": 2, "ram": "highcpu"}
    return Answer({"response": {**record, "output": output}})


@pytest.mark.parametrize(
    ("kind", "answers", "ends", "looks"),
    [
        ("completed", [viewed(BEGUN), viewed(WHOLE)], "completed", 2),
        ("completed", [viewed(BEGUN), viewed(BEGUN)], "failed", 2),
        ("completed", [viewed(BEGUN), viewed(KILLED)], "failed", 2),
        ("completed", [viewed(BEGUN), GONE], "failed", 2),
        ("completed", [viewed(WHOLE)], "completed", 1),
        ("completed", [viewed(KILLED)], "failed", 1),
        ("completed", [viewed("Traceback (most recent call last):\nValueError: x\n")], "failed", 1),
        ("error", [viewed(BEGUN)], "error", 1),
        ("stopped", [viewed(BEGUN)], "stopped", 1),
    ],
)
def test_an_end_that_is_missing_is_looked_for_once_more(
    kind: str, answers: list[Answer], ends: str, looks: int
) -> None:
    pauses: list[float] = []
    with ScriptedServer(*answers) as server, CloudHPCClient("key", server.url, max_attempts=1) as client:
        examined = examine(client, Ending(EndingKind(kind), 7, "It ended."), sleep=pauses.append)
        assert len(server.requests) == looks
    assert examined.ending.kind.value == ends
    assert pauses == [END_PAUSE] * (looks - 1)
