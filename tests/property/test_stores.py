"""Stores answer alike: the same operations at the same instants, on shared memory and on a server.

The server counts in microseconds. Here a nanosecond of shared memory stands for one of them, so that the numbers of
both must be the same, whatever is rounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_store import Config, CostError, Quota, RateInfo, RateLimiter, Reservation, ShmStore
from shm_store.core.algorithms import ALGORITHMS
from shm_store.redis import RedisConfig, RedisStore
from shm_store.table.segment.files import remove
from tests.engines import Server, engines
from tests.segments import new_segment_name

examples = settings(
    max_examples=int(os.environ.get("EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

#: Microseconds of the server: a nanosecond of shared memory stands for one.
UNIT: Final = 1_000
START: Final = 1_700_000_000 * 10**6
MIN_TTL: Final = 600 * 10**6
KEYS: Final = ("a", "b")
# As shared memory has them: limit, interval, burst.
TERMS: Final = (
    (5, 3 * 10**6, None),
    (3, 3 * 10**6 + 1, 7),
    (7, 10**6, 3),
    (2**52 - 1, 700 * 10**6, None),
    (1_000_003, 90 * 10**6 + 7, 17),
)
quotas = st.builds(
    lambda terms, algorithm: (*terms[:2], terms[2] if algorithm == "gcra" else None, algorithm),
    st.sampled_from(TERMS),
    st.sampled_from(list(ALGORITHMS)),
)
keys = st.sampled_from(KEYS)
costs = st.sampled_from((1, 1, 1, 2, 3, 5, 17, 2**51))
waits = st.one_of(
    st.sampled_from((0, 0, 1, 10**6, 3 * 10**6, 3 * 10**6 - 1, MIN_TTL, MIN_TTL + 3 * 10**6)),
    st.integers(0, 4 * 10**6),
    st.integers(0, 2 * MIN_TTL),
)
Terms = tuple[int, int, int | None, str]
takes = st.tuples(keys, quotas, costs)
# Each: the time that passes before it, what is done, and with what.
steps = st.lists(
    st.tuples(
        waits,
        st.one_of(
            st.tuples(st.just("take"), takes),
            st.tuples(st.just("take"), takes),
            st.tuples(st.just("peek"), takes),
            st.tuples(st.just("take_all"), st.lists(takes, min_size=1, max_size=3), st.sets(st.integers(0, 2))),
            st.tuples(st.just("reserve"), st.lists(takes, min_size=1, max_size=3), st.sets(st.integers(0, 2))),
            st.tuples(st.just("settle"), st.integers(0, 3), st.sampled_from((0, 1, 4, 40, 10**6)), st.booleans()),
            st.tuples(st.just("get"), keys),
            st.tuples(st.just("set"), keys, st.sampled_from(TERMS), st.booleans()),
            st.tuples(st.just("reset"), keys),
        ),
    ),
    min_size=1,
    max_size=30,
)


class Side:
    """One of two stores that do the same, and its reservations."""

    def __init__(self, store: RateLimiter, scale: int, unit: int) -> None:
        """Have `store`, whose intervals are so many times as long, and whose numbers are read in units."""
        self.store = store
        self._scale = scale
        self._unit = unit
        self._held: list[Reservation] = []

    def do(self, step: tuple[Any, ...]) -> object:
        """Do a step, and return what it answers; times in microseconds."""
        kind, *rest = step
        try:
            return getattr(self, f"_{kind}")(*rest)
        except CostError as error:
            return error.limit, error.index

    def _take(self, take: tuple[str, Terms, int]) -> object:
        key, quota, cost = take
        return self._read(self.store.take(key, cost, self._quota(quota)))

    def _peek(self, take: tuple[str, Terms, int]) -> object:
        key, quota, cost = take
        return self._read(self.store.peek(key, cost, self._quota(quota)))

    def _take_all(self, takes: list[tuple[str, Terms, int]], shadow: set[int]) -> object:
        wanted = self._wanted(takes)
        answers = self.store.take_all(wanted, shadow={each for each in shadow if each < len(wanted)})
        return [self._read(answer) for answer in answers]

    def _reserve(self, takes: list[tuple[str, Terms, int]], shadow: set[int]) -> object:
        wanted = self._wanted(takes)
        reservation = self.store.reserve(wanted, shadow={each for each in shadow if each < len(wanted)})
        self._held.append(reservation)
        return reservation.allowed, [self._read(answer) for answer in reservation.infos]

    def _settle(self, which: int, used: int, debt: bool) -> object:  # noqa: FBT001 - drawn
        if which >= len(self._held):
            return None
        reservation = self._held[which]
        return reservation.commit(*[used] * len(reservation.infos), debt=debt)

    def _get(self, key: str) -> object:
        return self.store.get(key)

    def _set(self, key: str, terms: tuple[int, int, int | None], keep_spent: bool) -> object:  # noqa: FBT001 - drawn
        return self.store.set(key, terms[0], self._interval(terms[1]), keep_spent=keep_spent)

    def _reset(self, key: str) -> object:
        return self.store.reset(key)

    def _wanted(self, takes: list[tuple[str, Terms, int]]) -> list[tuple[str, Quota | None, int]]:
        """Return takes of which no key comes with two quotas."""
        first = {key: quota for key, quota, _ in reversed(takes)}
        return [(key, self._quota(first[key]), cost) for key, _, cost in takes]

    def _quota(self, quota: Terms) -> Quota:
        limit, interval, burst, algorithm = quota
        return Quota(limit, self._interval(interval), burst, algorithm)

    def _interval(self, interval: int) -> str:
        return f"{interval * self._scale}ns"

    def _read(self, info: RateInfo) -> object:
        times = info.reset_after_ns / self._unit, info.retry_after_ns / self._unit
        return info.allowed, info.limit, info.remaining, *times


@pytest.fixture(scope="module", params=engines())
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as running:
        yield running


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(taken=steps)
@examples
def test_stores_answer_alike(algorithm: str, server: Server, taken: list[tuple[int, tuple[Any, ...]]]) -> None:
    """For any takes, reservations, refunds, overrides and resets, with any quotas, over any time."""
    now, name = START, new_segment_name()
    common: dict[str, Any] = {"limit": 5, "algorithm": algorithm}
    shm = ShmStore.open(
        Config(interval="3ms", min_ttl=f"{MIN_TTL}ns", name=name, initial_size=256, **common), clock=lambda: now
    )
    other = RedisStore.open(
        server.url,
        RedisConfig(interval="3s", min_ttl=f"{MIN_TTL}us", prefix=name, timeout="20s", **common),
        clock=lambda: now * UNIT,
    )
    try:
        sides = Side(shm, 1, 1), Side(other, UNIT, UNIT)
        for wait, step in taken:
            now += wait
            assert sides[0].do(step) == sides[1].do(step)
    finally:
        shm.close()
        other.close()
        remove(name)
