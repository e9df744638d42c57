# SPDX-License-Identifier: Apache-2.0
"""
Which calls answer the waits of an account most cheaply; pure: asks are yielded, answers are sent in.

One page of a listing answers for many waits. Three orders of it are of use:

* **active first** shows what still runs, by pages of about 20;
* **ended last first** shows on its first page what has ended since the last look, however many run: one call;
* **newest first** shows what has just been launched.

None of them is believed blindly. A page that is not in the order asked for, a listing that misses what a look at the
simulation itself shows, or one that lags behind it, is left aside for an hour, and the next cheaper way is taken; the
last is one call for each wait.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.api.models import Simulation


class Listing(Enum):
    """An order of ``GET /simulation/index-short/{sort}/{asc,desc}/{page}``: the field, and whether it descends."""

    ACTIVE_FIRST = ("edate", False)
    ENDED_FIRST = ("edate", True)
    NEWEST_FIRST = ("id", True)


@dataclass(frozen=True)
class ListPage:
    """Ask for a page of a listing; it is answered with the records on it."""

    listing: Listing
    page: int


@dataclass(frozen=True)
class View:
    """Ask for one simulation; it is answered with its record, or with nothing where that did not work."""

    simulation_id: int


Ask = ListPage | View
Answer = list["Simulation"]
#: A look at the service: yields what to ask, is sent what came.
Look = Generator[Ask, Answer, None]

#: Page size until a page has shown it.
LIKELY_PAGE_SIZE = 20
#: Seconds for which a listing that misled is left aside.
DISTRUST = 3600.0
#: Every so many looks at a listing one wait is looked at by itself: a listing may be stale.
AUDIT_EVERY = 10
#: A listing that shows as active what has been known to have ended for so many seconds comes from a stale cache.
STALE_AFTER = 600.0
#: How many pages of what ended last are read that name none of ours.
MOST_FOREIGN_PAGES = 3
#: How many suspects, absent from the listings, are looked at by themselves in one look.
MOST_SUSPECTS = 5


class Board:
    """What is known of an account's simulations, and the choice of the next call."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Simulation, float]] = {}
        self._viewed: dict[int, float] = {}
        #: When those that have ended were first known to have.
        self._over: dict[int, float] = {}
        self._page_size = 0
        self._distrusted: dict[Listing, float] = {}
        self._active_pages = 0
        self._ended: set[int] = set()
        self._last_end = ""
        self._looks = 0
        # The walk over the active ones that spreads over several looks: next page, ids met, ids wanted at its start.
        self._walk_page = 1
        self._walk_met: set[int] = set()
        self._walk_wanted: set[int] = set()

    def fresh(self, simulation_id: int, since: float) -> Simulation | None:
        """Give a record that was read at ``since`` or later."""
        record, when = self._known.get(simulation_id, (None, -math.inf))
        return record if when >= since else None

    def distrust(self, listing: Listing, now: float) -> None:
        """Leave a listing aside for an hour."""
        self._distrusted[listing] = now + DISTRUST
        if listing is Listing.ENDED_FIRST:
            self._ended = set()
        self._walk_page, self._walk_met = 1, set()

    def expected_calls(self, waits: int, now: float) -> float:
        """What a look at this many simulations costs on average."""
        pages = self._pages(waits)
        if waits <= 1 or not self._trusts(Listing.ACTIVE_FIRST, now):
            return float(waits)
        if self._trusts(Listing.ENDED_FIRST, now):
            return 1.0 + min(pages, 2) / AUDIT_EVERY + (pages > 1)
        return min(waits, pages + 1.0)

    def look(self, wanted: Collection[int], now: float, *, regular: bool = True, burst: int = 1000) -> Look:
        """
        Look at simulations the cheapest way.

        :param wanted: their ids
        :param now: the time, seconds since the epoch
        :param regular: whether these are all waits, at their interval; else single ones out of turn
        :param burst: how many calls may be made at once
        """
        missing = set(wanted)
        self._forget(missing, now)
        pages = self._pages(len(missing))
        if len(missing) <= (1 if pages == 1 else 2):
            yield from self._views(missing, now, len(missing))
        elif not regular:
            yield from self._newest(missing, now)
            yield from self._active(missing, now)
            yield from self._views(missing, now, burst)
        elif pages > 1 and (self._looks or pages > burst) and self._trusts_both(now):
            yield from self._spread(missing, now, burst)
        else:
            yield from self._sweep(missing, now, burst)

    # -- the ways of a look; each takes out of ``missing`` what it has found ----------------------------------

    def _sweep(self, missing: set[int], now: float, burst: int) -> Look:
        """All active ones by their listing; then what is not among them."""
        wanted = set(missing)
        yield from self._active(missing, now)
        listed, unlisted = wanted - missing, set(missing)
        if len(missing) > 1:
            yield from self._ended_first(missing, now)
        if len(missing) > 2:
            yield from self._newest(missing, now)
        looked = set(missing)
        yield from self._views(missing, now, max(burst, MOST_SUSPECTS))
        strays = self._active_ones(unlisted - (looked & missing))
        # One that is left aside was not read: that it shows none is no word against it, and must not prolong the hour.
        if self._trusts(Listing.ACTIVE_FIRST, now) and len(strays) > 1 and len(strays) > len(wanted) / 4:
            self.distrust(Listing.ACTIVE_FIRST, now)
        yield from self._audit(listed, now)

    def _spread(self, missing: set[int], now: float, burst: int) -> Look:
        """What has ended by one page; of the active ones one page at a time, look by look."""
        wanted = set(missing)
        before = self._last_end
        yield from self._ended_first(missing, now)
        if not self._trusts(Listing.ENDED_FIRST, now):
            yield from self._sweep(missing, now, burst)
            return
        if self._walk_page == 1:
            self._walk_met, self._walk_wanted = set(), set(wanted)
        met = self._walk_met
        page = yield from self._page(Listing.ACTIVE_FIRST, self._walk_page, now)
        if not self._trusts(Listing.ACTIVE_FIRST, now):
            return
        new = [record for record in page if record.id not in met]
        met.update(record.id for record in new)
        late = [record for record in new if record.is_terminal and record.id in missing]
        if new and not any(record.is_terminal for record in new) and not (self._walk_wanted & missing) <= met:
            self._walk_page += 1
        else:
            self._active_pages, self._walk_page = max(1, self._walk_page), 1
            suspects = (self._walk_wanted & missing) - met
            looked = set(suspects)
            if len(suspects) > 2:
                yield from self._newest(suspects, now)
            yield from self._views(suspects, now, max(burst // 2, MOST_SUSPECTS))
            late += [record for record in map(self._record, looked - suspects) if record and record.is_terminal]
        if any(record.edate and record.edate < before for record in late):
            # It ended before what the listing already showed then: that listing has left it out.
            self.distrust(Listing.ENDED_FIRST, now)
        yield from self._audit(missing & met, now)

    def _active(self, missing: set[int], now: float) -> Look:
        """Read pages of the active ones, at most as many as one call for each would be."""
        most = len(missing)
        if not self._trusts(Listing.ACTIVE_FIRST, now) or most <= 1 or self._pages(most) >= most:
            return
        seen: set[int] = set()
        number = 1
        while missing and number <= most:
            page = yield from self._page(Listing.ACTIVE_FIRST, number, now)
            if not self._trusts(Listing.ACTIVE_FIRST, now):
                break
            new = [record for record in page if record.id not in seen]
            seen.update(record.id for record in new)
            missing -= seen
            if not new or new[-1].is_terminal or len(page) < self._page_size:
                break
            number += 1
        self._active_pages = number

    def _ended_first(self, missing: set[int], now: float) -> Look:
        """Read pages of what ended last as long as they tell something new."""
        if not self._trusts(Listing.ENDED_FIRST, now):
            return
        seen: set[int] = set()
        number = 1
        while missing:
            page = yield from self._page(Listing.ENDED_FIRST, number, now)
            if not self._trusts(Listing.ENDED_FIRST, now):
                return
            new = [record for record in page if record.id not in seen]
            ended = [record for record in new if record.is_terminal]
            hits = {record.id for record in ended} & missing
            known = any(record.id in self._ended for record in ended)
            missing -= hits
            seen.update(record.id for record in new)
            self._last_end = max([self._last_end, *(record.edate for record in ended)])
            if known or len(ended) < len(page) or len(page) < self._page_size:
                break
            if not hits and (not self._ended or number >= MOST_FOREIGN_PAGES):
                break
            number += 1
        self._ended = {identifier for identifier in seen if (r := self._record(identifier)) and r.is_terminal}

    def _newest(self, missing: set[int], now: float) -> Look:
        """Read pages of the newest as long as that is cheaper than one call for each."""
        if len(missing) <= 1 or not self._trusts(Listing.NEWEST_FIRST, now):
            return
        lowest = math.inf
        number = 1
        while missing:
            page = yield from self._page(Listing.NEWEST_FIRST, number, now)
            if not self._trusts(Listing.NEWEST_FIRST, now):
                return
            ids = [record.id for record in page]
            missing -= set(ids)
            if not ids or not missing or len(page) < self._page_size or not min(missing) < ids[-1] < lowest:
                return
            lowest = ids[-1]
            # How far the missing ones lie below, as the pages read so far are dense.
            pages_to_go = (lowest - min(missing)) / max(1, ids[0] - lowest + 1)
            if pages_to_go >= len(missing):
                return
            number += 1

    def _views(self, missing: set[int], now: float, most: int) -> Look:
        """One call for each, the longest unseen first."""
        for identifier in sorted(missing, key=self._when)[:most]:
            # Looked at, whatever comes, and if the look ends with it: the others have their turn before it has another.
            self._viewed[identifier] = now
            records = yield View(identifier)
            self._take(records, now)
            missing.discard(identifier)

    def _audit(self, listed: set[int], now: float) -> Look:
        """Now and then look at one by itself that a listing shows as active: it may be stale."""
        self._looks += 1
        listed = self._active_ones(listed)
        if listed and self._looks % AUDIT_EVERY == 0:
            identifier = sorted(listed)[self._looks // AUDIT_EVERY % len(listed)]
            self._take((yield View(identifier)), now)

    # -- small questions --------------------------------------------------------------------------------------

    def _page(self, listing: Listing, number: int, now: float) -> Generator[Ask, Answer, Answer]:
        """Read a page; where it is not what it is taken for its listing is not trusted afterwards."""
        page = yield ListPage(listing, number)
        self._page_size = max(self._page_size, len(page))
        if not _IN_ORDER[listing](page):
            self.distrust(listing, now)
        if any(not record.is_terminal and now - self._over.get(record.id, now) > STALE_AFTER for record in page):
            for each in Listing:  # they come from one cache
                self.distrust(each, now)
        self._take(page, now)
        return page

    def _take(self, records: Iterable[Simulation], now: float) -> None:
        for record in records:
            if record.is_terminal:
                self._over.setdefault(record.id, now)
            elif record.id in self._over:
                continue  # an older answer from a cache: nothing that has ended runs again
            self._known[record.id] = record, now

    def _forget(self, wanted: Collection[int], now: float) -> None:
        if len(self._known) > 10_000 + 2 * len(wanted):
            keep = set(wanted)
            self._known = {i: known for i, known in self._known.items() if i in keep or known[1] > now - DISTRUST}
            self._viewed = {i: when for i, when in self._viewed.items() if i in keep}
            self._over = {i: when for i, when in self._over.items() if i in self._known}

    def _record(self, identifier: int) -> Simulation | None:
        return self._known[identifier][0] if identifier in self._known else None

    def _when(self, identifier: int) -> tuple[float, int]:
        known = self._known[identifier][1] if identifier in self._known else -math.inf
        return max(known, self._viewed.get(identifier, -math.inf)), identifier

    def _active_ones(self, identifiers: Iterable[int]) -> set[int]:
        return {i for i in identifiers if (record := self._record(i)) is not None and not record.is_terminal}

    def _trusts(self, listing: Listing, now: float) -> bool:
        return now >= self._distrusted.get(listing, -math.inf)

    def _pages(self, waits: int) -> int:
        return max(self._active_pages, math.ceil(waits / (self._page_size or LIKELY_PAGE_SIZE)))

    def _trusts_both(self, now: float) -> bool:
        return self._trusts(Listing.ACTIVE_FIRST, now) and self._trusts(Listing.ENDED_FIRST, now)


def _is_active_first(page: list[Simulation]) -> bool:
    over = [record.is_terminal for record in page]
    return over == sorted(over)


def _is_ended_first(page: list[Simulation]) -> bool:
    ended = [record.is_terminal for record in page]
    dates = [record.edate for record in page if record.is_terminal]
    return ended == sorted(ended, reverse=True) and dates == sorted(dates, reverse=True)


def _is_newest_first(page: list[Simulation]) -> bool:
    ids = [record.id for record in page]
    return ids == sorted(ids, reverse=True)


_IN_ORDER = {
    Listing.ACTIVE_FIRST: _is_active_first,
    Listing.ENDED_FIRST: _is_ended_first,
    Listing.NEWEST_FIRST: _is_newest_first,
}
