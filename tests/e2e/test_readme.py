# SPDX-License-Identifier: Apache-2.0
"""The README's DAG and connection, run as they stand there."""

from __future__ import annotations

import re
import subprocess

import pytest

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from tests.e2e.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
DAG = next(text for kind, text in BLOCKS if kind == "python" and "with DAG(" in text)
COMMANDS = next(text for kind, text in BLOCKS if kind == "sh" and "airflow connections add" in text)
DECK = "&HEAD CHID='room_fire'/\n&TIME T_END=10./\n&MESH IJK=10,10,10, XB=0,1,0,1,0,1/\n&TAIL/\n"


@pytest.fixture
def emulator():
    # The run is over by the sensor's first look: the next would be a minute later.
    with CloudHPCEmulator(port=0, clock_speed=20) as emulator:
        yield emulator


def test_the_dag_to_copy_runs(airflow_home, emulator, tmp_path):
    """Only its paths are changed, to ones that a test may write to."""
    case, results = tmp_path / "cases" / "room_fire.fds", tmp_path / "results"
    case.parent.mkdir()
    case.write_text(DECK)
    code = DAG.replace("/cases/room_fire.fds", str(case)).replace("/results/", f"{results}/")
    assert str(case) in code
    assert str(results) in code
    file = tmp_path / "dags" / "room_fire.py"
    file.parent.mkdir()
    file.write_text(code)
    home = airflow_home(file.parent)
    home.add_connection("cloudhpc_default", "cloudhpc", host=emulator.url, password=emulator.api_key)
    run = home.dag_test(file, "room_fire")
    assert set(home.task_states(run).values()) == {"success"}, home.logs()[-6000:]
    assert [path.name for path in results.rglob("room_fire.out")] == ["room_fire.out"]
    assert len(emulator.ledger.launches) == 1
    assert emulator.ledger.violations == []


@pytest.mark.parametrize("way", [0, 1])
def test_the_connection_is_set_up_as_it_says(airflow_home, emulator, way):
    """Each of the two ways, as a shell runs it; the host is added, to reach the emulator."""
    command = re.sub(r"^\s*", "", COMMANDS.split("# or")[way])
    command = command.replace("...", emulator.api_key)
    if way:
        command = command.replace('{"conn_type"', f'{{"host": "{emulator.url}", "conn_type"')
    else:
        command = command.rstrip() + f" --conn-host {emulator.url}"
    home = airflow_home(REPOSITORY / "example_dags", log_level="WARNING")
    home.env |= {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "CLOUDHPC_API_KEY": emulator.api_key}
    script = f"{command}\nairflow connections test cloudhpc_default"
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, env=home.env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Connection success!" in done.stdout


def test_every_page_that_is_linked_is_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
