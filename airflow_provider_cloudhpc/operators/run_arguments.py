# SPDX-License-Identifier: Apache-2.0
"""The arguments of a run, read and checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_cloudhpc.api.diagnosis.examination import CheckOutput, read_check
from airflow_provider_cloudhpc.api.errors import CloudHPCValueError
from airflow_provider_cloudhpc.api.launch.options import build_request
from airflow_provider_cloudhpc.api.lifecycle import STATIC_SUFFIX
from airflow_provider_cloudhpc.api.models import StopPolicy
from airflow_provider_cloudhpc.api.names import check_folder
from airflow_provider_cloudhpc.folders import own_folder
from airflow_provider_cloudhpc.operators.checking import check_machine_before
from airflow_provider_cloudhpc.operators.relaunching import Relaunch
from airflow_provider_cloudhpc.paths import is_local, open_source, read_path
from airflow_provider_cloudhpc.task import read_limits, read_number, read_policy, read_size, read_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cloudhpc.api.models import LaunchRequest


@dataclass(frozen=True)
class RunArguments:
    """
    What a run was asked for; the names are the operator's.

    :param source: a path that can be read, or None
    :param limits: what a wait takes by name: ``patience``, ``max_vcpu_hours``, ``max_cost``
    :param endless_allowed: whether a bare machine may be waited for: its end is seen to
    """

    request: LaunchRequest
    source: Any
    exclude: list[str]
    settle: float
    relaunch: Relaunch
    poll_interval: float
    timeout: float | None
    on_timeout: StopPolicy
    stop_on_kill: StopPolicy
    quota_wait: float
    check_output: CheckOutput
    max_output_bytes: int
    limits: dict[str, Any]
    endless_allowed: bool

    @classmethod
    def read(cls, task: Any, context: Mapping[str, Any]) -> RunArguments:
        """
        Read what a task was given, its templates rendered.

        :param task: a :class:`~airflow_provider_cloudhpc.operators.running.CloudHPCRunSimulationOperator`
        :raises CloudHPCValueError: naming the argument, the value and what is allowed
        """
        if task.folder is None and task.source is None:
            raise CloudHPCValueError("Neither source nor folder is given: one of them says where the case is.")
        relaunch = Relaunch.read(task.ram, task.ram_ladder, task.relaunch_on_failure)
        request = build_request(
            cpu=task.cpu,
            ram=task.ram,
            script=task.script,
            folder=own_folder(context) if task.folder is None else check_folder(task.folder),
            mesh=task.mesh,
            preemptible=task.preemptible,
        )
        timeout = None if task.timeout is None else read_number(task.timeout, "timeout")
        on_timeout = read_policy(task.on_timeout, "on_timeout")
        read = cls(
            request=request,
            source=None if task.source is None else read_path(task.source, "source"),
            exclude=read_texts(task.exclude, "exclude"),
            settle=read_number(task.settle, "settle", zero=True),
            relaunch=relaunch,
            poll_interval=read_number(task.poll_interval, "poll_interval"),
            timeout=timeout,
            on_timeout=on_timeout,
            stop_on_kill=read_policy(task.stop_on_kill, "stop_on_kill"),
            quota_wait=read_number(task.quota_wait, "quota_wait", zero=True),
            check_output=read_check(task.check_output),
            max_output_bytes=read_size(task.max_output_bytes, "max_output_bytes"),
            limits={"patience": read_number(task.patience, "patience"), **read_limits(task)},
            endless_allowed=timeout is not None and on_timeout is not StopPolicy.LEAVE,
        )
        if request.script.endswith(STATIC_SUFFIX) and not read.endless_allowed:
            raise CloudHPCValueError(
                f"script is {request.script!r}: a bare machine, which runs and bills until it is stopped. Set both "
                "`timeout` and `on_timeout` ('soft' or 'hard')."
            )
        if read.source is not None and not (is_local(read.source) and read.source.is_dir()):
            open_source(read.source)
        check_machine_before(task.preflight, request)
        return read
