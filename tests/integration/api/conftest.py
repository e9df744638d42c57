# SPDX-License-Identifier: Apache-2.0
"""A clean network environment for every test, and TLS of our own."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Take away what the machine says about proxies and CA bundles."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in (
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "NETRC",
            "SSL_CERT_FILE",
        ):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def authority():
    """A certificate authority that nobody else knows."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_bundle(authority, tmp_path_factory) -> Path:
    """The file with its certificate."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def tls(authority) -> ssl.SSLContext:
    """A server's side of TLS, for 127.0.0.1 and a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "api.cloudhpc.test", "store.cloudhpc.test").configure_cert(context)
    return context
