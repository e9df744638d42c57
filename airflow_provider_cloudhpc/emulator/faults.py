# SPDX-License-Identifier: Apache-2.0
"""What can be made to go wrong, how often, and for which calls."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_cloudhpc.emulator.endpoints import API, SIGNED_URL
from airflow_provider_cloudhpc.emulator.ledger import endpoint_matches

#: kind -> what it does. Times are virtual seconds unless said otherwise.
KINDS = {
    "rate_limit": "429; retry_after=N adds the header in seconds, http_date=True as a date",
    "quota": "403 with the quota headers saying that the hour is used up",
    "server_error": "500",
    "unavailable": "503; retry_after as above",
    "html": "an HTML page under 200 (status=N for another code)",
    "forbidden": "403 with the service's 'technical problem', though nothing is wrong",
    "unauthorized": "403 'Unauthorized.', though the key is good",
    "reset_before": "TCP reset, nothing done; at_bytes=N reads that much of the body first",
    "reset_after": "TCP reset after the effect, without an answer",
    "late_effect": "TCP reset; the call takes effect after=N seconds later",
    "slow": "delay=N real seconds before the answer and/or bytes_per_second=N for both bodies",
    "truncated": "the answer's body ends after at_bytes=N (default half of it); reset=True by RST, else by closing",
    "wrong_hash": "the store names another hash than the object has",
    "changed": "the object gets other bytes (and another ETag) just before the call",
}


@dataclass
class Fault:
    """
    A fault in waiting.

    :param kind: one of ``KINDS``
    :param endpoint: which calls: ``[METHOD ]template``, ``*`` as wildcard; transfers: ``PUT`` and ``GET /signed-url``
    :param times: how many calls it strikes, None for no end
    :param rate: chance of striking a matching call, 0 to 1
    :param skip: how many matching calls go unharmed first
    :param user: name of an account, None for all
    :param options: what the kind takes
    :param hits: how often it struck
    """

    kind: str
    endpoint: str = "*"
    times: int | None = 1
    rate: float = 1.0
    skip: int = 0
    user: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    id: int = 0
    hits: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For the control API."""
        return asdict(self)


_NUMBER = "a number from 0 on"
_STATUS = "an HTTP status from 200 to 599"
_FLAG = "true or false"
#: What an option may be.
_OPTION_KINDS: dict[str, Callable[[Any], bool]] = {
    _NUMBER: lambda value: isinstance(value, (int, float)) and 0 <= value < math.inf,
    _STATUS: lambda value: isinstance(value, int) and 200 <= value <= 599,
    _FLAG: lambda value: isinstance(value, bool),
}
_OPTIONS: dict[str, dict[str, str]] = {
    "rate_limit": {"retry_after": _NUMBER, "http_date": _FLAG},
    "unavailable": {"retry_after": _NUMBER, "http_date": _FLAG},
    "html": {"status": _STATUS},
    "reset_before": {"at_bytes": _NUMBER},
    "late_effect": {"after": _NUMBER},
    "slow": {"delay": _NUMBER, "bytes_per_second": _NUMBER},
    "truncated": {"at_bytes": _NUMBER, "reset": _FLAG},
}
_STORE_ONLY = {"wrong_hash", "changed"}
_STORE = tuple((method, SIGNED_URL) for method in ("PUT", "GET", "HEAD"))


def check(fault: Fault) -> None:
    """
    Whether a fault can ever strike.

    :raises ValueError: where it cannot, saying why and what there is
    """
    if fault.kind not in KINDS:
        raise ValueError(f"unknown fault {fault.kind!r}; there are: {', '.join(KINDS)}")
    known = _OPTIONS.get(fault.kind, {})
    if unknown := fault.options.keys() - known.keys():
        takes = ", ".join(sorted(known)) or "none"
        raise ValueError(f"{fault.kind} takes no option {', '.join(sorted(unknown))}; it takes: {takes}")
    for name, value in fault.options.items():
        if not _OPTION_KINDS[known[name]](value):
            raise ValueError(f"{name} is {known[name]}; not {value!r}")
    if not isinstance(fault.rate, (int, float)) or not 0 <= fault.rate <= 1:
        raise ValueError(f"rate is a chance between 0 and 1; not {fault.rate!r}")
    for name, value, least in (("times", fault.times, 1), ("skip", fault.skip, 0)):
        if not (name == "times" and value is None) and (type(value) is not int or value < least):
            raise ValueError("times is a number from 1 on or None for no end, skip one from 0 on")
    if not isinstance(fault.endpoint, str):
        raise ValueError(f"endpoint is text; not {fault.endpoint!r}")
    there = _STORE if fault.kind in _STORE_ONLY else (*API, *_STORE)
    if not any(endpoint_matches(fault.endpoint, *endpoint) for endpoint in there):
        names = ", ".join(f"{method} {template}" for method, template in there)
        raise ValueError(f"no endpoint {fault.endpoint!r} for {fault.kind}; there are: {names}")


class FaultBook:
    """All faults in waiting, and the dice for those that strike by chance (seeded: a run can be repeated)."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._last = 0
        self._dice = random.Random(seed)  # noqa: S311 (dice, no secrets)

    def add(self, fault: Fault) -> Fault:
        """
        Put a fault in waiting.

        :raises ValueError: for one that can never strike
        """
        check(fault)
        fault.id = self._last = self._last + 1
        self._faults.append(fault)
        return fault

    def pick(self, method: str, template: str, surface: str, user: str | None) -> Fault | None:
        """The fault that strikes this call, counted; the oldest first."""
        for fault in self._faults:
            if fault.user not in (None, user) or not endpoint_matches(fault.endpoint, method, template):
                continue
            if fault.kind in _STORE_ONLY and surface != "store":
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if self._dice.random() >= fault.rate:
                continue
            fault.hits += 1
            if fault.times is not None and fault.hits >= fault.times:
                self._faults.remove(fault)
            return fault
        return None

    def remove(self, id_: int | None = None) -> None:
        """
        Take back one fault, or all of them. One that has struck for the last time is not there any more: that is fine.

        :raises ValueError: for a number that no fault ever had
        """
        if id_ is not None and not (isinstance(id_, int) and 0 < id_ <= self._last):
            raise ValueError(f"no fault {id_!r}")
        self._faults = [f for f in self._faults if id_ is not None and f.id != id_]

    def waiting(self) -> list[Fault]:
        """Those still to strike."""
        return list(self._faults)
