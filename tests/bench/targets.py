"""Targets: what the project promises of its speed and size, and whether the figures of a run keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tests.bench.figures import Figure, Group
from tests.bench.tables import number


class Target(NamedTuple):
    """A bound for the median of a figure.

    Attributes:
        what: What is promised.
        group: The group that has the figure.
        figure: Its name there.
        bound: The most that it may be, or the least.
        least: Whether `bound` is the least.
        reason: Why it is missed, where it is.
    """

    what: str
    group: str
    figure: str
    bound: float
    least: bool = False
    reason: str = ""

    def __str__(self) -> str:
        """Return the bound in words."""
        return f"at {'least' if self.least else 'most'} {self.bound:g}"

    def found(self, groups: Mapping[str, Group]) -> Figure | None:
        """Return the figure, if it was measured."""
        group = groups.get(self.group)
        return next((each for each in group.figures if each.name == self.figure), None) if group else None

    def met(self, figure: Figure) -> bool:
        """Return whether the median keeps the bound."""
        return figure.median >= self.bound if self.least else figure.median <= self.bound

    def verdict(self, groups: Mapping[str, Group]) -> tuple[str, str, str]:
        """Return median, quartiles and whether the target is met, in words."""
        figure = self.found(groups)
        if figure is None:
            return "not measured", "", ""
        low, high = figure.quartiles
        unit = f" {figure.unit}" if figure.unit else ""
        return (
            f"{number(figure.median)}{unit}",
            f"{number(low)} to {number(high)}",
            "met" if self.met(figure) else f"not met: {self.reason}" if self.reason else "not met",
        )


_LIMITS: Final = "ShmStore / limits, fixed window"
_LIMITS_ALONE: Final = "ShmStore / limits without its expiry thread"

TARGETS: Final = (
    Target(
        "hot take / token-bucket's consume",
        "takes",
        "take / token-bucket",
        1.0,
        reason="consume is bytecode; a take calls C, makes integers, and looks whether the table counts by key",
    ),
    Target("hot take / floor, by posix_ipc's semaphore", "takes", "take / floor, posix_ipc.Semaphore", 2.0),
    Target(
        "hot take / floor, by multiprocessing's",
        "takes",
        "take / floor, multiprocessing.SemLock",
        2.0,
        reason="the cheaper semaphore lowered the floor by a third; the call, the look-up, the seat, the tag and the "
        "counter are above it",
    ),
    Target("take over 1M live keys, Zipf / limits in memory", "populations", f"{_LIMITS}, 1M keys, Zipf", 0.6),
    Target("the same, gc frozen", "populations", f"{_LIMITS}, 1M keys, Zipf, gc frozen", 0.6),
    Target(
        "the same, limits without its expiry thread",
        "populations",
        f"{_LIMITS_ALONE}, 1M keys, Zipf",
        0.6,
        reason="that is limits if it forgot nothing; here a key without a hint is hashed, found and checked anew",
    ),
    Target(
        "first take, up to 64k keys / limits in memory",
        "populations",
        f"{_LIMITS}, first takes, 64k keys",
        1.0,
        reason="a key is hashed, missed in all of its set and written as nine words, under a stripe; limits adds to a "
        "dictionary, until it has many keys",
    ),
    Target(
        "first take, up to 1M keys / limits in memory",
        "populations",
        f"{_LIMITS}, first takes, 1M keys",
        1.0,
        reason="as above; with more keys limits looks through them more often for those that have expired",
    ),
    Target("limits on Valkey / hot take", "takes", "limits on Valkey, fixed window / take", 150, least=True),
    Target("Falcon, allowed: added / bare JSON", "falcon_app", "added by an allowed request / bare JSON", 0.5),
    Target(
        "Falcon, allowed: added / bare text",
        "falcon_app",
        "added by an allowed request / bare text",
        0.5,
        reason="a take is a quarter of what is added, two header fields another, the client's key and calls the rest",
    ),
    Target("Falcon, denied / bare JSON", "falcon_app", "denied / bare JSON", 1.0),
    Target(
        "Falcon, denied / bare text",
        "falcon_app",
        "denied / bare text",
        1.0,
        reason="Falcon itself needs nearly as much for a request that middleware answers",
    ),
    Target("throughput, 2 processes, own keys / 1", "processes", "2 processes, own keys / 1 process", 1.8, least=True),
    Target(
        "throughput, 8 processes, one key / 1",
        "processes",
        "8 processes, one key / 1 process",
        0.8,
        least=True,
        reason="0.5 to 1.1 from one run to the next: while two of them run, the key's cache lines go back and forth",
    ),
    Target("p99.9 of a take during a sweep of 1M / without", "processes", "p99.9 during a sweep / without", 1.5),
    Target(
        "the same, sweeps that reclaim 20,000 slots",
        "processes",
        "p99.9 during sweeps that reclaim / without",
        1.5,
        reason="a set that is being reclaimed is held for some microseconds, again and again",
    ),
    Target(
        "wrk through 4 sync workers, ours / bare",
        "servers",
        "sync, ours / bare",
        0.97,
        least=True,
        reason="0.94 to 0.99 from one run to the next: a take, and two header fields that gunicorn writes",
    ),
    Target(
        "take on Valkey / bare call of its script",
        "past_one_host",
        "take, RedisStore / bare script call, redis-py's connection",
        1.15,
    ),
    Target("take from a lease / from shared memory", "past_one_host", "take from a lease / take, shared memory", 1.3),
    Target(
        "shared memory a slot, without labels, bytes",
        "startup",
        "shared memory a slot, 1M slots",
        64,
        reason="gcra has a burst beside limit, interval and three words of state; a slot is 72, the rest stripes",
    ),
)
