# SPDX-License-Identifier: Apache-2.0
"""The fixture ``cloudhpc_emulator`` in somebody else's project: it costs nothing where nobody asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

UNUSED = """
import sys

def test_nothing_was_imported_for_the_plugin():
    assert "airflow_provider_cloudhpc.emulator.pytest_plugin" in sys.modules
    heavy = {"fastapi", "starlette", "uvicorn", "requests", "google_crc32c", "jinja2", "airflow", "asyncio.runners"}
    ours = {name for name in sys.modules if name.startswith("airflow_provider_cloudhpc")}
    assert not heavy & set(sys.modules)
    assert ours == {
        "airflow_provider_cloudhpc", "airflow_provider_cloudhpc.emulator",
        "airflow_provider_cloudhpc.emulator.pytest_plugin",
    }
"""
USED = """
def test_it_runs(cloudhpc_emulator):
    assert cloudhpc_emulator.control.simulation() and cloudhpc_emulator.ledger.violations == []
"""
#: An environment without the extra: the import of what it brings fails.
WITHOUT_EXTRA = "import sys\nsys.modules['fastapi'] = None\n"


def run(directory: Path, test: str, conftest: str = "") -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(test)
    (directory / "conftest.py").write_text(conftest)
    # Other plugins of this environment would import what ours does not.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p"]
    command += ["airflow_provider_cloudhpc.emulator.pytest_plugin", "test_it.py"]
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=60)


def test_unused_it_imports_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, UNUSED)
    assert "1 passed" in done.stdout, done.stdout


def test_used_it_runs_an_emulator(tmp_path: Path) -> None:
    done = run(tmp_path, USED)
    assert "1 passed" in done.stdout, done.stdout


def test_without_the_extra_other_tests_run_and_its_own_say_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path, USED + "\ndef test_other():\n    pass\n", WITHOUT_EXTRA)
    assert "1 passed, 1 error" in done.stdout, done.stdout
    assert "pip install 'airflow-provider-cloudhpc[emulator]'" in done.stdout
