# SPDX-License-Identifier: Apache-2.0
"""Real Airflows for the end-to-end tests; they run in whatever environment pytest itself runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.airflow_home import AirflowHome
from tests.e2e.airflow_process import RealAirflow

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def airflow_home(tmp_path: Path) -> Callable[..., AirflowHome]:
    """Make an Airflow home with a migrated database, for ``dag.test()``."""

    def make(dags: Path, **more: object) -> AirflowHome:
        home = AirflowHome(tmp_path / "airflow", dags, **more)
        home.migrate()
        return home

    return make


@pytest.fixture
def real_airflow(tmp_path: Path) -> Iterator[Callable[..., RealAirflow]]:
    """Make a real Airflow (not yet started) that is stopped, with all it started, when the test ends."""
    made: list[RealAirflow] = []

    def make(dags: Path, **more: object) -> RealAirflow:
        made.append(RealAirflow(tmp_path / f"airflow{len(made)}", dags, **more))
        return made[-1]

    yield make
    for airflow in made:
        airflow.stop()
