# SPDX-License-Identifier: Apache-2.0
"""Bad input fails for good, before any call, with the argument, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowException, AirflowFailException

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from airflow_provider_cloudhpc.operators.simulation import (
    CloudHPCAddSimulationOperator,
    CloudHPCRunSimulationOperator,
    CloudHPCStopSimulationOperator,
)
from airflow_provider_cloudhpc.operators.storage import (
    CloudHPCDownloadResultOperator,
    CloudHPCUploadFileOperator,
    CloudHPCUploadFolderOperator,
)
from airflow_provider_cloudhpc.sensors.simulation import CloudHPCSimulationSensor
from tests.integration.operators.airflow_task import AirflowTask

ADD = {"cpu": 2, "ram": "highcpu", "script": "custom-script", "folder": "case"}
HERE = Path(__file__)
DIRECTORY = str(HERE.with_name("nothing-there"))

BAD = [
    (CloudHPCUploadFileOperator, {"source": "/no/such/file.fds"}, ["source", "'/no/such/file.fds'", "no such file"]),
    (CloudHPCUploadFileOperator, {"source": str(HERE.parent)}, ["source", "folder"]),
    (CloudHPCUploadFileOperator, {"source": ""}, ["source"]),
    (CloudHPCUploadFileOperator, {}, ["source", "data"]),
    (CloudHPCUploadFileOperator, {"source": str(HERE), "data": "x"}, ["source", "data"]),
    (CloudHPCUploadFileOperator, {"data": "x"}, ["filename"]),
    (CloudHPCUploadFileOperator, {"data": 5, "filename": "a.txt"}, ["data", "int"]),
    (CloudHPCUploadFileOperator, {"source": str(HERE), "filename": ""}, ["filename is ''"]),
    (
        CloudHPCUploadFileOperator,
        {"source": str(HERE), "filename": "a b.fds"},
        ["filename is 'a b.fds'", "white space"],
    ),
    (CloudHPCUploadFileOperator, {"source": str(HERE), "filename": "../a"}, ["filename is '../a'"]),
    (CloudHPCUploadFileOperator, {"source": str(HERE), "folder": ""}, ["folder is empty"]),
    (CloudHPCUploadFileOperator, {"source": str(HERE), "folder": "a/../b"}, ["folder is '..'"]),
    (CloudHPCUploadFileOperator, {"source": str(HERE), "folder": 5}, ["folder is 5"]),
    (CloudHPCUploadFolderOperator, {"source": "/no/such/folder"}, ["/no/such/folder"]),
    (CloudHPCUploadFolderOperator, {"source": "s3://bucket/folder"}, ["source", "folder on the worker"]),
    (CloudHPCAddSimulationOperator, {**ADD, "cpu": "eight"}, ["cpu is 'eight'", "8, 16"]),
    (CloudHPCAddSimulationOperator, {**ADD, "cpu": 0}, ["cpu is 0"]),
    (CloudHPCAddSimulationOperator, {**ADD, "cpu": True}, ["cpu is True"]),
    (CloudHPCAddSimulationOperator, {**ADD, "cpu": 2.5}, ["cpu is 2.5"]),
    (CloudHPCAddSimulationOperator, {**ADD, "ram": ""}, ["ram is ''", "highcpu"]),
    (CloudHPCAddSimulationOperator, {**ADD, "script": None}, ["script is None"]),
    (CloudHPCAddSimulationOperator, {**ADD, "folder": " "}, ["folder is ' '"]),
    (CloudHPCAddSimulationOperator, {**ADD, "folder": None}, ["folder is None"]),
    (CloudHPCAddSimulationOperator, {**ADD, "mesh": "me?sh"}, ["mesh is 'me?sh'"]),
    (CloudHPCAddSimulationOperator, {**ADD, "preemptible": "perhaps"}, ["preemptible is 'perhaps'", "True, False"]),
    (CloudHPCAddSimulationOperator, {**ADD, "adopt": "the last"}, ["adopt is 'the last'"]),
    (CloudHPCAddSimulationOperator, {**ADD, "on_conflict": "ask"}, ["on_conflict is 'ask'", "'adopt_active'"]),
    (CloudHPCAddSimulationOperator, {**ADD, "on_ambiguous": "ask"}, ["on_ambiguous is 'ask'", "'relaunch'"]),
    (CloudHPCRunSimulationOperator, {**ADD, "max_output_bytes": "all"}, ["max_output_bytes is 'all'", "bytes"]),
    (CloudHPCStopSimulationOperator, {"simulation_id": 1, "stop": "gently"}, ["stop is 'gently'", "'soft'"]),
    (CloudHPCStopSimulationOperator, {"simulation_id": 1, "stop": "leave"}, ["stop is 'leave'"]),
    (CloudHPCStopSimulationOperator, {"simulation_id": 1, "folder": "case"}, ["Only one of simulation_id and folder"]),
    (CloudHPCStopSimulationOperator, {"folder": ""}, ["folder is empty"]),
    (CloudHPCStopSimulationOperator, {"folder": "/"}, ["folder is empty"]),
    (CloudHPCStopSimulationOperator, {"simulation_id": "mine"}, ["simulation_id is 'mine'"]),
    (CloudHPCStopSimulationOperator, {"simulation_id": -4}, ["simulation_id is -4"]),
    (CloudHPCDownloadResultOperator, {"directory": DIRECTORY}, ["Exactly one of paths, folder and simulation_id"]),
    (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "folder": "a", "paths": ["b/c"]}, ["Exactly one of"]),
    (CloudHPCDownloadResultOperator, {"directory": str(HERE), "folder": "a"}, ["directory", "file"]),
    (CloudHPCDownloadResultOperator, {"directory": "", "folder": "a"}, ["directory"]),
    (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "paths": "a/../b"}, ["paths is '..'"]),
    (
        CloudHPCDownloadResultOperator,
        {"directory": DIRECTORY, "folder": "a", "on_existing": "ask"},
        ["on_existing is 'ask'"],
    ),
    (
        CloudHPCDownloadResultOperator,
        {"directory": DIRECTORY, "folder": "a", "check_output": 1.5},
        ["check_output is 1.5"],
    ),
    (CloudHPCDownloadResultOperator, {"directory": "s3://b/x", "folder": "a", "extract": True}, ["extract"]),
    *(
        (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "folder": "a", "unpack_limits": limits}, words)
        for limits, words in [
            ({"ratio": 5}, ["unpack_limits is {'ratio': 5}", "max_ratio"]),
            ("max_ratio", ["unpack_limits is 'max_ratio'"]),
            ({"max_ratio": -1}, ["max_ratio of the limits is -1"]),
            ({"max_ratio": float("inf")}, ["max_ratio of the limits is inf"]),
            ({"max_members": True}, ["max_members of the limits is True"]),
            ({"allow_case_collisions": 1}, ["allow_case_collisions of the limits is 1"]),
        ]
    ),
    (CloudHPCUploadFileOperator, {"source": "/dev/zero"}, ["source is '/dev/zero'", "no file"]),
    (CloudHPCUploadFileOperator, {"source": "foo://bucket/key"}, ["source is 'foo://bucket/key'"]),
    (
        CloudHPCUploadFileOperator,
        {"source": str(HERE), "folder": "None"},
        ["folder is 'None'", "a template gave nothing"],
    ),
    (CloudHPCUploadFileOperator, {"data": "None", "filename": "a.fds"}, ["data is 'None'", "a template gave nothing"]),
    (CloudHPCUploadFileOperator, {"data": "x", "filename": "None"}, ["filename is 'None'", "a template gave nothing"]),
    (CloudHPCUploadFolderOperator, {"source": str(HERE.parent), "exclude": 5}, ["exclude is 5"]),
    (CloudHPCAddSimulationOperator, {**ADD, "folder": "None"}, ["folder is 'None'"]),
    (CloudHPCAddSimulationOperator, {**ADD, "mesh": "None"}, ["mesh is 'None'"]),
    (CloudHPCAddSimulationOperator, {**ADD, "settle": "soon"}, ["settle is 'soon'", "seconds"]),
    (CloudHPCStopSimulationOperator, {"simulation_id": 1, "wait_timeout": "long"}, ["wait_timeout is 'long'"]),
    (CloudHPCDownloadResultOperator, {"directory": "None", "folder": "a"}, ["directory is 'None'"]),
    (CloudHPCDownloadResultOperator, {"directory": f"{DIRECTORY}/{'x' * 300}/y", "folder": "a"}, ["255 bytes"]),
    (CloudHPCDownloadResultOperator, {"directory": "/tmp/a\0b", "folder": "a"}, ["directory is '/tmp/a\\x00b'"]),
    (
        CloudHPCDownloadResultOperator,
        {"directory": "~nobody-of-this-name/a", "folder": "a"},
        ["no home directory '~nobody-of-this-name'", "'./~nobody-of-this-name/a'"],
    ),
    (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "paths": ()}, ["paths is (): there is nothing"]),
    (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "folder": 0}, ["folder is 0: there is nothing"]),
    (CloudHPCUploadFileOperator, {"source": "a\0b"}, ["source is 'a\\x00b'"]),
    (CloudHPCUploadFolderOperator, {"source": f"/tmp/{'x' * 300}"}, ["source is", "255 bytes"]),
    (CloudHPCDownloadResultOperator, {"directory": "foo://x", "folder": "a"}, ["directory is 'foo://x'"]),
    (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "paths": 5}, ["paths is 5"]),
    (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "folder": "a", "patterns": [5]}, ["patterns is [5]"]),
    (
        CloudHPCDownloadResultOperator,
        {"directory": DIRECTORY, "folder": "a", "wait_for_results": -1},
        ["wait_for_results is -1"],
    ),
    (CloudHPCSimulationSensor, {"simulation_id": 12, "max_vcpu_hours": -1}, ["max_vcpu_hours is -1", "vCPU-hours"]),
    (CloudHPCSimulationSensor, {"simulation_id": 12, "max_cost": object}, ["max_cost is", "euro"]),
    (CloudHPCSimulationSensor, {"simulation_id": 12, "patience": "much"}, ["patience is 'much'"]),
    (CloudHPCRunSimulationOperator, {**ADD, "timeout": "soon"}, ["timeout is 'soon'"]),
    (CloudHPCRunSimulationOperator, {**ADD, "poll_interval": 0}, ["poll_interval is 0"]),
    (CloudHPCRunSimulationOperator, {**ADD, "max_vcpu_hours": "many"}, ["max_vcpu_hours is 'many'"]),
    (CloudHPCRunSimulationOperator, {**ADD, "max_cost": float("nan")}, ["max_cost is nan"]),
    (CloudHPCRunSimulationOperator, {**ADD, "quota_wait": None}, ["quota_wait is None"]),
    (CloudHPCSimulationSensor, {"simulation_id": None}, ["simulation_id is None"]),
    (CloudHPCSimulationSensor, {"simulation_id": "twelve"}, ["simulation_id is 'twelve'"]),
    (CloudHPCSimulationSensor, {"simulation_id": 12, "on_timeout": "ask"}, ["on_timeout is 'ask'", "'leave'"]),
]


@pytest.mark.parametrize(("operator", "arguments", "words"), BAD)
def test_bad_input_fails_before_any_call(
    cloudhpc: CloudHPCEmulator, operator: Any, arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(AirflowFailException) as failure:
        AirflowTask(lambda: operator(task_id="task", **arguments)).run()
    for word in words:
        assert word in str(failure.value)
    assert cloudhpc.ledger.count("*") == 0


@pytest.mark.parametrize("preflight", ["error", "off"])
@pytest.mark.parametrize(
    ("operator", "arguments"),
    [(CloudHPCUploadFolderOperator, {}), (CloudHPCRunSimulationOperator, {**ADD, "folder": None})],
)
def test_a_case_with_a_broken_link_fails_for_good(
    cloudhpc: CloudHPCEmulator, tmp_path: Path, operator: Any, arguments: dict[str, Any], preflight: str
) -> None:
    (tmp_path / "run.sh").write_text("true\n")
    (tmp_path / "mesh.msh").symlink_to("../nowhere.msh")
    with pytest.raises(AirflowFailException, match=r"The link 'mesh.msh' .* leads to nothing"):
        AirflowTask(lambda: operator(task_id="task", source=str(tmp_path), preflight=preflight, **arguments)).run()
    assert cloudhpc.ledger.count("POST *") == 0
    assert cloudhpc.ledger.launches == []


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (CloudHPCUploadFileOperator, {"source": str(HERE)}),
        (CloudHPCAddSimulationOperator, ADD),
        (CloudHPCStopSimulationOperator, {"simulation_id": 1}),
        (CloudHPCDownloadResultOperator, {"directory": DIRECTORY, "folder": "a"}),
        (CloudHPCSimulationSensor, {"simulation_id": 1}),
    ],
)
def test_an_unknown_connection_fails_before_any_call(
    cloudhpc: CloudHPCEmulator, operator: Any, arguments: dict[str, Any]
) -> None:
    with pytest.raises(AirflowException, match="cloudhpc_conn_id is 'nowhere': there is no such connection"):
        AirflowTask(lambda: operator(task_id="task", cloudhpc_conn_id="nowhere", **arguments)).run()
    assert cloudhpc.ledger.count("*") == 0


def test_an_unknown_mode_is_refused_with_the_dag() -> None:
    with pytest.raises((AirflowException, ValueError), match="The mode must be one of"):
        AirflowTask(lambda: CloudHPCSimulationSensor(task_id="task", simulation_id=1, mode="peek")).context()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"cpu": 7}, ["cpu is 7", "Near: 2, 4, 8"]),
        ({"ram": "highcpus"}, ["ram is 'highcpus'", "Near: ", "highcpu"]),
        ({"script": "openfoam-v2406x", "cpu": 4}, ["script is 'openfoam-v2406x'", "openFoam-v2406"]),
    ],
)
def test_a_value_that_is_not_offered_names_the_near_ones_and_bills_nothing(
    cloudhpc: CloudHPCEmulator, arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(AirflowFailException) as failure:
        AirflowTask(lambda: CloudHPCAddSimulationOperator(task_id="task", **{**ADD, **arguments})).run()
    for word in words:
        assert word in str(failure.value)
    assert cloudhpc.ledger.launches == []
    assert cloudhpc.ledger.count("POST *") == cloudhpc.ledger.count("POST /storage/*")
