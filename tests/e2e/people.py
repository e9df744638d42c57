# SPDX-License-Identifier: Apache-2.0
"""What a person does in Airflow's web interface: start runs, mark, clear. Airflow 2 is told by its own Python calls."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from typing import Any

from tests.e2e.airflow_home import Run
from tests.e2e.airflow_process import RealAirflow

#: How often Airflow's API is asked before it counts as gone.
ATTEMPTS = 3

TRIGGER = """
import json, sys
from airflow.api.common.trigger_dag import trigger_dag
for dag_id, run_id in json.load(sys.stdin):
    trigger_dag(dag_id=dag_id, run_id=run_id, conf={})
"""

ACT = """
import sys
from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
from airflow.models import DagBag, TaskInstance
from airflow.models.taskinstance import clear_task_instances
from airflow.utils.session import create_session
what, dag_id, run_id, task_id = sys.argv[1:]
with create_session() as session:
    dag = DagBag(read_dags_from_db=True).get_dag(dag_id)
    query = session.query(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id)
    if what == "fail run":
        set_dag_run_state_to_failed(dag=dag, run_id=run_id, commit=True, session=session)
    elif what == "clear":
        clear_task_instances(query.filter_by(task_id=task_id).all(), session, dag=dag)
    else:
        query.filter_by(task_id=task_id).one().set_state(what, session=session)
"""


class People:
    """
    People who use an Airflow.

    :param airflow: is running
    """

    def __init__(self, airflow: RealAirflow) -> None:
        self._airflow = airflow
        self._new = airflow.version >= (3, 0)

    def trigger(self, dag_ids: Sequence[str]) -> list[Run]:
        """Start a run of each DAG; they have to be known to Airflow."""
        runs = [Run(dag_id, f"e2e_{uuid.uuid4().hex[:8]}") for dag_id in dag_ids]
        if not self._new:
            self._airflow.run_python("-c", TRIGGER, stdin=json.dumps([[run.dag_id, run.run_id] for run in runs]))
            return runs
        for run in runs:
            self._ask("POST", f"dags/{run.dag_id}/dagRuns", {"dag_run_id": run.run_id, "logical_date": None})
        return runs

    def act(self, what: str, run: Run, task_id: str) -> None:
        """
        Do something to a task of a run.

        :param what: ``failed`` or ``success`` (marks it), ``clear``, or ``fail run``
        """
        if not self._new:
            self._airflow.run_python("-c", ACT, what, run.dag_id, run.run_id, task_id)
            return
        dag = f"dags/{run.dag_id}"
        if what == "fail run":
            self._ask("PATCH", f"{dag}/dagRuns/{run.run_id}", {"state": "failed"})
        elif what == "clear":
            told = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": [task_id], "only_failed": False}
            self._ask("POST", f"{dag}/clearTaskInstances", told)
        else:
            self._ask("PATCH", f"{dag}/dagRuns/{run.run_id}/taskInstances/{task_id}", {"new_state": what})

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Ask Airflow's API, again where a busy machine lets it time out; what was done already is done."""
        for attempt in range(ATTEMPTS):
            try:
                with urllib.request.urlopen(f"{self._airflow.url}/auth/token", timeout=30) as answer:
                    token = json.load(answer)["access_token"]
                request = urllib.request.Request(
                    f"{self._airflow.url}/api/v2/{path}",
                    data=json.dumps(body).encode(),
                    headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                    method=method,
                )
                urllib.request.urlopen(request, timeout=60).close()
            except urllib.error.HTTPError as error:
                if attempt and error.code == 409:
                    return
                raise
            except OSError:
                if attempt + 1 == ATTEMPTS:
                    raise
            else:
                return
