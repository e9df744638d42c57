# SPDX-License-Identifier: Apache-2.0
"""The harness itself, on a DAG of Airflow's own parts."""

from __future__ import annotations

import signal
import time
from pathlib import Path

DAGS = Path(__file__).parent / "dags"
DAG_ID = "plain_deferral"
SUCCESS = {"give": "success", "wait": "success", "double[0]": "success", "double[1]": "success"}


def runs(pid: int) -> bool:
    """Whether a process is there; one that is dead and was not collected yet by its parent is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_real_airflow_runs_defers_restarts_and_leaves_nothing(real_airflow):
    airflow = real_airflow(DAGS)
    airflow.start()
    airflow.add_connection("stored", "http", host="127.0.0.1", password="a-stored-secret", extra={"a": 1})
    run = airflow.trigger(DAG_ID)
    airflow.wait_for_task(run, "wait", "deferred")
    triggerer = airflow.components["triggerer"]
    triggerer.kill(signal.SIGKILL)
    assert not triggerer.is_running
    triggerer.start()
    assert airflow.wait(run) == "success"
    assert airflow.task_states(run) == SUCCESS
    xcoms = airflow.xcoms(run)
    assert xcoms["give"]["return_value"] == {"text": run.run_id}
    assert xcoms["wait"]["return_value"] == "resumed"
    assert xcoms["double[1]"]["return_value"] == 4
    assert run.run_id in str(airflow.rendered_fields(run)["give"])
    assert [kwargs for classpath, kwargs in airflow.seen_triggers if classpath.endswith(".DateTimeTrigger")] != []
    assert "Pausing task as DEFERRED" in airflow.task_log(run, "wait")
    processes = [pid for component in airflow.components.values() for pid in component.processes()]
    assert processes
    airflow.stop()
    deadline = time.monotonic() + 20
    while left := [pid for pid in processes if runs(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)
