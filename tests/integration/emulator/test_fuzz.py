# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent to the API's endpoints, right or wrong by its own definition, it answers, and never with a 500."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.emulator.endpoints import API, API_PREFIX
from tests.integration.emulator.conftest import TIMEOUT


def operations(emulator: CloudHPCEmulator) -> dict[str, Any]:
    schema = schemathesis.openapi.from_url(f"{emulator.url}/en/catuser/openapi.json")
    return {f"{op.method.upper()} {op.path}": op for op in (found.ok() for found in schema.get_all_operations())}


def test_the_definition_has_every_endpoint(emulator: CloudHPCEmulator) -> None:
    assert set(operations(emulator)) == {f"{method} {API_PREFIX}{template}" for method, template in API}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("endpoint", [f"{method} {API_PREFIX}{template}" for method, template in API])
def test_no_call_breaks_it(emulator: CloudHPCEmulator, endpoint: str, mode: GenerationMode) -> None:
    emulator.control.file("case/run.sh", "exit 0")
    emulator.control.settings(hold_launches=True)  # nothing needs to run
    seen = set()

    @given(case=operations(emulator)[endpoint].as_strategy(generation_mode=mode))
    @settings(max_examples=25, suppress_health_check=[*HealthCheck])
    def send(case: Any) -> None:
        answer = case.call(headers={"X-API-key": emulator.api_key}, timeout=TIMEOUT, allow_redirects=False)
        seen.add(answer.status_code)
        assert answer.status_code in (200, 403), (answer.status_code, answer.text[:300])
        assert list(answer.json()) == (["response"] if answer.status_code == 200 else ["errors"])

    send()
    assert seen
