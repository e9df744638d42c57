# SPDX-License-Identifier: Apache-2.0
"""Pages to look at."""

from __future__ import annotations

from fastapi import APIRouter

from airflow_provider_cloudhpc.emulator.world import World


def router(world: World) -> APIRouter:
    """The pages of a world."""
    return APIRouter(include_in_schema=False)
