# SPDX-License-Identifier: Apache-2.0
"""What the emulated service offers, what it charges, and the ways in which it may differ from day to day."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

CPUS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 112, 192, 224)
RAMS = ("highcpu", "standard", "highmem", "hypercpu", "basegpu", "highcore", "hypercore")
SCRIPTS = (
    "calculiX-2.20",
    "calculiX-2.21-PARDISO",
    "codeAster-17.0_mpi",
    "codeSaturne-8.0",
    "custom-script",
    "fds6.7.9",
    "fds6.8.0",
    "fds6.9.1",
    "openFoam-1912",
    "openFoam-v2312",
    "openFoam-v2406",
    "openRadioss-2024",
    "snappyHexMesh-v2312",
    "SU2_8.3",
    "ubuntu-2204-static",
    "ubuntu-2404-static",
)

#: Euro per vCPU and hour on a regular machine. Invented, but published: a test can check a bill.
EUR_PER_CPU_HOUR = {
    "highcpu": 0.04,
    "standard": 0.05,
    "highmem": 0.07,
    "hypercpu": 0.06,
    "basegpu": 0.20,
    "highcore": 0.08,
    "hypercore": 0.12,
}
#: A preemptible machine costs this part of a regular one.
PREEMPTIBLE_FACTOR = 0.4

FILE_LIFETIME = 60 * 86400.0
RESULT_INTERVAL = 10 * 3600.0


@dataclass
class Settings:
    """
    The emulator's knobs; all of them can be changed while it runs. Times are seconds on the virtual clock.

    :param pending_seconds: how long a launched simulation waits for its machine
    :param soft_stop_seconds: how long a simulation that only pretends to run takes to stop softly
    :param page_size: entries of a listing's page
    :param repeat_last_page: answer a page past the end with the last one instead of ``[]``
    :param numbers: ``plain`` JSON numbers, or everything as ``strings`` (then "nothing yet" is null)
    :param download_shape: what ``storage/download/{id}`` answers: a ``bare`` string, ``{"url"}``, ``{"mediaLink"}``,
        a ``redirect`` to the store, or ``nothing`` usable
    :param view_url_delay: how long after the first question for a file ``storage/view-url/{id}`` has no link
    :param cache_seconds: how long the listings miss a new upload where nobody deletes the cache
    :param url_lifetime: how long a signed URL is good for
    :param chunked_put: whether the store takes an upload that does not say its length
    :param quota_refusal: how a call over the quota is refused: ``429``, ``429-seconds`` and ``429-date`` (with
        ``Retry-After``), or ``403``
    :param simulation_lag: how long the listing of simulations misses a new one
    :param storage_lag: how long the storage listing misses a file after the cache was deleted
    :param hold_launches: hold every new simulation in PENDING until it is released
    :param unknown_folder: a launch in a folder that is not there is ``refused``, or ``accepted``: then the run says
        ``FOLDER ... not detected`` and ends with ERROR
    :param signed_head: whether a signed URL to read may be asked with HEAD too
    :raises ValueError: for a value that a knob does not have
    """

    pending_seconds: float = 1.0
    soft_stop_seconds: float = 2.0
    page_size: int = 20
    repeat_last_page: bool = False
    numbers: Literal["plain", "strings"] = "plain"
    download_shape: Literal["bare", "url", "mediaLink", "redirect", "nothing"] = "bare"
    view_url_delay: float = 2.0
    cache_seconds: float = 300.0
    url_lifetime: float = 3600.0
    chunked_put: bool = True
    quota_refusal: Literal["429", "429-seconds", "429-date", "403"] = "429"
    simulation_lag: float = 0.0
    storage_lag: float = 0.0
    hold_launches: bool = False
    unknown_folder: Literal["refused", "accepted"] = "refused"
    signed_head: bool = True

    def __post_init__(self) -> None:
        hints = get_type_hints(Settings)
        for knob in fields(self):
            setattr(self, knob.name, _checked(knob.name, getattr(self, knob.name), hints[knob.name]))


def _checked(name: str, value: Any, kind: Any) -> Any:
    """A knob's value, or an error that says what it may be."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} is one of {', '.join(get_args(kind))}; not {value!r}")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} is true or false; not {value!r}")
        return value
    least = 1 if kind is int else 0
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value != kind(value) or value < least:
        raise ValueError(f"{name} is {'a whole number' if kind is int else 'a number'} from {least} on; not {value!r}")
    return kind(value)
