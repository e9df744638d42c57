# SPDX-License-Identifier: Apache-2.0
"""The button from a task to its simulation's page."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

#: XCom keys under which a task tells of its simulation as soon as it knows it.
SIMULATION_ID_KEY = "simulation_id"
LINK_KEY = "cloudhpc_simulation_link"


class CloudHPCSimulationLink(BaseOperatorLink):
    """Link to the simulation's page on cloudHPC, on every task that knows a simulation, while it runs."""

    name = "cloudHPC simulation"

    @property
    def xcom_key(self) -> str:
        """XCom key that holds the address."""
        return LINK_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Give the page's address; "" while no simulation is known."""
        return XCom.get_value(key=LINK_KEY, ti_key=ti_key) or ""
