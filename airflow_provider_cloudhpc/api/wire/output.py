# SPDX-License-Identifier: Apache-2.0
"""The output of a run can be longer than anybody wants in memory: read of it what the limit allows."""

from __future__ import annotations

import json
import re
from typing import Any

import requests

from airflow_provider_cloudhpc.api.errors import CloudHPCConnectionError
from airflow_provider_cloudhpc.api.wire.sending import describe

_BLOCK = 1 << 18
#: The start of the output in a record, and its text as far as it was read. Possessive: linear whatever it holds.
_OUTPUT = re.compile(rb'"output"\s*+:\s*+"((?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+)')


def read_head(response: requests.Response, limit: int, method: str, endpoint: str) -> tuple[bytes, bool]:
    """
    Read an answer's body up to a limit.

    :param limit: bytes
    :param endpoint: template of the endpoint, for the error
    :return: the bytes, and whether they are all
    :raises CloudHPCConnectionError: the connection broke
    """
    parts: list[bytes] = []
    size = 0
    try:
        with response:
            for block in response.iter_content(_BLOCK):
                parts.append(block)
                size += len(block)
                if size > limit:
                    return b"".join(parts)[:limit], False
        return b"".join(parts), True
    except requests.RequestException as error:
        reason = describe(error)
    raise CloudHPCConnectionError(f"The answer broke off ({reason}).", method=method, endpoint=endpoint)


def cut_record(head: bytes) -> dict[str, Any]:
    """
    Make a record of the head of one: what stands before its output, and the output as far as it was read.

    :param head: the first bytes of ``{"response": {..., "output": "...``
    :return: the fields that could be read; none where the output is not reached
    """
    found = _OUTPUT.search(head)
    if found is None:
        return {}
    text = found.group(1).decode("utf-8", "ignore")
    try:
        before = json.loads(head[: found.start()].decode("utf-8", "ignore").rstrip().rstrip(",") + "}}")
    except ValueError:
        before = {}
    record = before.get("response", before) if isinstance(before, dict) else {}
    return {**(record if isinstance(record, dict) else {}), "output": json.loads(f'"{text}"', strict=False)}
