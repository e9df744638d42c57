# SPDX-License-Identifier: Apache-2.0
"""What was done to the emulator: launches, calls, bytes, bills, violations. It holds no key and no signature."""

from __future__ import annotations

import copy
from collections import Counter, deque
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass
class Call:
    """
    One request.

    :param time: virtual time of its arrival, seconds since the epoch
    :param user: name of the account, None where no valid key came
    :param method: HTTP method
    :param endpoint: template, e.g. ``/simulation/view/{id}``; ``/signed-url`` for transfers
    :param surface: ``api``, ``store``, ``pages`` or ``control``
    :param status: HTTP status of the answer, None where none was sent
    :param received: bytes of the request's body that arrived
    :param sent: bytes of the answer's body that were handed out
    :param fault: kind of the fault that struck it, None for none
    """

    time: float
    user: str | None
    method: str
    endpoint: str
    surface: str
    status: int | None = None
    received: int = 0
    sent: int = 0
    fault: str | None = None


@dataclass(frozen=True)
class Launch:
    """One accepted ``simulation/add``: what it asked for, by whom, when (virtual seconds since the epoch)."""

    id: int
    user: str
    cpu: int
    ram: str
    script: str
    folder: str
    mesh: str
    nopre: int
    time: float


@dataclass(frozen=True)
class Stop:
    """One accepted stop signal: for which simulation, ``SIGTSTP`` (soft) or ``SIGINT`` (hard), when."""

    id: int
    signal: str
    time: float


@dataclass(frozen=True)
class Bill:
    """What a simulation costs so far: machine seconds, vCPU hours, euro, and whether it has ended."""

    seconds: float
    cpu_hours: float
    cost: float
    ended: bool


@dataclass(frozen=True)
class Violation:
    """
    Something that no client should do; it was refused.

    :param kind: see ``violations.VIOLATIONS``
    :param detail: what was wrong, without keys and signatures
    :param endpoint: method and template of the call
    :param user: name of the account, None where unknown
    :param time: virtual seconds since the epoch
    """

    kind: str
    detail: str
    endpoint: str
    user: str | None
    time: float


@dataclass
class Ledger:
    """
    Everything since the start or the last reset.

    :param launches: accepted launches, in order
    :param stops: accepted stop signals, in order
    :param calls: the last 20,000 requests, in order; ``count`` counts all of them
    :param bills: by simulation id; a running simulation's is what it costs up to now
    :param violations: in order
    :param bytes_uploaded: body bytes that the store took
    :param bytes_downloaded: body bytes that the store gave
    """

    launches: list[Launch] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=20_000))
    bills: dict[int, Bill] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    bytes_uploaded: int = 0
    bytes_downloaded: int = 0
    _counts: Counter[tuple[str, str, str, str | None]] = field(default_factory=Counter)

    def arrive(self, call: Call) -> None:
        """Take down a request as it arrives."""
        self.calls.append(call)
        self._counts[(call.surface, call.method, call.endpoint, call.user)] += 1

    def count(self, endpoint: str = "*", user: str | None = None, surface: str = "api") -> int:
        """
        How many requests came.

        :param endpoint: template with or without method and leading slash, ``*`` as wildcard: ``simulation/add``,
            ``GET /simulation/view*``
        :param user: name of an account, None for all
        :param surface: ``api`` (default), ``store``, ``pages``, ``control`` or ``*``
        """
        return sum(
            number
            for (where, method, template, name), number in self._counts.items()
            if fnmatchcase(where, surface) and endpoint_matches(endpoint, method, template) and user in (None, name)
        )

    @property
    def api_calls(self) -> int:
        """How many API calls came: what a quota is about. Transfers by signed URL are none."""
        return self.count()

    def by_endpoint(self, surface: str = "api") -> dict[str, int]:
        """Number of requests by ``METHOD /template``."""
        result: Counter[str] = Counter()
        for (where, method, template, _), number in self._counts.items():
            if fnmatchcase(where, surface):
                result[f"{method} {template}"] += number
        return dict(result)

    def snapshot(self) -> Ledger:
        """A copy that stays as it is while the emulator goes on."""
        result = copy.copy(self)
        result.launches, result.violations, result.bills = list(self.launches), list(self.violations), dict(self.bills)
        result.stops = list(self.stops)
        result.calls = deque((copy.copy(call) for call in self.calls), maxlen=self.calls.maxlen)
        result._counts = Counter(self._counts)
        return result


def endpoint_matches(pattern: str, method: str, template: str) -> bool:
    """
    Whether a request is meant by a pattern.

    :param pattern: ``[METHOD ]template``, the leading slash optional, ``*`` as wildcard
    :param method: the request's method
    :param template: the request's endpoint template
    """
    wanted, space, rest = pattern.partition(" ")
    if not space:
        wanted, rest = "*", pattern
    return fnmatchcase(method, wanted) and fnmatchcase(template.lstrip("/"), rest.lstrip("/"))
