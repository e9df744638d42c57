# SPDX-License-Identifier: Apache-2.0
"""Wait for a simulation in the process itself; the same decisions as in the triggerer, on one simulation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_cloudhpc.api.errors import CloudHPCAuthError, CloudHPCError, CloudHPCQuotaError
from airflow_provider_cloudhpc.api.lifecycle import duration, moment
from airflow_provider_cloudhpc.api.waiting.pacing import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cloudhpc.api.client import CloudHPCClient
    from airflow_provider_cloudhpc.api.lifecycle import Ending, Watch
    from airflow_provider_cloudhpc.api.waiting.clock import SteadyClock

#: Default for how long a worker's slot is spent on waiting for calls to be free again, seconds.
DEFAULT_QUOTA_WAIT = 300.0


def look_once(watch: Watch, connect: Callable[[bool], CloudHPCClient], now: float) -> Ending | None:
    """
    Look at the simulation: ``GET /simulation/view-short/{id}``; the wait's ending, or None to look again.

    :param connect: gives the client; called with True to read the connection again, as its key may have been changed
    :raises CloudHPCQuotaError: the account's calls are used up: a "not yet"
    """
    try:
        try:
            simulation = connect(False).view_simulation_short(watch.simulation_id)
        except CloudHPCAuthError:
            simulation = connect(True).view_simulation_short(watch.simulation_id)
    except CloudHPCQuotaError as error:
        ending = watch.missed(error, now)
        if ending is None:
            raise
        return ending
    except CloudHPCError as error:
        return watch.missed(error, now)
    return watch.seen(simulation, now)


def wait_for_end(
    watch: Watch,
    connect: Callable[[bool], CloudHPCClient],
    clock: SteadyClock,
    *,
    poll_interval: float = 60.0,
    quota_share: float = 0.5,
    quota_wait: float = DEFAULT_QUOTA_WAIT,
    sleep: Callable[[float], None] = time.sleep,
) -> Ending:
    """
    Look until the wait has ended, paced by the account's counters.

    :param connect: as for :func:`look_once`
    :param clock: the time that the watch lives in, too
    :param poll_interval: seconds between two looks at the least
    :param quota_share: part of the account's calls that the looks may use
    :param quota_wait: seconds that are waited for calls to be free before the slot is given up
    :raises CloudHPCQuotaError: they were not free again by then; the message says when to come back
    """
    pace = Pace(quota_share)
    used_up_since: float | None = None
    while True:
        now = clock.time()
        due = pace.free(now)  # the share is kept by the interval
        used_up = due > now
        if used_up:
            ending = watch.check_deadline(now)
        else:
            try:
                ending = look_once(watch, connect, now)
                pace.called(connect(False).quota, now)
                pace.answered()
                used_up_since = None
                due = now + pace.interval(now, poll_interval, 1)
            except CloudHPCQuotaError as error:
                pace.called(error.quota, now)
                due = pace.refused(error, now)
                ending, used_up = None, True
        if used_up and ending is None:
            used_up_since = now if used_up_since is None else used_up_since
            if due - used_up_since > quota_wait:
                raise CloudHPCQuotaError(
                    f"The account's calls are used up ({pace.quota or 'it tells no counters'}), for longer than this "
                    f"task waits for them ({duration(quota_wait)}). Try again after {moment(due + clock.ahead())} (in "
                    f"{duration(due - now)}), e.g. by `retry_delay`. Simulation {watch.simulation_id} does not depend "
                    "on this: it goes on, and bills.",
                    retry_after=due - now,
                    quota=pace.quota,
                )
            known = pace.quota or "it tells no counters"
            watch.tell(f"The account's calls are used up ({known}); looking again at {moment(due + clock.ahead())}.")
        if ending is not None:
            return ending
        if watch.confirm_at is not None:
            due = max(now, watch.confirm_at)
        if watch.deadline is not None:
            due = min(due, max(now, watch.deadline))
        sleep(max(0.0, due - now))
