# SPDX-License-Identifier: Apache-2.0
"""One task of an Airflow that retries, clears and keeps (or does not keep) state; the operator runs in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG


class KeptState:
    """A task's state store: what is kept has gone through JSON, as Airflow's own."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.broken_after: int | None = None

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.rows[key]) if key in self.rows else default

    def set(self, key: str, value: Any, **more: Any) -> None:
        if self.broken_after == 0:
            raise ConnectionError("Airflow's API is down")
        if self.broken_after:
            self.broken_after -= 1
        self.rows[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.rows.pop(key, None)


@dataclass
class Instance:
    """A task instance: Airflow's counters, and what was pushed."""

    task_id: str
    dag_id: str = "dag"
    run_id: str = "manual__1"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    xcoms: dict[str, Any] = field(default_factory=dict)
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    def get_first_reschedule_date(self, context: Any) -> datetime:
        return self.begun

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


class AirflowTask:
    """
    A task in a run.

    :param make: makes the operator in a DAG, anew for every try as a worker does
    :param remembers: whether this Airflow has a state store
    """

    def __init__(
        self, make: Callable[[], Any], *, retries: int = 2, remembers: bool = True, map_index: int = -1
    ) -> None:
        self._make = make
        self.retries = retries
        self.store = KeptState() if remembers else None
        self.instance = Instance("", map_index=map_index, max_tries=retries)

    def context(self) -> dict[str, Any]:
        with DAG("dag", schedule=None):
            made = self._make()
        operators = made if isinstance(made, list) else [made]
        task = operators[0]
        task.retries = self.retries
        self.instance.task_id = task.task_id
        context = {"ti": self.instance, "task": task, "dag": task.dag}
        return context if self.store is None else {**context, "task_state_store": self.store}

    def run(self) -> Any:
        """Run this try."""
        self.instance.xcoms.clear()
        context = self.context()
        return context["task"].execute(context)

    def retry(self) -> Any:
        """Run the next try."""
        self.instance.try_number += 1
        return self.run()

    def clear(self) -> Any:
        """Clear the task, and run the try that follows."""
        self.instance.max_tries = self.instance.try_number + self.retries
        return self.retry()
