# SPDX-License-Identifier: Apache-2.0
"""Which account a connection means: all waits of one account share its calls."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_provider_cloudhpc.api.client import CloudHPCClient
from airflow_provider_cloudhpc.hooks.cloudhpc import CloudHPCHook, api_url, network_options

#: Makes digests of keys worthless outside of this process.
_SALT = secrets.token_bytes(16)


@dataclass(frozen=True)
class Account:
    """
    An account as a connection reaches it.

    :param digest: the same for connections of the same key, host, proxies and CA; says nothing about them
    :param client: speaks to it; sends nothing twice by itself, the poller decides about that
    :param quota_share: part of its calls that waiting may use
    """

    digest: str
    client: CloudHPCClient
    quota_share: float


class _AccountHook(CloudHPCHook):
    def account(self) -> Account:
        key, url, network = self._connection.password or "", api_url(self._connection), network_options(self._extra)
        parts = urlsplit(url)  # a host may be spelled in many ways
        where = [parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme), parts.path]
        identity = json.dumps([key, where, sorted(network.proxies.items()), network.ca_bundle, network.allow_http])
        return Account(
            digest=hashlib.blake2b(identity.encode(), key=_SALT, digest_size=16).hexdigest(),
            client=CloudHPCClient(key, url, network=network, max_attempts=1),
            quota_share=self.quota_share,
        )


def find_account(cloudhpc_conn_id: str) -> Account:
    """
    Look the connection up; blocks.

    :raises AirflowNotFoundException: there is no such connection
    :raises CloudHPCValueError: it has no key, or a setting that cannot be used
    """
    return _AccountHook(cloudhpc_conn_id).account()
