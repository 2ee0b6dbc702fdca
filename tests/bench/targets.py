"""Targets: what the project promises of its speed and size, and whether the figures of a run keep it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tests.bench.figures import Summary
from tests.bench.published import Run
from tests.bench.tables import number

#: The interpreter of the bounds, and their factor on later ones.
_BASE: Final = "CPython 3.11"
_LATER: Final = 1.3


class Target(NamedTuple):
    """A bound for the median of a figure.

    Attributes:
        what: The promise.
        group: The group that has the figure.
        figure: Its name there.
        bound: The most that it may be, or the least.
        least: Whether `bound` is the least.
        slack: The part of the bound that a figure on CPython 3.11 may be above it.
        later: The factor of the bound on later interpreters than CPython 3.11.
        reason: Why it is missed, where it is.
    """

    what: str
    group: str
    figure: str
    bound: float
    least: bool = False
    slack: float = 0.0
    later: float = 1.0
    reason: str = ""

    def __str__(self) -> str:
        """Return the bound in words."""
        later = f"; {self.bound * self.later:g} on later Pythons" if self.later != 1 else ""
        return f"{self.on(_BASE)}{later}"

    def on(self, python: str) -> str:
        """Return the bound on an interpreter, in words."""
        slack = f" ({self.slack:.0%} more counts)" if self.slack and python.startswith(_BASE) else ""
        return f"at {'least' if self.least else 'most'} {self._bound(python):g}{slack}"

    def met(self, figure: Summary, python: str) -> bool:
        """Return whether the median keeps the bound, on that interpreter."""
        bound = self._bound(python)
        if python.startswith(_BASE):
            bound *= 1 + self.slack
        return figure.median >= bound if self.least else figure.median <= bound

    def _bound(self, python: str) -> float:
        return self.bound if python.startswith(_BASE) else self.bound * self.later

    def verdict(self, run: Run) -> tuple[str, str, str]:
        """Return median, quartiles and whether the target is met, in words."""
        figure = run.groups.get(self.group, {}).get(self.figure)
        if figure is None:
            return "not measured", "", ""
        met = self.met(figure, run.machine.python)
        return number(figure.median), " to ".join(map(number, figure.quartiles)), "met" if met else "not met"


_LIMITS: Final = "ShmStore / limits, fixed window"
_LIMITS_ALONE: Final = "ShmStore / limits without its expiry thread"


def _ratio(case: str, most: float, to: str = "consume", **more: Any) -> Target:  # noqa: ANN401 - a Target's fields
    """Return the target of a case of `one_core`."""
    return Target(f"{case} / {to}", "one_core", f"{case} / {to}", most, later=_LATER, **more)


def _request(ratio: str, most: float, reason: str) -> Target:
    """Return the target of a ratio of `falcon_app`."""
    return Target(f"Falcon, {ratio}", "falcon_app", ratio, most, later=_LATER, reason=reason)


#: What each way to use the library costs on one core. `python -m tests.bench targets` measures these alone.
ONE_CORE: Final = (
    _ratio("hot take, token-bucket", 1.0, slack=0.05),
    _ratio(
        "hot take, fixed-window",
        1.0,
        slack=0.05,
        reason="on 3.13 it runs the same opcodes as token-bucket, which meets it; consume gained more from 3.13",
    ),
    _ratio("take of 2 units", 1.4),
    _ratio("take of a key with an override", 1.4),
    _ratio("hot take, gcra", 1.6),
    _ratio("hot take, gcra with a fraction", 2.2),
    _ratio("hot take, sliding-window", 1.6),
    _ratio("take, a new equal quota each call", 2.0),
    _ratio("take, two equal quotas in turn", 2.0),
    _ratio("peek", 1.5),
    _ratio("get", 1.5),
    _ratio("take_all of 3, token-bucket", 8),
    _ratio("take_all of 3, fixed-window", 8),
    _ratio("take_all of 3, gcra", 9),
    _ratio("take_all of 3, mixed", 9),
    _ratio("reserve and commit", 8),
    _ratio(
        "first take, empty table",
        1.0,
        "limits, fixed window",
        reason="a first take runs some 900 opcodes: it hashes the key, searches its set and writes a slot, under a "
        "stripe. As one closure it would be 0.97, a second copy of the transaction",
    ),
    _ratio("first take, 64k live keys", 1.0, "limits, fixed window", reason="as for an empty table"),
    _request(
        "JSON, one policy, gcra: added / bare JSON",
        0.4,
        "the take is two fifths of what is added; the client's key, counts and two header fields are the rest",
    ),
    _request("JSON, three policies: added / bare JSON", 1.0, "the call of `take_all` is more than half of it"),
    _request(
        "denied, by one of three / bare JSON",
        1.0,
        "Falcon needs 0.45 for a request that middleware answers, the denied call 0.65; a take of one policy is 0.1",
    ),
    *(
        Target(
            f"wrk through 4 sync workers, {what}{how}",
            "workers",
            f"{what}{how}",
            bound,
            least=True,
            reason="a worker's caches are cold at each request: one policy costs 13 us there, and 3 us in process",
        )
        for what, bound in (("one policy / bare", 0.97), ("three policies / bare", 0.92))
        for how in ("", ", by processor time")
    ),
)

TARGETS: Final = (
    *ONE_CORE,
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
        reason="as for the first take beside live keys",
    ),
    Target(
        "first take, up to 1M keys / limits in memory",
        "populations",
        f"{_LIMITS}, first takes, 1M keys",
        1.0,
        reason="as for the first take beside live keys",
    ),
    Target(
        "limits on Valkey / hot take",
        "takes",
        "limits on Valkey, fixed window / take",
        150,
        least=True,
        reason="the ratio is that of a round trip over loopback, which varies by a tenth from run to run",
    ),
    Target("Falcon, allowed: added / bare JSON", "falcon_app", "JSON, allowed: added / bare JSON", 0.5),
    Target(
        "Falcon, allowed: added / bare text",
        "falcon_app",
        "text, allowed: added / bare text",
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
        reason="0.6 to 1.1 from one round to the next: where two of them alternate at each take, the key's cache lines "
        "go back and forth",
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
        "p99.9 of a take beside a process with a busy thread / without",
        "threads",
        "p99.9, neighbour, busy thread / no busy thread",
        1.5,
    ),
    Target(
        "take on Valkey / bare call of its script",
        "past_one_host",
        "take, RedisStore / bare script call, redis-py's connection",
        1.15,
    ),
    Target(
        "take from a lease / from shared memory",
        "past_one_host",
        "take from a lease / take, shared memory",
        1.3,
        reason="a lease decides by a function of its own, as gcra does, and a window's take no longer does",
    ),
    Target(
        "shared memory a slot, without labels, bytes",
        "startup",
        "shared memory a slot, 1M slots",
        64,
        reason="a slot is a cache line of 64, found by a fingerprint of 16 and a byte of it; the rest is stripes",
    ),
)


def table(run: Run) -> Iterator[tuple[str, ...]]:
    """Return the rows of ONE_CORE, as a run has measured them."""
    yield f"median of the rounds, {run.machine.python}", "found", "quartiles", "", "bound"
    for target in ONE_CORE:
        yield target.what, *target.verdict(run), target.on(run.machine.python)
