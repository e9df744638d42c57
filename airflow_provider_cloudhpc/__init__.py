# SPDX-License-Identifier: Apache-2.0
"""Apache Airflow provider for cloudHPC. Importing this package imports neither Airflow nor requests."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def _field(label: str, description: str, kind: str, **limits: Any) -> dict[str, Any]:
    # "null" keeps the form from marking the field as required.
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **limits}}


def get_provider_info() -> dict[str, Any]:
    """Give the provider's metadata: what Airflow shows of it, its connection's form included."""
    return {
        "package-name": "airflow-provider-cloudhpc",
        "name": "cloudHPC",
        "description": "`cloudHPC <https://cloudhpc.cloud/>`__ runs engineering simulations on rented machines.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "cloudhpc",
                "hook-class-name": "airflow_provider_cloudhpc.hooks.cloudhpc.CloudHPCHook",
                "hook-name": "cloudHPC",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login"],
                    "relabeling": {"password": "API key", "host": "Host (empty: the service itself)"},
                    "placeholders": {
                        "password": "from your cloudHPC profile page",
                        "host": "https://cloud.cfdfeaservice.it",
                    },
                },
                "conn-fields": {
                    "connect_timeout": _field(
                        "Connect timeout", "Seconds to wait for a connection (10).", "number", minimum=0
                    ),
                    "read_timeout": _field(
                        "Read timeout", "Seconds to wait for the next bytes of an answer (60).", "number", minimum=0
                    ),
                    "proxies": _field(
                        "Proxies",
                        'JSON, such as {"https": "http://proxy:3128"}. Empty: as the environment says.',
                        "string",
                    ),
                    "ca_bundle": _field(
                        "CA bundle", "Path of a file with the CA certificates to trust, on every worker.", "string"
                    ),
                    "allow_http": _field(
                        "Allow plain http", "Send the key over plain http to hosts other than this machine.", "boolean"
                    ),
                    "quota_share": _field(
                        "Quota share",
                        "Part of the account's hourly calls that waiting may use, above 0 and up to 1 (0.5).",
                        "number",
                        minimum=0,
                        maximum=1,
                    ),
                },
            }
        ],
        "extra-links": ["airflow_provider_cloudhpc.links.CloudHPCSimulationLink"],
    }
