"""Calls of several takes answer and store as one take after another does in a dictionary of states.

Any algorithm, keys that come twice, shadow mode, reservations, units in flight, overrides, blocks: decided on by the
pure functions of the algorithms, which other tests hold to models of their own. Sets have room for all keys.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shm_store import Concurrency, Config, CostError, Quota, RateInfo, Reservation, ShmStore
from shm_store.core.algorithms import ALGORITHMS, FRESH, Algorithm, State
from shm_store.quota import resized
from shm_store.table.segment.files import remove
from shm_store.table.segment.layout import NEVER_IDLE
from shm_store.testing import FakeClock
from tests.segments import new_segment_name

S: Final = 10**9
LIMIT_MAX: Final = 2**63 - 1
BACK_MAX_NS: Final = S
KEYS: Final = st.sampled_from([f"key {number}" for number in range(4)])
WHICH: Final = st.integers(0, 1)
COSTS: Final = st.sampled_from([1, 1, 1, 2, 3, 5, 9])

T = TypeVar("T")

lives = itertools.count()


def _quotas(name: str) -> list[Quota]:
    burst: dict[str, Any] = {"burst": 6} if ALGORITHMS[name].has_burst else {}
    one: dict[str, Any] = {"burst": 1} if ALGORITHMS[name].has_burst else {}
    return [
        Quota(5, "3s", algorithm=name),
        Quota(7, "3s", algorithm=name, **burst),
        Quota(2, "1s", algorithm=name),
        Quota(5, "4s", algorithm=name, **burst),
        Quota(3, "1ms", algorithm=name, **one),
        Quota(LIMIT_MAX, "10s", algorithm=name),
    ]


QUOTAS: Final = [quota for name in ALGORITHMS for quota in _quotas(name)]


@dataclass(frozen=True)
class Bucket:
    """The bucket of a key. `life` changes when nothing of before is given back to it any more."""

    algorithm: Algorithm
    state: State = FRESH
    override: bool = False
    unasked: bool = False
    life: int = field(default_factory=lives.__next__)


@dataclass(frozen=True)
class Flight:
    """The units of a key that this process has in flight."""

    limit: int
    units: int = 0
    idle_at: int = 0
    life: int = field(default_factory=lives.__next__)


@dataclass(frozen=True)
class Taken:
    """One take of a reservation."""

    key: str
    cost: int
    is_taken: bool
    thing: Bucket | Flight | None


class Decided(NamedTuple):
    """The answers to a call, whether one of them denies it, and what there is afterwards."""

    infos: list[RateInfo]
    is_denied: bool
    buckets: dict[str, Bucket]
    flights: dict[str, Flight]


class Refused(NamedTuple):
    """A cost error: the most units, and the position of the take."""

    limit: int
    position: int


def _answered(call: Callable[[], T]) -> T | Refused:
    try:
        return call()
    except CostError as error:
        return Refused(error.limit, error.index)


class Calls(RuleBasedStateMachine):
    @initialize(
        defaults=st.lists(st.sampled_from([q for q in QUOTAS if q.burst is None]), min_size=2, max_size=2),
        quotas=st.lists(st.sampled_from(QUOTAS), min_size=1, max_size=3),
        size=st.sampled_from([128, 1024]),
        min_ttl=st.sampled_from([0, 7]),
        lag=st.sampled_from([0, 0, 700]),
        label_size=st.sampled_from([0, 16]),
    )
    def open(  # noqa: PLR0917 - drawn
        self, defaults: list[Quota], quotas: list[Quota], size: int, min_ttl: int, lag: int, label_size: int
    ) -> None:
        self.clock, self.name = FakeClock(), new_segment_name()
        self.min_ttl_ns = min_ttl * S
        # The clock of the second store may be late.
        self.lag_ns = lag * 10**6 if min_ttl else 0
        self.back_ns = 0
        clocks: list[Callable[[], int]] = [self.clock, lambda: self.clock() - self.lag_ns]
        self.defaults, self.quotas = defaults, [None, *quotas]
        self.stores = [
            ShmStore.open(
                Config(
                    limit=quota.limit,
                    interval=quota.interval,
                    algorithm=quota.algorithm,
                    name=self.name,
                    initial_size=size,
                    min_ttl=min_ttl,
                    label_size=label_size,
                ),
                clock=clock,
            )
            for quota, clock in zip(defaults, clocks, strict=True)
        ]
        self.buckets: dict[str, Bucket] = {}
        self.flights: dict[str, Flight] = {}
        self.blocked: dict[str, int] = {}
        self.reserved: list[tuple[int, Reservation, list[Taken]]] = []
        self.allowed = self.denied = 0

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            store.close()
        if hasattr(self, "name"):
            remove(self.name)

    def now(self, which: int) -> int:
        return self.clock() - which * self.lag_ns

    def is_past(self, idle_at: int, now: int) -> bool:
        return idle_at + self.min_ttl_ns <= now

    def adopted(self, bucket: Bucket | None, quota: Quota, now: int) -> Bucket:
        """Return the bucket of a key as a take finds it."""
        asked = quota.algorithm_for()
        if bucket is None:
            return Bucket(asked)
        old = bucket.algorithm
        state = FRESH if self.is_past(bucket.state[1], now) else bucket.state
        own = asked
        if bucket.unasked:
            own = resized(asked, old.limit, old.interval_ns)
        elif bucket.override or (type(old), old.quota) == (type(asked), asked.quota):
            own = old
        if own is not old:
            return Bucket(own, own.requoted(state, old, now), bucket.override)
        return replace(bucket, state=state) if state is bucket.state else Bucket(own, state, bucket.override)

    def decide(  # noqa: C901, PLR0912 - one step after another
        self, takes: Sequence[tuple[str, Quota | Concurrency, int]], shadow: Sequence[int], now: int
    ) -> Decided | Refused:
        """Return what one take after another does."""
        order = sorted(range(len(takes)), key=lambda position: position in shadow)
        buckets, flights = dict(self.buckets), dict(self.flights)
        found: dict[str, Bucket] = {}
        kept: dict[str, Bucket] = {}
        infos: dict[int, RateInfo] = {}
        for position in order:
            key, quota, cost = takes[position]
            wait = self.blocked.get(key, 0) - now
            most = quota.limit if isinstance(quota, Concurrency) else quota.most
            if wait > 0:
                if cost > most:
                    return Refused(most, position)
                infos[position] = RateInfo(False, most, 0, wait, wait)
            elif isinstance(quota, Concurrency):
                if cost > most:
                    return Refused(most, position)
                flight = flights.get(key)
                if flight is None:
                    flight = Flight(most)
                elif self.is_past(flight.idle_at, now):
                    flight = replace(flight, units=0, idle_at=0)
                flight = replace(flight, limit=most)
                left = most - flight.units
                if cost <= left:
                    flights[key] = replace(flight, units=flight.units + cost, idle_at=NEVER_IDLE)
                    infos[position] = RateInfo(True, most, left - cost, 0)
                else:
                    if key in flights:
                        flights[key] = flight
                    infos[position] = RateInfo(False, most, max(left, 0), 0, 0)
            else:
                if key not in found:
                    found[key] = self.adopted(buckets.get(key), quota, now)
                    if key in buckets:
                        kept[key] = found[key]
                    buckets[key] = found[key]
                bucket = buckets[key]
                most = bucket.algorithm.burst
                if cost > most:
                    return Refused(most, position)
                allowed, remaining, reset, retry, state = bucket.algorithm.step(bucket.state, now, cost)
                infos[position] = RateInfo(allowed, most, remaining, reset, retry)
                buckets[key] = replace(bucket, state=state)
        is_denied = any(not info.allowed and position not in shadow for position, info in infos.items())
        if is_denied:
            for position, info in infos.items():
                if info.allowed:
                    key, quota, _ = takes[position]
                    infos[position] = self.left(info.limit, key, quota, found, now)
            buckets = self.buckets | kept
            limits = {key: quota.limit for key, quota, _ in takes if isinstance(quota, Concurrency)}
            flights = {
                key: replace(flight, limit=limits.get(key, flight.limit)) if self.blocked.get(key, 0) <= now else flight
                for key, flight in self.flights.items()
            }
        return Decided([infos[position] for position in range(len(takes))], is_denied, buckets, flights)

    def left(self, most: int, key: str, quota: Quota | Concurrency, found: dict[str, Bucket], now: int) -> RateInfo:
        if isinstance(quota, Concurrency):
            flight = self.flights.get(key)
            units = 0 if flight is None or self.is_past(flight.idle_at, now) else flight.units
            return RateInfo(True, most, max(most - units, 0), 0)
        bucket = found[key]
        spent = bucket.algorithm.spent(bucket.state, now)
        return RateInfo(True, most, max(most - spent, 0), max(bucket.algorithm.full_at(bucket.state) - now, 0))

    def quota(self, which: int, number: int) -> Quota:
        return self.quotas[number % len(self.quotas)] or self.defaults[which]

    @rule(
        which=WHICH,
        takes=st.lists(st.tuples(KEYS, COSTS, st.booleans(), st.booleans()), min_size=1, max_size=5),
        numbers=st.lists(st.integers(0, 3), min_size=4, max_size=4),
        limit=st.sampled_from([1, 3, 9]),
        how=st.sampled_from(["take_all", "take_all", "reserve", "reserve in flight"]),
        times=st.integers(1, 3),
        plain=st.booleans(),
    )
    def call(  # noqa: PLR0917 - drawn
        self,
        which: int,
        takes: list[tuple[str, int, bool, bool]],
        numbers: list[int],
        limit: int,
        how: str,
        times: int,
        plain: bool,  # noqa: FBT001 - drawn
    ) -> None:
        """Take from some keys, each of them with one quota, some in shadow mode or in flight."""
        shadow = [position for position, take in enumerate(takes) if take[2] and not plain]
        asked = [
            (
                key,
                Concurrency(limit)
                if in_flight and how == "reserve in flight"
                else self.quota(which, numbers[int(key[-1])]),
                cost,
            )
            for key, cost, _, in_flight in takes
        ]
        for _ in range(times):
            self._call(which, asked, shadow, reserve=how != "take_all")

    def _call(
        self,
        which: int,
        takes: list[tuple[str, Quota | Concurrency, int]],
        shadow: list[int],
        *,
        reserve: bool,
    ) -> None:
        store, expected = self.stores[which], self.decide(takes, shadow, self.now(which))
        reservation = None
        if which == 0 or shadow:
            given: list[Any] = [(k, None if q is self.defaults[which] else q, c) for k, q, c in takes]
        else:
            given = [*takes]
        call: Any = store.reserve if reserve else store.take_all
        answer = _answered(lambda: call(given, shadow=shadow))
        if isinstance(expected, Refused) or isinstance(answer, Refused):
            assert expected == answer
            return
        if reserve:
            reservation, infos = answer, answer.infos
        else:
            infos = answer
        answers, is_denied, buckets, flights = expected
        assert infos == answers
        self.count(infos, shadow, is_denied=is_denied)
        self.buckets, self.flights = buckets, flights
        if reservation is not None:
            assert reservation.allowed is not is_denied
            parts = [
                Taken(
                    key, cost, info.allowed and not is_denied, (flights if type(q) is Concurrency else buckets).get(key)
                )
                for info, (key, q, cost) in zip(infos, takes, strict=True)
            ]
            self.reserved.append((which, reservation, parts))

    def count(self, infos: Sequence[RateInfo], shadow: Sequence[int], *, is_denied: bool) -> None:
        for position, info in enumerate(infos):
            if info.allowed:
                self.allowed += not is_denied
            else:
                self.denied += position not in shadow

    @rule(which=WHICH, key=KEYS, cost=COSTS, number=st.integers(0, 3), times=st.integers(1, 4), how=st.integers(0, 2))
    def take(self, which: int, key: str, cost: int, number: int, times: int, how: int) -> None:  # noqa: PLR0917 - drawn
        """Of one key, whichever way."""
        quota, store = self.quota(which, number), self.stores[which]
        for _ in range(times):
            if how == 2:
                self._call(which, [(key, quota, cost)], [], reserve=False)
                continue
            expected = self.decide([(key, quota, cost)], (), self.now(which))
            peeked = _answered(lambda: store.peek(key, cost, quota))
            answer = _answered(lambda: (store.reserve if how else store.take)(key, cost, quota))
            if isinstance(expected, Refused) or isinstance(answer, Refused):
                assert expected == answer == peeked
                return
            info = answer.info if isinstance(answer, Reservation) else answer
            assert [info, peeked] == expected.infos * 2
            _, is_denied, self.buckets, self.flights = expected
            self.count([info], (), is_denied=is_denied)
            if isinstance(answer, Reservation):
                self.reserved.append((which, answer, [Taken(key, cost, info.allowed, self.buckets.get(key))]))

    @precondition(lambda self: bool(getattr(self, "reserved", ())))
    @rule(
        number=st.integers(0, 9),
        used=st.lists(st.sampled_from([0, 0, 1, 3, 9]), min_size=5, max_size=5),
        debt=st.booleans(),
    )
    def settle(self, number: int, used: list[int], *, debt: bool) -> None:
        # By the clock of the store that took.
        which, reservation, parts = self.reserved.pop(number % len(self.reserved))
        short, now = reservation.commit(*used[: len(parts)], debt=debt), self.now(which)
        if not reservation.allowed:
            return
        for part, units, missing in zip(parts, used, short, strict=False):
            assert missing == (self.settled(part, units, now, debt=debt) if part.is_taken else 0)

    def settled(self, part: Taken, used: int, now: int, *, debt: bool) -> int:
        """Return how many of the charged units were not there."""
        key = part.key
        if isinstance(part.thing, Flight):
            flight = self.flights.get(key)
            if flight is not None and flight.life == part.thing.life:
                units = max(flight.units - part.cost, 0)
                self.flights[key] = replace(flight, units=units, idle_at=flight.idle_at if units else now)
            return 0
        bucket, more = self.buckets.get(key), used - part.cost
        if part.thing is None or more == 0:
            return 0
        if more < 0:
            if bucket is not None and bucket.life == part.thing.life:
                state = bucket.algorithm.refund(bucket.state, part.thing.state, now, -more)
                self.buckets[key] = replace(bucket, state=state)
            return 0
        if bucket is None or not (bucket.override or not self.is_past(bucket.state[1], now)):
            if not debt:
                return more
            bucket = Bucket(part.thing.algorithm)
        algorithm, state = bucket.algorithm, FRESH if self.is_past(bucket.state[1], now) else bucket.state
        short = max(more - max(algorithm.burst - algorithm.spent(state, now), 0), 0)
        if charged := more if debt else more - short:
            self.buckets[key] = replace(bucket, state=algorithm.charge(state, now, charged))
        return short

    @rule(which=WHICH, key=KEYS)
    def get(self, which: int, key: str) -> None:
        now, bucket, flight = self.now(which), self.buckets.get(key), self.flights.get(key)
        expected = 0, 0
        if bucket is None:
            if flight is not None and flight.units:
                expected = flight.limit, max(flight.limit - flight.units, 0)
        elif bucket.override or not self.is_past(bucket.state[1], now):
            state = FRESH if self.is_past(bucket.state[1], now) else bucket.state
            algorithm = bucket.algorithm
            expected = algorithm.burst, max(algorithm.burst - algorithm.spent(state, now), 0)
        assert self.stores[which].get(key) == expected

    @rule(which=WHICH, key=KEYS, limit=st.sampled_from([2, 5, 9]), seconds=st.integers(1, 4), keep_spent=st.booleans())
    def set(self, which: int, key: str, limit: int, seconds: int, *, keep_spent: bool) -> None:
        now, known = self.now(which), self.buckets.get(key)
        changes = self.stores[which].set(key, limit, seconds, keep_spent=keep_spent)
        unasked = Bucket(ALGORITHMS["token-bucket"](limit, seconds * S, limit), override=True, unasked=True)
        if known is None:
            assert changes
            self.buckets[key] = unasked
            return
        old, is_past = known.algorithm, self.is_past(known.state[1], now)
        is_same = keep_spent and known.override and (old.limit, old.interval_ns) == (limit, seconds * S)
        assert changes is not is_same
        if is_same:
            return
        if is_past and not known.override:
            self.buckets[key] = unasked
            return
        own = resized(old, limit, seconds * S)
        state = own.requoted(FRESH if is_past else known.state, old, now) if keep_spent else FRESH
        self.buckets[key] = Bucket(own, state, override=True, unasked=known.unasked)

    @rule(which=WHICH, key=KEYS)
    def reset(self, which: int, key: str) -> None:
        now, bucket, flight = self.now(which), self.buckets.pop(key, None), self.flights.pop(key, None)
        existed = bucket is not None and (bucket.override or not self.is_past(bucket.state[1], now))
        existed |= flight is not None and not self.is_past(flight.idle_at, now)
        assert self.stores[which].reset(key) is existed

    @rule(which=WHICH, key=KEYS, milliseconds=st.sampled_from([1, 500, 2000]))
    def block(self, which: int, key: str, milliseconds: int) -> None:
        self.stores[which].block(key, milliseconds / 1000)
        self.blocked[key] = self.now(which) + milliseconds * 10**6
        if key in self.buckets:
            self.buckets[key] = replace(self.buckets[key], life=next(lives))

    @rule(which=WHICH, key=KEYS)
    def unblock(self, which: int, key: str) -> None:
        assert self.stores[which].unblock(key) is (self.now(which) < self.blocked.pop(key, 0))

    @rule(milliseconds=st.sampled_from([1, 200, 429, 1_000, 2_999, 3_000, 7_000, 10_000, 20_000]))
    def wait(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)
        self.back_ns = max(self.back_ns - milliseconds * 10**6, 0)

    @rule(nanoseconds=st.integers(-3, 400_000_000))
    def step_back(self, nanoseconds: int) -> None:
        """The clock may also step back, or advance by next to nothing."""
        if self.min_ttl_ns and self.back_ns + nanoseconds <= BACK_MAX_NS - self.lag_ns:
            self.clock.advance("3ns")
            self.clock.set_back((nanoseconds + 3) / S)
            self.back_ns = max(self.back_ns + nanoseconds, 0)

    @invariant()
    def no_hint_outlives_its_window(self) -> None:
        """A process may be told the wait of a window that ended by another clock, or before a step back (I12)."""
        for which, store in enumerate(getattr(self, "stores", ())):
            hints, latest_ns = store.backend.known.recent, self.clock() + self.back_ns
            for key in [key for key, hint in hints.items() if self.now(which) < hint[0].ends_ns <= latest_ns]:
                del hints[key]

    @invariant()
    def table_agrees(self) -> None:
        if not hasattr(self, "stores"):
            return
        store = self.stores[0]
        assert (store.stats().allowed, store.stats().denied) == (self.allowed, self.denied)
        for key, bucket in self.buckets.items():
            slot = store._table.slots.find(store.backend.place(key))
            assert slot is not None, key
            words = slot.words.tolist()
            assert words[4:7] == [*bucket.algorithm.quota], key
            state, now = bucket.state, self.now(0)
            if self.is_past(state[1], now):
                assert self.is_past(words[1], now)
            else:
                # The sum of refunds goes on where a hint leads to a bucket that counts as absent.
                begin = int(bucket.algorithm.name == "gcra")
                assert words[begin:4] == [*state[begin:]], key


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=int(os.environ.get("EXAMPLES", "60")), stateful_step_count=50, deadline=None)
