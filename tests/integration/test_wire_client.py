# SPDX-License-Identifier: Apache-2.0
"""Serve the transcribed client exchanges over a real socket to the client."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.api.errors import (
    CloudHPCAnswerError,
    CloudHPCAuthError,
    CloudHPCConnectionError,
    CloudHPCError,
    CloudHPCNotFoundError,
    CloudHPCQuotaError,
    CloudHPCRefusedError,
)
from airflow_provider_cloudhpc.api.models import LaunchRequest, StopSignal
from tests.wire.matching import differences, fill, transcripts

API_KEY = "wire-key-3f9a"
API_PATH = "/api/v2"
CALLS: dict[str, Callable[..., Any]] = {
    "view_cpu": lambda client: client.view_cpu(),
    "view_ram": lambda client: client.view_ram(),
    "view_scripts": lambda client: client.view_scripts(),
    "add": lambda client, **request: client.add_simulation(LaunchRequest(**request)),
    "view_short": lambda client, id: client.view_simulation_short(id),
    "view": lambda client, id: client.view_simulation(id),
    "index_short": lambda client, sort, direction, page: client.list_simulations(
        page, sort=sort, descending=direction == "desc"
    ),
    "stop": lambda client, id, signal: client.stop_simulation(id, StopSignal(signal)),
    "sync": lambda client, id: client.sync_simulation(id),
    "upload_url": lambda client, **file: client.upload_url(**file),
    "delete_cache": lambda client: client.delete_cache(),
    "view_by_path": lambda client, path: client.view_by_path(path),
    "index": lambda client, sort, direction, page, parent_id=None: (
        client.list_root(page, sort=sort, descending=direction == "desc")
        if parent_id is None
        else client.list_folder(str(parent_id), page, sort=sort, descending=direction == "desc")
    ),
    "download_url": lambda client, id: client.download_url(str(id)),
    "delete": lambda client, id: client.delete_item(str(id)),
}
ERRORS: dict[str, type[CloudHPCError]] = {
    "auth": CloudHPCAuthError,
    "quota": CloudHPCQuotaError,
    "refused": CloudHPCRefusedError,
    "gone": CloudHPCNotFoundError,
    "nonsense": CloudHPCAnswerError,
    "unreachable": CloudHPCConnectionError,
}


class CannedServer(ThreadingHTTPServer):
    """Gives the answers of one exchange in order, the last one again, and remembers what was asked."""

    daemon_threads = True

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), CannedHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers = fill(answers, {"server": self.url})
        self.requests: list[dict[str, Any]] = []

    def __enter__(self) -> CannedServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self.server_close()


class CannedHandler(BaseHTTPRequestHandler):
    server: CannedServer
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen: dict[str, Any] = {"method": self.command, "path": self.path, "headers": dict(self.headers.items())}
        if body:
            seen["json"] = json.loads(body)
        self.server.requests.append(seen)
        answer = self.server.answers[min(len(self.server.requests), len(self.server.answers)) - 1]
        if answer.get("reset"):
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        payload = answer["body"] if "body" in answer else json.dumps(answer["json"])
        headers = {"Content-Type": "application/json", **answer.get("headers", {})}
        self.send_response(answer.get("status", 200))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload.encode())))
        self.end_headers()
        self.wfile.write(payload.encode())

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def finish(self) -> None:
        if not self.wfile.closed and self.connection.fileno() != -1:
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


def plain(value: Any) -> Any:
    """Give what the client made of an answer as plain data."""
    if isinstance(value, list):
        return [plain(element) for element in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        said = {name: getattr(value, name) for name in ("is_terminal", "is_folder") if hasattr(value, name)}
        return dataclasses.asdict(value) | said
    return value


@pytest.mark.parametrize("exchange", transcripts("client"), ids=lambda exchange: exchange["id"])
def test_client_survives(exchange):
    call = exchange["call"]
    with (
        CannedServer(exchange["answers"]) as server,
        CloudHPCClient(API_KEY, server.url + API_PATH, max_attempts=2) as client,
    ):
        result, error = None, None
        try:
            result = CALLS[call["name"]](client, **call.get("args", {}))
        except CloudHPCError as caught:
            error = caught
    if "requests" in exchange:
        wanted = [
            {**fill(request, {"api_key": API_KEY}), "path": API_PATH + request["path"]}
            for request in exchange["requests"]
        ]
        assert differences(wanted, server.requests, "requests") == []
    if "error" not in exchange:
        assert error is None
        assert differences(exchange["result"], plain(result), "result") == []
        return
    assert type(error) is ERRORS[exchange["error"]], f"{error!r}, result {result!r}"
    for attribute in ("retry_after", "transient"):
        if attribute in exchange:
            assert getattr(error, attribute) == exchange[attribute]
    text = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert [word for word in exchange.get("words", ()) if word not in str(error)] == []
    assert API_KEY not in text
