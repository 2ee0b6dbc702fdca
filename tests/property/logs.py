"""Naive models of the algorithms: they keep the log of all takes, and compute in fractions by the definition."""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction
from typing import NamedTuple

from shm_store.core.algorithms import Algorithm


class Entry(NamedTuple):
    """Units that were taken at an instant."""

    at_ns: int
    units: int


class Log:
    """The takes of one bucket, in the order of time.

    `room` returns the units that a take could get at an instant, as a fraction. `take` appends. Without further takes
    no unit is missing from `full_at` on, and the first take from `idle_at` on begins anew. Call both after a take only.
    """

    def __init__(self, quota: Algorithm) -> None:
        self.quota = quota
        self.entries: list[Entry] = []

    def take(self, now_ns: int, units: int) -> bool:
        allowed = units <= self.room(now_ns)
        if allowed:
            self.entries.append(Entry(now_ns, units))
        return allowed

    def give_back(self, entry: int, units: int) -> None:
        """Take units of a take out of the log. The take stays, if with nothing: windows may have begun with it."""
        self.entries[entry] = Entry(self.entries[entry].at_ns, self.entries[entry].units - units)

    def room(self, now_ns: int) -> Fraction:
        raise NotImplementedError

    def full_at(self, now_ns: int) -> int:
        raise NotImplementedError

    def idle_at(self, now_ns: int) -> int:
        return self.full_at(now_ns)

    def taken(self, begin_ns: int, end_ns: int) -> int:
        """Units taken from `begin_ns` on and before `end_ns`."""
        return sum(entry.units for entry in self.entries if begin_ns <= entry.at_ns < end_ns)


class TokenBucket(Log):
    """Intervals follow one another from the first take on."""

    def room(self, now_ns: int) -> Fraction:
        begin_ns = self._begin_ns(now_ns)
        return Fraction(self.quota.limit - self.taken(begin_ns, begin_ns + self.quota.interval_ns))

    def full_at(self, now_ns: int) -> int:
        return self._begin_ns(now_ns) + self.quota.interval_ns

    def _begin_ns(self, now_ns: int) -> int:
        if not self.entries:
            return now_ns
        first_ns = self.entries[0].at_ns
        return first_ns + (now_ns - first_ns) // self.quota.interval_ns * self.quota.interval_ns


class FixedWindow(Log):
    """Windows are aligned to the epoch."""

    def room(self, now_ns: int) -> Fraction:
        begin_ns = self._begin_ns(now_ns)
        return Fraction(self.quota.limit - self.taken(begin_ns, begin_ns + self.quota.interval_ns))

    def full_at(self, now_ns: int) -> int:
        return self._begin_ns(now_ns) + self.quota.interval_ns

    def _begin_ns(self, now_ns: int) -> int:
        return now_ns - (now_ns - self.quota.epoch()) % self.quota.interval_ns


class Gcra(Log):
    """A bucket that is filled by one unit each emission interval, and holds `burst` of them."""

    def room(self, now_ns: int) -> Fraction:
        rate = Fraction(self.quota.limit, self.quota.interval_ns)
        level, since_ns = Fraction(self.quota.burst), None
        for at_ns, units in self.entries:
            if since_ns is not None:
                level = min(level + (at_ns - since_ns) * rate, Fraction(self.quota.burst))
            level, since_ns = level - units, at_ns
        return level if since_ns is None else min(level + (now_ns - since_ns) * rate, Fraction(self.quota.burst))

    def full_at(self, now_ns: int) -> int:
        missing = self.quota.burst - self.room(now_ns)
        return now_ns + math.ceil(missing * self.quota.interval_ns / self.quota.limit)


class SlidingWindow(Log):
    """Two windows, of which the one before weighs as much as is left of the current one.

    The first begins with the first take; after two windows without one the next take begins anew.
    """

    def room(self, now_ns: int) -> Fraction:
        interval_ns, begin_ns = self.quota.interval_ns, self._begin_ns(now_ns)
        weight = Fraction(begin_ns + interval_ns - now_ns, interval_ns)
        # Takes from before an idle time are too far back to be in it.
        before = self.taken(begin_ns - interval_ns, begin_ns)
        weighted = math.floor(before * weight)
        return Fraction(self.quota.limit - self.taken(begin_ns, begin_ns + interval_ns) - weighted)

    def full_at(self, now_ns: int) -> int:
        # Without further takes, room only grows.
        instants = range(now_ns, self.idle_at(now_ns) + 1)
        return instants[bisect_left(instants, self.quota.limit, key=lambda at_ns: math.floor(self.room(at_ns)))]

    def idle_at(self, now_ns: int) -> int:  # noqa: ARG002 - it is the last take that counts
        last_ns = self.entries[-1].at_ns
        return self._begin_ns(last_ns) + 2 * self.quota.interval_ns

    def _begin_ns(self, now_ns: int) -> int:
        """The beginning of the window that contains `now_ns`."""
        interval_ns = self.quota.interval_ns
        begin_ns, last_ns = None, None
        for at_ns, _ in [*self.entries, Entry(now_ns, 0)]:
            if begin_ns is None or last_ns is None:
                begin_ns = at_ns
            else:
                last_begin_ns = begin_ns + (last_ns - begin_ns) // interval_ns * interval_ns
                begin_ns = at_ns if at_ns >= last_begin_ns + 2 * interval_ns else last_begin_ns
                begin_ns += (at_ns - begin_ns) // interval_ns * interval_ns
            last_ns = at_ns
        assert begin_ns is not None
        return begin_ns


MODELS: dict[str, type[Log]] = {
    "token-bucket": TokenBucket,
    "gcra": Gcra,
    "fixed-window": FixedWindow,
    "sliding-window": SlidingWindow,
}
