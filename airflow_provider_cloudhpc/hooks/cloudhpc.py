# SPDX-License-Identifier: Apache-2.0
"""An Airflow connection becomes a client of the cloudHPC API."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

from airflow_provider_cloudhpc import get_provider_info
from airflow_provider_cloudhpc.api.client import API_PATH, DEFAULT_URL, CloudHPCClient
from airflow_provider_cloudhpc.api.errors import CloudHPCError, CloudHPCValueError
from airflow_provider_cloudhpc.api.wire.http import NetworkOptions, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_QUOTA_SHARE = 0.5
#: Longest timeout of a connection: a day.
_MOST_SECONDS = 86_400
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


class CloudHPCHook(BaseHook):
    """
    Manage the API key of a cloudHPC account through an Airflow connection.

    The connection's password is the API key. Its host is the service itself when empty, else a full URL, or a bare
    host, with or without a port and a path prefix. Its extra may hold ``connect_timeout`` and ``read_timeout``
    (seconds), ``proxies``, ``ca_bundle``, ``allow_http`` and ``quota_share``.

    :param cloudhpc_conn_id: id of the Airflow connection
    """

    conn_name_attr = "cloudhpc_conn_id"
    default_conn_name = "cloudhpc_default"
    conn_type = "cloudhpc"
    hook_name = "cloudHPC"

    def __init__(self, cloudhpc_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cloudhpc_conn_id = cloudhpc_conn_id

    @cached_property
    def client(self) -> CloudHPCClient:
        """The client of the connection's account, made at first use."""
        connection = self._connection
        return CloudHPCClient(connection.password or "", api_url(connection), network=network_options(self._extra))

    def get_conn(self) -> CloudHPCClient:
        """
        Give the client of the connection's account.

        :raises AirflowNotFoundException: there is no such connection
        :raises CloudHPCValueError: the connection has no key, or a setting that cannot be used
        """
        return self.client

    @property
    def quota_share(self) -> float:
        """Part of the account's hourly calls that waiting may use, above 0 and up to 1."""
        share = _number(self._extra, "quota_share", DEFAULT_QUOTA_SHARE)
        if share > 1:
            raise CloudHPCValueError(
                f"quota_share is {share:g} in the connection's extra: above 0 and up to 1 is needed."
            )
        return share

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the key is accepted and how many calls are left, or exactly what is wrong."""
        try:
            client = self.get_conn()
            _ = self.quota_share
            client.view_cpu()
        except (CloudHPCError, AirflowException) as error:
            return False, str(error)
        left = f"; {client.quota}" if client.quota else ""
        return True, f"{client.base_url} accepts the key{left}."

    @cached_property
    def _connection(self) -> Any:
        try:
            return self.get_connection(self.cloudhpc_conn_id)
        except AirflowNotFoundException:
            pass
        raise AirflowNotFoundException(
            f"cloudhpc_conn_id is {self.cloudhpc_conn_id!r}: there is no such connection. Create one of the type "
            "'cloudhpc' with your API key as its password (Admin > Connections, or `airflow connections add`), "
            "or name one that exists."
        )

    @cached_property
    def _extra(self) -> Mapping[str, Any]:
        text = self._connection.extra
        try:
            extra = json.loads(text) if text else {}
        except ValueError:
            extra = None
        if not isinstance(extra, dict):
            raise CloudHPCValueError(f"The extra of connection {self.cloudhpc_conn_id!r} is not a JSON object.")
        return extra

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Give the connection form's behaviour to Airflow 2; Airflow 3 takes it from the provider's metadata."""
        behaviour = _form()["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Give the connection form's fields to Airflow 2; Airflow 3 takes them from the provider's metadata."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import BooleanField, StringField

        widgets: dict[str, Any] = {}
        for name, field in _form()["conn-fields"].items():
            about = {"label": field["label"], "description": field["description"]}
            is_switch = "boolean" in field["schema"]["type"]
            widgets[name] = BooleanField(**about) if is_switch else StringField(**about, widget=BS3TextFieldWidget())
        return widgets


def _form() -> dict[str, Any]:
    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form


def api_url(connection: Any) -> str:
    """
    Give the API's address that a connection means.

    :param connection: its host is empty, a full URL, or a bare host; with or without port and path prefix. (A
        connection given as a URI keeps its path as ``schema``.)
    """
    host = (connection.host or "").strip()
    schema = (connection.schema or "").strip()
    if not host:
        return DEFAULT_URL
    try:
        if "://" not in host:
            name = urlsplit(f"//{host}").hostname
            default = "http" if is_loopback(name) else "https"
            host = f"{schema if schema in ('http', 'https') else default}://{host}"
        parts = urlsplit(host)
        has_port = parts.port is not None
    except ValueError:
        parts = None
    if parts is None:
        # What stands before an "@" may be a password.
        raise CloudHPCValueError(
            f"The connection's host is {host.rpartition('@')[2]!r}: a URL or a host is needed, an IPv6 address in [], "
            "a port between 1 and 65535."
        )
    netloc = parts.netloc if has_port or not connection.port else f"{parts.netloc}:{connection.port}"
    prefix = parts.path if schema in ("", "http", "https") else f"{parts.path}/{schema}"
    path = "/" + prefix.strip("/") if prefix.strip("/") else ""
    return f"{parts.scheme}://{netloc}{path.removesuffix(API_PATH)}{API_PATH}"


def network_options(extra: Mapping[str, Any]) -> NetworkOptions:
    """
    Read the network settings of a connection's extra.

    :raises CloudHPCValueError: naming the setting, the value and what is allowed
    """
    defaults = NetworkOptions()
    bundle = extra.get("ca_bundle") or None
    if bundle is not None and not Path(str(bundle)).exists():
        raise CloudHPCValueError(f"ca_bundle is {bundle!r} in the connection's extra: there is no such file here.")
    return NetworkOptions(
        connect_timeout=_number(extra, "connect_timeout", defaults.connect_timeout),
        read_timeout=_number(extra, "read_timeout", defaults.read_timeout),
        proxies=_proxies(extra.get("proxies")),
        ca_bundle=None if bundle is None else str(bundle),
        allow_http=_switch(extra, "allow_http"),
    )


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    if value is None or value == "":
        return default
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number <= _MOST_SECONDS:
        raise CloudHPCValueError(
            f"{name} is {value!r} in the connection's extra: a number above 0 and up to {_MOST_SECONDS} is needed."
        )
    return number


def _switch(extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name)
    text = "" if value is None else str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise CloudHPCValueError(f"{name} is {value!r} in the connection's extra: true or false is needed.")
    return text in _TRUE


def _proxies(value: Any) -> dict[str, str]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            value = {"http": value.strip(), "https": value.strip()}
    if not value:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        # A proxy's address may hold a password: it is not repeated.
        raise CloudHPCValueError(
            'proxies in the connection\'s extra is not a JSON object of addresses, such as {"https": "http://proxy:3128"}.'
        )
    return value
