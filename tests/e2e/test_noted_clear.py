# SPDX-License-Identifier: Apache-2.0
"""Airflow 2: what its database says of a task that was cleared while it runs, or whose run was deleted."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

DAGS = Path(__file__).parent / "dags"

NOTE = """
import json, sys
from types import SimpleNamespace
from airflow_provider_cloudhpc.killing import clear_of, remember_stop
key, tries = json.loads(sys.argv[1]), []
ti = SimpleNamespace(**key, try_number=1)
remember_stop({"ti": ti}, 77)
for map_index, try_number in ((-1, 1), (-1, 2), (0, 2)):
    seen = clear_of({"ti": SimpleNamespace(**{**key, "map_index": map_index}, try_number=try_number)})
    tries.append(None if seen is None else [seen.simulation_id, seen.try_number])
print("seen:" + json.dumps(tries))
"""


KILLED = """
import json, sys
from airflow_provider_cloudhpc.killing import TaskKey, was_killed
print("killed:", was_killed(TaskKey(**json.loads(sys.argv[1]))))
"""

pytestmark = pytest.mark.skipif(
    not version("apache-airflow").startswith("2."), reason="Airflow 3 counts such a Clear, and refuses to delete"
)


def test_a_task_whose_run_was_deleted_was_killed(airflow_home):
    home = airflow_home(DAGS)
    run = home.dag_test(DAGS / "plain_deferral.py", "plain_deferral")
    task_id = next(name for name in home.task_states(run) if "[" not in name)
    key = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": task_id, "map_index": -1}
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("UPDATE task_instance SET state='running' WHERE run_id=?", (run.run_id,))
    assert "killed: False" in home.run_python("-c", KILLED, json.dumps(key))
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("DELETE FROM task_instance WHERE run_id=?", (run.run_id,))
    assert "killed: True" in home.run_python("-c", KILLED, json.dumps(key))


def test_only_a_clear_of_a_running_task_is_noted_for_its_next_try(airflow_home):
    home = airflow_home(DAGS)
    run = home.dag_test(DAGS / "plain_deferral.py", "plain_deferral")
    task_id = next(name for name in home.task_states(run) if "[" not in name)
    key = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": task_id, "map_index": -1}
    for state, seen in (("failed", [None, None, None]), ("restarting", [None, [77, 1], None])):
        with closing(sqlite3.connect(home.database)) as connection, connection:
            connection.execute("UPDATE task_instance SET state=? WHERE run_id=?", (state, run.run_id))
        said = home.run_python("-c", NOTE, json.dumps(key))
        (told,) = [line for line in said.splitlines() if line.startswith("seen:")]
        assert json.loads(told.removeprefix("seen:")) == seen
