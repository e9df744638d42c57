# SPDX-License-Identifier: Apache-2.0
"""Of a record with a long output the beginning and the end are kept, and all fields around it."""

from __future__ import annotations

import json
import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.wire.output import RecordReader

BEFORE = {"id": 7, "status": 10, "folder": "ü"}
AFTER = {"cost": 1.5, "edate": "2026-11-25 10:00:00"}
TEXTS = st.text() | st.lists(st.sampled_from(['"', "\\", "\n", "é", "\U0001f525", "ab", "\\u00e9", '"}}'])).map("".join)


def body(output: str, *, ascii_only: bool = True, envelope: bool = True) -> bytes:
    record = {**BEFORE, "output": output, **AFTER}
    return json.dumps({"response": record} if envelope else record, ensure_ascii=ascii_only).encode()


def read(content: bytes, limit: int, piece: int = 1 << 18) -> RecordReader:
    reader = RecordReader(limit)
    for start in range(0, len(content), piece):
        if not reader.feed(content[start : start + piece]):
            reader.has_end = False
            break
    return reader


@given(output=TEXTS, limit=st.integers(100, 300), piece=st.integers(1, 400), ascii_only=..., envelope=...)
@example(output="\\" * 500, limit=101, piece=7, ascii_only=True, envelope=True)
@example(output='"' * 500, limit=101, piece=400, ascii_only=True, envelope=False)
def test_beginning_end_and_fields_are_kept_however_it_is_cut(
    output: str, limit: int, piece: int, ascii_only: bool, envelope: bool
) -> None:
    output = (output * 9).encode("utf-8", "ignore").decode()
    content = body(output, ascii_only=ascii_only, envelope=envelope)
    reader = read(content, limit, piece)
    if reader.body is not None:
        assert reader.body == content
    record = reader.record()
    assert {key: record[key] for key in (*BEFORE, *AFTER)} == {**BEFORE, **AFTER}
    raw = len(json.dumps(output, ensure_ascii=ascii_only).encode()) - 2
    kept = limit // 2 * 2
    # The beginning never ends within an escape: it may be a byte longer.
    assert raw == kept + 1 or record["output_is_whole"] is (raw <= kept)
    if record["output_is_whole"]:
        assert record["output"] == output
        return
    # A pair of surrogates, or an escape of six characters, may have been cut.
    head = re.sub("[\ud800-\udfff\ufffd]$", "", record["output"])
    tail = re.sub("^(?:[\ud800-\udfff]|u?[0-9a-f]{1,4}[\udc00-\udfff]?)", "", record["output_tail"])
    assert output.startswith(head)
    assert output.endswith(tail)
    for kept in (head, tail):
        size = len(json.dumps(kept, ensure_ascii=ascii_only).encode()) - 2
        assert limit // 2 - 24 <= size <= limit // 2 + 1


@pytest.mark.parametrize(
    "content", [b"", b'{"response": {"id": 7, "sta', b"<html>" * 1000, b'{"response": {"output": nul']
)
def test_without_output_nothing_is_known(content: bytes) -> None:
    assert read(content, 100, 10).record() == {"output_is_whole": False}


def test_a_body_without_an_end_is_not_taken_for_one() -> None:
    reader = read(body("line\n" * 1000)[:-500], 1000)
    record = reader.record()
    assert record["output"].startswith("line\nline")
    assert (record["output_is_whole"], record["output_tail"]) == (False, None)
    assert "cost" not in record


def test_an_answer_that_is_no_record_is_kept_as_it_is() -> None:
    refused = json.dumps({"errors": ["A technical problem has occurred, try again later."]}).encode()
    assert read(refused, 1000, 7).body == refused


def test_fields_of_any_length_stand_behind_it() -> None:
    content = json.dumps({"response": {**BEFORE, "output": "x\n" * 500, "logs": "y" * 1_000_000}}).encode()
    record = read(content, 100_000).record()
    assert (record["id"], record["output"], record["output_is_whole"]) == (7, "x\n" * 500, True)


@pytest.mark.parametrize("unit", [b"step 17 of 1000\\n", b'\\"', b"\\\\", b"\\u00e9"])
def test_what_is_kept_does_not_grow(unit: bytes) -> None:
    reader = RecordReader(1_000_000)
    piece = unit * (200_000 // len(unit))
    peaks = []
    tracemalloc.start()
    try:
        reader.feed(b'{"response": {"output": "')
        for _ in range(2):
            for _ in range(25):
                reader.feed(piece)
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert max(peaks) < 3_000_000
    assert peaks[1] <= peaks[0] + 300_000
