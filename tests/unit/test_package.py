# SPDX-License-Identifier: Apache-2.0
"""The distribution as Airflow and pip see it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_cloudhpc
from airflow_provider_cloudhpc import get_provider_info

SCHEMAS = Path(airflow.__file__).parent
PACKAGE = Path(airflow_provider_cloudhpc.__file__).parent
NAME = "airflow-provider-cloudhpc"


def schema(name: str) -> dict[str, Any]:
    return dict(json.loads((SCHEMAS / name).read_text()))


def test_the_provider_info_is_valid_where_airflow_reads_it() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_the_connection_type_is_valid_by_the_strict_schema() -> None:
    strict = schema("provider.yaml.schema.json")
    known = strict["properties"]["connection-types"]["items"]["properties"]
    if "conn-fields" not in known:
        pytest.skip("this Airflow takes the form from the hook")
    validator = jsonschema.Draft7Validator(
        {**strict["properties"]["connection-types"], "definitions": strict.get("definitions", {})}
    )
    assert [error.message for error in validator.iter_errors(get_provider_info()["connection-types"])] == []
    wrong = [{**get_provider_info()["connection-types"][0], "conn-fields": {"proxies": {"labell": 5}}}]
    assert list(validator.iter_errors(wrong)) != []


def test_every_class_that_is_named_is_there() -> None:
    info = get_provider_info()
    named = [info["connection-types"][0]["hook-class-name"], *info["extra-links"]]
    for path in named:
        module, _, attribute = path.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), path


def test_importing_it_imports_neither_airflow_nor_requests() -> None:
    code = "import sys, airflow_provider_cloudhpc as p; p.get_provider_info(); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "airflow_provider_cloudhpc" in loaded.split()
    assert not {"airflow", "requests", "tenacity"} & set(loaded.split())


def test_the_api_and_the_emulator_import_no_airflow() -> None:
    for module in ("api.client", "api.transfer.storage", "api.diagnosis.scanner", "api.launch.runner", "emulator"):
        code = f"import sys, airflow_provider_cloudhpc.{module}; sys.exit('airflow' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0, module


def test_the_entry_points() -> None:
    (provider,) = [
        point for point in entry_points(group="apache_airflow_provider") if point.dist and point.dist.name == NAME
    ]
    assert provider.load() is get_provider_info
    (script,) = entry_points(group="console_scripts", name="cloudhpc-emulator")
    assert callable(script.load())
    (plugin,) = [point for point in entry_points(group="pytest11") if point.dist and point.dist.name == NAME]
    assert hasattr(plugin.load(), "cloudhpc_emulator")


def test_it_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_what_it_imports_is_declared() -> None:
    """A package that only comes along with another has whatever version that other is content with."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    declared = {
        re.split(r"[^\w.-]", requirement)[0]
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for requirement in group
    }
    by_module = packages_distributions()
    for path in set(PACKAGE.rglob("*.py")) - {PACKAGE / "emulator" / "pytest_plugin.py"}:
        for name in imported_at_once(ast.parse(path.read_text())) - {PACKAGE.name, *sys.stdlib_module_names}:
            assert {*by_module.get(name, ()), name.replace("_", "-")} & declared, f"{path}: {name}"


def imported_at_once(node: ast.AST) -> set[str]:
    """Names of the packages that are imported with a module: not those in functions, nor for types alone."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            found.add((child.module or "").partition(".")[0])
        elif isinstance(child, ast.Try):
            found |= imported_at_once(child)
    return found


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What ``airflow providers ...`` prints."""
    home = tmp_path_factory.mktemp("airflow")

    def ask(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "providers", *arguments, "-o", "json"],
            capture_output=True,
            text=True,
            env={**os.environ, "AIRFLOW_HOME": str(home)},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout[done.stdout.index("[{") :])  # log lines come first on some versions

    return ask


def test_airflow_shows_the_provider(providers: Any) -> None:
    (shown,) = providers("get", NAME)
    assert shown == {"Provider": NAME, "Version": airflow_provider_cloudhpc.__version__}


def test_airflow_shows_the_hook(providers: Any) -> None:
    (shown,) = [hook for hook in providers("hooks") if hook["connection_type"] == "cloudhpc"]
    assert shown["class"] == "airflow_provider_cloudhpc.hooks.cloudhpc.CloudHPCHook"
    assert shown["conn_id_attribute_name"] == "cloudhpc_conn_id"


def test_airflow_shows_the_link(providers: Any) -> None:
    shown = [link["extra_link_class_name"] for link in providers("links")]
    assert "airflow_provider_cloudhpc.links.CloudHPCSimulationLink" in shown
