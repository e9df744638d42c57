# SPDX-License-Identifier: Apache-2.0
"""
The quickstart DAG under a real scheduler and triggerer, deferrable, its connection in the database; then everything
that was written, at DEBUG level, is searched for the account's key and for signed URLs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from tests.e2e.airflow_home import AirflowHome, Run
from tests.e2e.conftest import REPOSITORY
from tests.e2e.secret_scan import scan_airflow

EXAMPLES = REPOSITORY / "example_dags"
DAG_ID = "cloudhpc_quickstart"
#: With every character class that some encoding changes.
API_KEY = "k3y/of+an=account~7f~0123456789"


@pytest.fixture
def emulator():
    with CloudHPCEmulator(port=0, api_key=API_KEY) as emulator:
        yield emulator


def check_results(airflow: AirflowHome, run: Run, emulator: CloudHPCEmulator) -> dict:
    """Check what every run of the quickstart must have come to, and give its XComs."""
    states = airflow.task_states(run)
    assert set(states.values()) == {"success"}, f"{states}\n{airflow.logs()[-6000:]}"
    xcoms = airflow.xcoms(run)
    assert xcoms["wait"]["return_value"]["status"] == "COMPLETED"
    assert xcoms["wait"]["return_value"]["id"] == xcoms["simulate"]["return_value"]
    assert xcoms["look"]["return_value"]["residual"] < 1e-3
    assert Path(xcoms["look"]["return_value"]["picture"]).read_bytes().startswith(b"\x89PNG")
    assert [launch.id for launch in emulator.ledger.launches] == [xcoms["simulate"]["return_value"]]
    assert emulator.ledger.violations == []
    return xcoms


def test_quickstart_in_a_real_airflow_leaks_nothing(real_airflow, emulator, tmp_path):
    airflow = real_airflow(EXAMPLES)
    airflow.start()
    airflow.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=API_KEY)
    run = airflow.trigger(DAG_ID, {"results": str(tmp_path / "results")})
    airflow.wait(run)
    xcoms = check_results(airflow, run, emulator)
    assert [classpath for classpath, _ in airflow.seen_triggers if "CloudHPCSimulationTrigger" in classpath] != []
    airflow.stop()

    # The scan reads every place: what has to be there is found there.
    folder = xcoms["upload"]["return_value"]["folder"]
    seen = {finding.place for finding in scan_airflow(airflow, [folder, run.run_id, "cloudhpc_default"])}
    for place in ("logs/", "stdout/", "airflow.db", "database xcom", "database rendered_task", "trigger "):
        assert any(found.startswith(place) for found in seen), f"the scan did not read {place}: {seen}"
    assert scan_airflow(airflow, [API_KEY]) == []


def test_quickstart_in_one_process(airflow_home, emulator, tmp_path):
    # In one process, at DEBUG, Airflow 3 itself prints the requests by which it is told what to mask.
    home = airflow_home(EXAMPLES, log_level="INFO")
    home.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=API_KEY)
    run = home.dag_test(EXAMPLES / "cloudhpc_quickstart.py", DAG_ID, {"results": str(tmp_path / "results")})
    assert run.state == "success", home.logs()[-6000:]
    check_results(home, run, emulator)
    assert scan_airflow(home, [API_KEY]) == []


def test_the_quickstart_s_connection_works_as_json_and_as_uri(airflow_home, emulator):
    ask = (
        "from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook; import json;"
        "print('said:' + json.dumps(CloudHPCHook().test_connection()))"
    )
    home = airflow_home(EXAMPLES)
    written = json.dumps({"conn_type": "cloudhpc", "host": emulator.url, "password": API_KEY})
    uri = f"cloudhpc://:k3y%2Fof%2Ban%3Daccount~7f~0123456789@{emulator.url.replace('://', '%3A%2F%2F')}"
    for value in (written, uri):
        home.env["AIRFLOW_CONN_CLOUDHPC_DEFAULT"] = value
        said = home.run_python("-c", ask).rpartition("said:")[2].splitlines()[0]
        assert json.loads(said)[0] is True, said
