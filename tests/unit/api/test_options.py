# SPDX-License-Identifier: Apache-2.0
"""The form of a launch's values."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.launch.options import build_request

GOOD = {"cpu": 8, "ram": "highcpu", "script": "fds6.9.1", "folder": "case"}


@pytest.mark.parametrize(
    ("value", "sent"),
    [(None, None), (True, 0), (False, 1), ("True", 0), (" false ", 1), ("None", None), ("", None)],
)
def test_a_spot_machine_is_said_only_where_it_is_asked_for(value: Any, sent: int | None) -> None:
    body = build_request(**GOOD, preemptible=value).to_json()
    assert body.get("nopre") == sent
    assert ("nopre" in body) == (sent is not None)


@pytest.mark.parametrize("mesh", [None, "", "mesh", "/mesh/"])
def test_a_mesh_is_left_out_where_there_is_none(mesh: str | None) -> None:
    assert build_request(**GOOD, mesh=mesh).to_json().get("mesh") == ("mesh" if mesh else None)


@pytest.mark.parametrize("cpu", [8, "8", " 8 ", 8.0])
def test_a_number_of_cpus_as_a_template_leaves_it(cpu: Any) -> None:
    assert build_request(**{**GOOD, "cpu": cpu}).to_json() == GOOD


@pytest.mark.parametrize("cpu", ["", "eight", 0, -8, 8.5, True, None, "8 cores"])
def test_what_is_no_number_of_cpus(cpu: Any) -> None:
    with pytest.raises(CloudHPCValueError, match=r"cpu is .*one of 1, 2, 4, 8"):
        build_request(**{**GOOD, "cpu": cpu})
