# SPDX-License-Identifier: Apache-2.0
"""After a simulation that failed: whether the task's next try launches another one, and on which machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCValueError
from airflow_provider_cloudhpc.api.lifecycle import EndingKind
from airflow_provider_cloudhpc.task import read_texts

if TYPE_CHECKING:
    from typing import Any

    from airflow_provider_cloudhpc.api.diagnosis.examination import Examined


class CloudHPCSimulationFailedError(CloudHPCError):
    """The simulation failed, and the task's next try is to launch another one."""

    transient = True


@dataclass(frozen=True)
class Relaunch:
    """
    What follows a failure.

    :param first: RAM tier of the first launch
    :param ladder: RAM tiers in growing order; a run that was out of memory is followed by one on the next
    :param on_failure: whether any other failure is followed by a launch of the same
    """

    first: str
    ladder: tuple[str, ...] = ()
    on_failure: bool = False

    @classmethod
    def read(cls, ram: str, ram_ladder: Any, relaunch_on_failure: Any) -> Relaunch:
        """
        Read an operator's arguments.

        :raises CloudHPCValueError: the ladder is none, or does not have that rung; or a value is no bool
        """
        if not isinstance(relaunch_on_failure, bool):  # "false" would launch, and bill
            raise CloudHPCValueError(f"relaunch_on_failure is {relaunch_on_failure!r}: True or False is needed.")
        ladder = tuple(read_texts(ram_ladder, "ram_ladder"))
        if len(set(ladder)) < len(ladder):
            raise CloudHPCValueError(f"ram_ladder is {list(ladder)}: each tier can be in it once.")
        if ladder and ram not in ladder:
            raise CloudHPCValueError(f"ram is {ram!r}: with a ram_ladder, one of {', '.join(ladder)} is needed.")
        return cls(ram, ladder, relaunch_on_failure)

    def next_ram(self, examined: Examined) -> str | None:
        """
        Give the RAM tier on which the next try launches; None where it launches nothing.

        The rung is that of the simulation itself, so it survives without being kept.
        """
        simulation = examined.ending.simulation
        if examined.ending.kind not in (EndingKind.FAILED, EndingKind.ERROR) or simulation is None:
            return None
        out_of_memory = examined.diagnosis is not None and examined.diagnosis.out_of_memory
        if out_of_memory and simulation.ram in self.ladder:
            rest = self.ladder[self.ladder.index(simulation.ram) + 1 :]
            if rest:
                return rest[0]
        return simulation.ram or self.first if self.on_failure else None
