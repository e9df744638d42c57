# SPDX-License-Identifier: Apache-2.0
"""Play the transcribed server scenarios against the emulator, with plain requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from airflow_provider_cloudhpc.emulator import CloudHPCEmulator
from tests.wire.matching import ABSENT, differences, fill, pointed, transcripts

#: How long a step marked "until" may be repeated, seconds.
PATIENCE = 30.0
TIMEOUT = 30.0


class Player:
    """Plays one scenario; what it saved is filled into the steps that follow."""

    def __init__(self, api_url: str, api_key: str) -> None:
        self.api_url = api_url
        self.names: dict[str, Any] = {"api_key": api_key}

    def send(self, request: Mapping[str, Any]) -> requests.Response:
        key = {} if "url" in request else {"X-API-key": self.names["api_key"], "Accept": "application/json"}
        headers = {**key, **request.get("headers", {})}
        return requests.request(
            request["method"],
            request["url"] if "url" in request else self.api_url + request["path"],
            headers={name: value for name, value in headers.items() if value is not None},
            json=request.get("json"),
            data=request.get("body"),
            allow_redirects=False,
            timeout=TIMEOUT,
        )

    def upload(self, files: Mapping[str, str]) -> None:
        content_type = "application/octet-stream"
        for path, text in files.items():
            dirname, _, filename = path.rpartition("/")
            body = {"dirname": dirname, "filename": filename, "contentType": content_type}
            asked = self.send({"method": "POST", "path": "/storage/upload-url", "json": body})
            url = asked.json()["response"]["url"]
            put = self.send({"method": "PUT", "url": url, "headers": {"Content-Type": content_type}, "body": text})
            put.raise_for_status()
        self.send({"method": "DELETE", "path": "/user/delete-cache"}).raise_for_status()

    def play(self, step: Mapping[str, Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        for _ in range(step.get("repeat", 1)):
            while problems := self.once(step):
                if not step.get("until") or time.monotonic() > deadline:
                    raise AssertionError(f"{step['request']}: {problems}")
                time.sleep(0.1)

    def once(self, step: Mapping[str, Any]) -> list[str]:
        response = self.send(fill(step["request"], self.names))
        wanted = fill(step["answer"], self.names)
        problems = differences(wanted["status"], response.status_code, "status")
        for name, matcher in wanted.get("headers", {}).items():
            problems += differences(matcher, response.headers.get(name, ABSENT), name)
        if "body" in wanted:
            problems += differences(wanted["body"], response.text, "body")
        if "json" in wanted:
            try:
                document = response.json()
            except ValueError:
                return [*problems, f"the body is no JSON: {response.text[:200]!r}"]
            problems += differences(wanted["json"], document, "body")
        if not problems:
            self.names |= {name: pointed(response.json(), pointer) for name, pointer in step.get("save", {}).items()}
        return problems


@pytest.mark.parametrize("scenario", transcripts("server"), ids=lambda scenario: scenario["id"])
def test_emulator_conforms(scenario):
    setup = scenario.get("setup", {})
    with CloudHPCEmulator(port=0) as emulator:
        player = Player(emulator.api_url, emulator.api_key)
        emulator.control.set_quota(hourly_limit=0)
        if "files" in setup:
            player.upload(setup["files"])
        emulator.control.set_quota(hourly_limit=setup.get("hourly_limit", 0), hourly_used=0, daily_used=0)
        emulator.control.settings(**setup.get("settings", {}))
        for step in scenario["steps"]:
            emulator.control.jump(step.get("wait", 0))
            player.play(step)
