# SPDX-License-Identifier: Apache-2.0
"""Mapped tasks: each index has a simulation and a folder of its own, and gets its own results back."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator

DAGS = Path(__file__).parent / "dags_mapped"


def test_each_index_has_its_own(airflow_home, tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "case.txt").write_text(name)
    environment = {"STUDY_CASES": str(tmp_path), "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}
    with CloudHPCEmulator(port=0) as emulator:
        emulator.control.plan(pending=0, running=0, results={"answer.txt": "42"})
        home = airflow_home(DAGS, env=environment)
        home.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=emulator.api_key)
        run = home.dag_test(DAGS / "study.py", "study")
        assert set(home.task_states(run).values()) == {"success"}, home.logs()[-4000:]
        launches = emulator.ledger.launches
        stored = emulator.control.files()
    xcoms = home.xcoms(run)
    assert len(launches) == len({launch.folder for launch in launches}) == 3
    for launch in launches:
        assert f"{launch.folder}/upload.tar.gz" in stored
    for index in range(3):
        told = xcoms[f"run[{index}]"]
        assert told["return_value"]["id"] == told["simulation_id"]
        assert told["return_value"]["folder"] == told["folder"]
        assert told["return_value"]["cpu_hours"] is not None
        assert told["return_value"]["cost"] is not None
        assert (tmp_path / "results" / str(index) / "answer.txt").read_text() == "42"
    assert {xcoms[f"run[{index}]"]["simulation_id"] for index in range(3)} == {launch.id for launch in launches}
