# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cloudhpc.api.wire.output import cut_record

BEFORE = {"id": 7, "status": 10, "folder": "ü"}


def body(output: str, *, ascii_only: bool = True) -> bytes:
    record = {**BEFORE, "output": output, "cost": 1.5}
    return json.dumps({"response": record}, ensure_ascii=ascii_only).encode()


@given(output=st.text(), share=st.floats(0, 1), ascii_only=st.booleans())
def test_any_cut_gives_a_beginning_of_the_output(output: str, share: float, ascii_only: bool) -> None:
    output = output.encode("utf-8", "ignore").decode()
    whole = body(output, ascii_only=ascii_only)
    start = whole.index(b'"output": "') + len(b'"output": "')
    record = cut_record(whole[: start + int((len(whole) - start) * share)])
    got = record.pop("output")
    # A pair of surrogates may have been cut in half.
    assert output.startswith(got) or (0xD800 <= ord(got[-1]) < 0xDC00 and output.startswith(got[:-1]))
    assert record == BEFORE


@pytest.mark.parametrize("head", [b"", b'{"response": {"id": 7, "sta', b"<html>", b'{"response": {"output": nul'])
def test_without_output_there_is_no_record(head: bytes) -> None:
    assert cut_record(head) == {}


def test_fields_behind_the_output_are_missing_not_wrong() -> None:
    record = cut_record(json.dumps({"response": {"output": "abc\n" * 100, "id": 7}}).encode()[:60])
    assert record["output"].startswith("abc\nabc")
    assert "id" not in record


def test_a_huge_output_of_escapes_is_read_in_one_pass() -> None:
    assert len(cut_record(body('\\"' * 500_000)[:-30])["output"]) > 900_000
