# SPDX-License-Identifier: Apache-2.0
"""When a store's ETag is the MD5 of its object, and when it only looks like one."""

from __future__ import annotations

import base64
import hashlib

import pytest

from airflow_provider_cloudhpc.api.transfer.checksums import named_hashes

MD5 = hashlib.md5(b"results", usedforsecurity=False)


@pytest.mark.parametrize(
    ("encryption", "is_md5"),
    [
        ({}, True),
        ({"x-amz-server-side-encryption": "AES256"}, True),
        ({"x-amz-server-side-encryption": "aws:kms"}, False),
        ({"X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256"}, False),
    ],
)
def test_the_etag_of_an_encrypted_object_is_no_hash(encryption: dict[str, str], is_md5: bool) -> None:
    found = named_hashes({"ETag": f'"{MD5.hexdigest()}"', **encryption})
    assert found == ({"md5": base64.b64encode(MD5.digest()).decode()} if is_md5 else {})


def test_the_etag_of_an_object_in_parts_is_no_hash() -> None:
    assert named_hashes({"ETag": f'"{MD5.hexdigest()}-2"'}) == {}
