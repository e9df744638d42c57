# SPDX-License-Identifier: Apache-2.0
"""
Lets a process of Airflow die once, at a named point of a task; on the PYTHONPATH of the chaos runs alone.

``$CHAOS_DIR/<dag_id>.json`` says where and how: ``{"point": ..., "how": ...}``. What lies around a point is the real
code of the provider and of Airflow: it is wrapped when its module is imported, and does what it always does.
"""

import importlib.abc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

DIRECTORY = os.environ.get("CHAOS_DIR", "")
#: Seconds between SIGTERM and SIGKILL of a pod that moves.
GRACE = 4


def reach(point, dag_id=None):
    """Come by a point: what is planned for it strikes, the first time."""
    dag_id = dag_id or os.environ.get("AIRFLOW_CTX_DAG_ID", "")
    try:
        plan = json.loads(Path(DIRECTORY, f"{dag_id}.json").read_text())
    except OSError:
        return
    if plan["point"] != point:
        return
    try:
        os.close(os.open(Path(DIRECTORY, f"{dag_id}.struck"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    STRIKES[plan["how"]](dag_id)


def kill_task(dag_id):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_worker(dag_id):
    """The machine is gone: nobody is left to tell Airflow."""
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def evict(dag_id):
    """A pod moves: SIGTERM to its main process, SIGKILL a little later to all that still runs."""
    worker, task = os.getppid(), os.getpid()
    late = f"sleep {GRACE}; kill -0 {task} && kill -9 {worker} {task}"
    subprocess.Popen(["sh", "-c", late], start_new_session=True, stderr=subprocess.DEVNULL)
    os.kill(worker, signal.SIGTERM)
    time.sleep(2)


def kill_component(dag_id):
    """The whole process group: main process and what it forked."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def hold(dag_id):
    """Tell that the point is reached, and go on when the other side says so."""
    Path(DIRECTORY, f"{dag_id}.reached").touch()
    while not Path(DIRECTORY, f"{dag_id}.go").exists():
        time.sleep(0.1)


STRIKES = {
    "SIGKILL": kill_task,
    "SIGKILL of the worker": kill_worker,
    "SIGTERM": evict,
    "SIGKILL of the triggerer": kill_component,
    "hold": hold,
}


def around(owner, name, before="", after=""):
    """Put points before and after a method, in the process of the task."""
    method = getattr(owner, name)

    def wrapped(*args, **kwargs):
        reach(before)
        result = method(*args, **kwargs)
        reach(after)
        return result

    setattr(owner, name, wrapped)


def wrap_client(module):
    around(module.CloudHPCClient, "add_simulation", "before the post", "after the post, before its answer is kept")
    around(module.CloudHPCClient, "list_simulations", after="while it looks for its launch")
    around(module.CloudHPCClient, "view_simulation_short", after="while it waits")


def wrap_launching(module):
    save = module.TaskStateStore.save

    def wrapped(self, state):
        reach(f"before the state {state.phase.value!r} is kept")
        save(self, state)
        reach(f"after the state {state.phase.value!r} is kept")

    module.TaskStateStore.save = wrapped


def wrap_task(module):
    around(module.CloudHPCTaskMixin, "tell_simulation", after="after the id is told")


def wrap_running(module):
    operator = module.CloudHPCRunSimulationOperator
    around(operator, "defer", "before the deferral")
    around(operator, "execute_complete", "before the event is taken", "after the event is taken")


def wrap_sensor(module):
    around(module.CloudHPCSimulationSensor, "execute_complete", "before the sensor's event is taken")


def wrap_task_runner(module):
    finalize = module.finalize

    def wrapped(ti, state, *args, **kwargs):
        if str(getattr(state, "value", state)) == "deferred":
            reach("after the deferral")
        return finalize(ti, state, *args, **kwargs)

    module.finalize = wrapped


def wrap_trigger(module):
    trigger = module.CloudHPCSimulationTrigger
    run = trigger.run

    async def wrapped(self):
        import asyncio

        dag_id = self.task_instance.dag_id
        asyncio.get_running_loop().call_later(2, reach, "while its trigger waits", dag_id)
        given = False
        try:
            async for event in run(self):
                reach("before the trigger's event", dag_id)
                given = True
                yield event
        finally:
            if given:
                reach("after the trigger's event", dag_id)

    trigger.run = wrapped


def hurry(module):
    """Waits look every two seconds in place of thirty: a run of all takes minutes."""
    module.MIN_INTERVAL = 2.0


PACKAGE = "airflow_provider_cloudhpc"
WRAPPERS = {
    f"{PACKAGE}.api.client": wrap_client,
    f"{PACKAGE}.api.waiting.pacing": hurry,
    f"{PACKAGE}.operators.launching": wrap_launching,
    f"{PACKAGE}.operators.running": wrap_running,
    f"{PACKAGE}.sensors.simulation": wrap_sensor,
    f"{PACKAGE}.task": wrap_task,
    f"{PACKAGE}.triggers.simulation": wrap_trigger,
    "airflow.sdk.execution_time.task_runner": wrap_task_runner,
}


class Finder(importlib.abc.MetaPathFinder):
    """Wraps a module right after it was imported."""

    def find_spec(self, name, path=None, target=None):
        wrap = WRAPPERS.pop(name, None)
        spec = importlib.util.find_spec(name) if wrap else None
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                wrap(module)

            spec.loader.exec_module = exec_module
        return spec


if DIRECTORY:
    sys.meta_path.insert(0, Finder())
