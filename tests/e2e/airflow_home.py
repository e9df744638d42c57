# SPDX-License-Identifier: Apache-2.0
"""An Airflow installation of its own: home, database, settings; and what a run left in it, read from the database."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

#: Seconds that one Airflow command may take.
COMMAND_TIMEOUT = 300.0

#: Interpreter of an environment -> its Airflow's database with all tables and no rows of anybody's.
MIGRATED: dict[str, bytes] = {}

ADD_CONNECTION = """
import json, sys
from airflow.models import Connection
from airflow.utils.session import create_session
with create_session() as session:
    fields = json.load(sys.stdin)
    session.query(Connection).filter_by(conn_id=fields["conn_id"]).delete()
    session.add(Connection(**fields))
"""

#: Runs one DAG of a file by ``dag.test()``; in Airflow 3 the DAG has to be known to the database first.
DAG_TEST = """
import importlib.util, json, sys
from airflow import DAG
path, dag_id, conf = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
spec = importlib.util.spec_from_file_location("dag_under_test", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
dags = {value.dag_id: value for value in vars(module).values() if hasattr(value, "dag_id") and hasattr(value, "test")}
run = dags[dag_id].test(run_conf=conf)
print("run:" + json.dumps([run.run_id, str(getattr(run.state, "value", run.state))]))
"""


class AirflowError(Exception):
    """An Airflow command or component failed; the text holds its last lines."""


@dataclass(frozen=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str = ""


class AirflowHome:
    """
    An Airflow home directory with a migrated SQLite database.

    :param home: directory for everything that Airflow writes; made if it is not there
    :param dags: folder with the DAG files
    :param python: interpreter of the environment that Airflow is installed in
    :param log_level: level of Airflow's logging
    :param env: further environment variables, also to override what is set here
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        python: str = sys.executable,
        log_level: str = "DEBUG",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.dags = dags.resolve()
        self.python = python
        self.database = self.home / "airflow.db"
        self.fernet_key = Fernet.generate_key().decode()
        self.home.mkdir(parents=True, exist_ok=True)
        config = self.home / "config"
        config.mkdir(exist_ok=True)
        # SQLite locks the whole file: several processes have to be patient with each other.
        (config / "sqlite_patience.py").write_text('CONNECT_ARGS = {"timeout": 60}\n', encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self.env = {
            **inherited,
            "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(config),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__FERNET_KEY": self.fernet_key,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "sqlite_patience.CONNECT_ARGS",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC": "sqlite_patience.CONNECT_ARGS",
            # Airflow 3 learns that a task was deferred up to so many seconds late, and fails one that is back by then.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            # On a busy machine a new API server takes longer to answer than the 5 s that a worker waits by default.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": log_level,
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
            # A triggerer that was killed is missed soon.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__API_AUTH__JWT_SECRET": base64.b64encode(os.urandom(32)).decode(),
            **(env or {}),
        }
        version = "import importlib.metadata as m; print(m.version('apache-airflow'))"
        self.version = tuple(int(part) for part in self.run_python("-c", version).split(".")[:2])
        # Airflow 2 takes no other executor than this on SQLite.
        self.env.setdefault(
            "AIRFLOW__CORE__EXECUTOR", "LocalExecutor" if self.version >= (3, 0) else "SequentialExecutor"
        )
        #: What was in the trigger table whenever it was looked at: (classpath, kwargs in the clear).
        self.seen_triggers: set[tuple[str, str]] = set()

    def run_python(self, *arguments: str, stdin: str = "") -> str:
        """
        Run the environment's interpreter to its end.

        :return: its standard output
        :raises AirflowError: it failed
        """
        done = subprocess.run(
            [self.python, *arguments],
            input=stdin,
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        with (self.home / "commands.log").open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise AirflowError(f"{arguments} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout

    def airflow(self, *arguments: str) -> str:
        """Run an ``airflow`` command to its end."""
        return self.run_python("-m", "airflow", *arguments)

    def migrate(self) -> None:
        """Make the database's tables, once for all homes of an environment: it takes Airflow many seconds."""
        if self.python not in MIGRATED:
            self.airflow("db", "migrate")
            with closing(sqlite3.connect(self.database)) as connection:
                # Readers and writers are not to wait for each other.
                connection.execute("PRAGMA journal_mode=WAL")
            MIGRATED[self.python] = self.database.read_bytes()
        self.database.write_bytes(MIGRATED[self.python])

    def add_connection(
        self, conn_id: str, conn_type: str, *, extra: Mapping[str, Any] | None = None, **fields: Any
    ) -> None:
        """
        Store a connection in the database, in place of one of the same id.

        :param fields: ``host``, ``password``, ``port``, ...
        """
        # By standard input: a command line is written to Airflow's own audit log.
        document = {"conn_id": conn_id, "conn_type": conn_type, **fields}
        if extra:
            document["extra"] = json.dumps(extra)
        self.run_python("-c", ADD_CONNECTION, stdin=json.dumps(document))

    def dag_test(self, file: Path, dag_id: str, conf: Mapping[str, Any] | None = None) -> Run:
        """
        Run a DAG by ``dag.test()``: one process, no scheduler, triggers inline.

        :param file: the DAG's file; it has to lie in the DAGs folder
        """
        if self.version >= (3, 0):
            self.airflow("dags", "reserialize")
        out = self.run_python("-c", DAG_TEST, str(file.resolve()), dag_id, json.dumps(conf or {}))
        said = [line for line in out.splitlines() if line.startswith("run:")]
        run_id, state = json.loads(said[-1].removeprefix("run:"))
        return Run(dag_id, run_id, state)

    # -- what is in the database ---------------------------------------------------------------------------

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database, read-only; nothing where the table is not there yet."""
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=60)) as connection:
            return connection.execute(query, values).fetchall()

    def run_state(self, run: Run) -> str:
        """Give a run's state; "" while there is no such run."""
        found = self.rows("SELECT state FROM dag_run WHERE dag_id=? AND run_id=?", run.dag_id, run.run_id)
        return (found[0][0] or "") if found else ""

    def task_states(self, run: Run) -> dict[str, str]:
        """Give the states of a run's tasks; a mapped task's key is ``task[index]``."""
        query = "SELECT task_id, map_index, state FROM task_instance WHERE dag_id=? AND run_id=?"
        return {_key(task, index): state or "" for task, index, state in self.rows(query, run.dag_id, run.run_id)}

    def try_numbers(self, run: Run) -> dict[str, int]:
        """Give how often each task of a run was tried."""
        query = "SELECT task_id, map_index, try_number FROM task_instance WHERE dag_id=? AND run_id=?"
        return {_key(task, index): number for task, index, number in self.rows(query, run.dag_id, run.run_id)}

    def xcoms(self, run: Run) -> dict[str, dict[str, Any]]:
        """Give the XComs of a run: task -> key -> value."""
        query = "SELECT task_id, map_index, key, value FROM xcom WHERE dag_id=? AND run_id=?"
        found: dict[str, dict[str, Any]] = {}
        for task, index, key, value in self.rows(query, run.dag_id, run.run_id):
            found.setdefault(_key(task, index), {})[key] = _xcom_value(value)
        return found

    def rendered_fields(self, run: Run) -> dict[str, Any]:
        """Give the rendered template fields of a run's tasks."""
        query = (
            "SELECT task_id, map_index, rendered_fields FROM rendered_task_instance_fields WHERE dag_id=? AND run_id=?"
        )
        found = self.rows(query, run.dag_id, run.run_id)
        return {_key(task, index): _json_or_text(fields) for task, index, fields in found}

    def look_at_triggers(self) -> list[tuple[int, str, str]]:
        """Give the trigger table's rows (id, classpath, kwargs in the clear), and remember them."""
        fernet = Fernet(self.fernet_key)
        found = []
        for identifier, classpath, kwargs in self.rows("SELECT id, classpath, kwargs FROM trigger"):
            # Airflow 3 stores a task's trigger in the clear.
            plain = kwargs if kwargs.startswith("{") else fernet.decrypt(kwargs.encode()).decode()
            found.append((identifier, classpath, plain))
        self.seen_triggers |= {(classpath, kwargs) for _, classpath, kwargs in found}
        return found

    def table_cells(self) -> Iterator[tuple[str, str | bytes]]:
        """Give every text and blob of the database with the name of its table and column."""
        names = [name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in names:
            columns = [row[1] for row in self.rows(f'PRAGMA table_info("{table}")')]
            for row in self.rows(f'SELECT * FROM "{table}"'):  # names come from the database itself
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, str | bytes):
                        yield f"{table}.{column}", value

    def written_files(self, besides: Iterable[Path] = ()) -> Iterator[Path]:
        """Give every file under the home directory: logs, standard output, the database."""
        skipped = set(besides)
        yield from (path for path in sorted(self.home.rglob("*")) if path.is_file() and path not in skipped)

    def logs(self) -> str:
        """Give the text of all task logs."""
        files = sorted((self.home / "logs").rglob("*.log"))
        return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)

    def task_log(self, run: Run, task_id: str) -> str:
        """Give the text of one task's logs, the trigger's included, all tries."""
        folder = self.home / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}" / f"task_id={task_id}"
        files = sorted(path for path in folder.rglob("*.log*") if path.is_file())
        return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def _key(task_id: str, map_index: int) -> str:
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"


def _json_or_text(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str | bytes) else value
    except ValueError:
        return value


def _xcom_value(value: Any) -> Any:
    """Read an XCom as either Airflow stored it: JSON, once or twice encoded."""
    if isinstance(value, bytes) and value[:1] == b"\x80":
        return pickle.loads(value)
    decoded = _json_or_text(value)
    return _json_or_text(decoded) if isinstance(decoded, str) and decoded[:1] in '[{"' else decoded
