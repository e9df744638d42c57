# SPDX-License-Identifier: Apache-2.0
"""A clock that is set moves no pause; where it leads is known."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from airflow_provider_cloudhpc.api.waiting.clock import SteadyClock


@pytest.mark.parametrize("jump", [-3 * 3600.0, 86_400.0])
def test_time_runs_evenly_while_the_machine_s_clock_is_set(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    machine = SimpleNamespace(time=lambda: 1_800_000_000.0, monotonic=time.monotonic)
    monkeypatch.setattr("airflow_provider_cloudhpc.api.waiting.clock.time", machine)
    begun, clock = time.monotonic(), SteadyClock()
    assert clock.time() == pytest.approx(1_800_000_000.0 + time.monotonic() - begun, abs=0.5)
    machine.time = lambda: 1_800_000_000.0 + time.monotonic() - begun + jump
    assert clock.time() == pytest.approx(1_800_000_000.0 + time.monotonic() - begun, abs=0.5)
    assert clock.ahead() == pytest.approx(jump, abs=0.5)
    assert clock.time() + clock.ahead() == pytest.approx(machine.time(), abs=0.5)
