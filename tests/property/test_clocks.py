"""A server whose clock steps: callers wait no longer than an interval, and spent units stay spent.

Shared memory, whose clock never steps, is the measure: a nanosecond there stands for a microsecond of the server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_store import Config, ShmStore
from shm_store.core.algorithms import ALGORITHMS
from shm_store.redis import RedisConfig, RedisStore
from shm_store.table.segment.files import remove
from tests.engines import Server, engines
from tests.property.test_stores import MIN_TTL, START, UNIT, Side
from tests.segments import new_segment_name

examples = settings(
    max_examples=int(os.environ.get("EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LIMIT: Final = 5
INTERVAL: Final = 3 * 10**6
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
quotas = st.sampled_from(list(ALGORITHMS)).map(lambda algorithm: (LIMIT, INTERVAL, None, algorithm))
keys = st.just("a")
costs = st.sampled_from((1, 1, 2, 3, 5))
takes = st.tuples(keys, quotas, costs)
waits = st.one_of(st.sampled_from((0, 0, 1, INTERVAL - 1, INTERVAL)), st.integers(0, 3 * INTERVAL))
operations = st.one_of(
    st.tuples(st.just("take"), takes),
    st.tuples(st.just("take"), takes),
    st.tuples(st.just("take_all"), st.lists(takes, min_size=1, max_size=3), st.sets(st.integers(0, 2))),
    st.tuples(st.just("reserve"), st.lists(takes, min_size=1, max_size=3), st.sets(st.integers(0, 2))),
    st.tuples(st.just("settle"), st.integers(0, 3), st.sampled_from((0, 1, 4, 9)), st.booleans()),
    st.tuples(st.just("get"), keys),
    st.tuples(st.just("set"), keys, st.just((LIMIT, INTERVAL, None)), st.booleans()),
    st.tuples(st.just("reset"), keys),
)
#: A clock is set back by whole intervals, so that windows of `fixed-window` begin at the same instants as before.
steps_back = st.one_of(st.integers(1, 3), st.integers(1, 10**7)).map(lambda count: count * INTERVAL)
#: A clock may go back by this much before a bucket's time goes on without it.
JITTER: Final = INTERVAL // 100


class Clocks:
    """The time that passes, and the server's clock, in microseconds."""

    def __init__(self) -> None:
        self.now = self.server = START

    def advance(self, wait: int) -> None:
        """Let time pass."""
        self.now += wait
        self.server += wait


@pytest.fixture(scope="module", params=engines())
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as running:
        yield running


@contextmanager
def both(server: Server, clocks: Clocks, algorithm: str = "token-bucket") -> Iterator[tuple[Side, Side]]:
    """Shared memory, and a server, each by its clock."""
    name = new_segment_name()
    common: dict[str, Any] = {"limit": LIMIT, "algorithm": algorithm}
    shm = ShmStore.open(
        Config(interval=f"{INTERVAL}ns", min_ttl=f"{MIN_TTL}ns", name=name, initial_size=256, **common),
        clock=lambda: clocks.now,
    )
    other = RedisStore.open(
        server.url,
        RedisConfig(interval=f"{INTERVAL}us", min_ttl=f"{MIN_TTL}us", prefix=name, timeout="20s", **common),
        clock=lambda: clocks.server * UNIT,
    )
    try:
        yield Side(shm, 1, 1), Side(other, UNIT, UNIT)
    finally:
        shm.close()
        other.close()
        remove(name)


def passed(store: Any, clocks: Clocks) -> int:  # noqa: ANN401 - what it stores is looked at
    """Microseconds since the last change of the key; below 0 if the clock was ahead then."""
    with redis.Redis.from_url(store.name) as client:
        text = client.get(store.backend._names.bucket("a"))
    if text is None:
        return 0
    at, ahead = msgspec.msgpack.decode(b"\xdc\x00\x0c" + text)[-2:]
    return int(clocks.server + ahead - at)


@every_algorithm
@given(taken=st.lists(st.tuples(waits, st.one_of(steps_back, operations)), min_size=1, max_size=30))
@examples
def test_clock_that_is_set_back_changes_no_answer(
    algorithm: str, server: Server, taken: list[tuple[int, int | tuple[Any, ...]]]
) -> None:
    """Units that are spent, reserved or owed stay so, and waits are as long as at the last change."""
    clocks = Clocks()
    with both(server, clocks, algorithm) as sides:
        for wait, operation in taken:
            clocks.advance(wait)
            step = operation
            if isinstance(step, int):
                # The server has not seen the time that has passed since the last change.
                clocks.advance(-max(passed(sides[1].store, clocks), 0))
                clocks.server -= step
                step = ("take", ("a", (LIMIT, INTERVAL, None, algorithm), LIMIT))
            assert sides[0].do(step) == sides[1].do(step)


@every_algorithm
@given(taken=st.lists(st.tuples(waits, st.integers(0, JITTER), st.tuples(st.just("take"), takes)), max_size=30))
@examples
def test_clocks_that_take_turns_gain_nothing(
    algorithm: str, server: Server, taken: list[tuple[int, int, tuple[Any, ...]]]
) -> None:
    """Clocks that differ by up to a hundredth of the interval: a bucket's time stands still, and waits last longer."""
    clocks = Clocks()
    true = START
    with both(server, clocks, algorithm) as (shm, other):
        for wait, behind, step in taken:
            true += wait
            clocks.server = clocks.now = true - behind
            lag = -min(passed(other.store, clocks), 0)
            clocks.now += lag
            answer: Any = shm.do(step)
            assert other.do(step) == (*answer[:3], *(each and each + lag for each in answer[3:]))


@every_algorithm
@given(
    cost=st.sampled_from((1, 2, 5)),
    history=st.lists(
        st.tuples(st.integers(0, 3 * INTERVAL), st.integers(-(10**13), 10**13), costs), min_size=1, max_size=20
    ),
)
@examples
def test_denied_take_waits_for_what_it_is_told(
    algorithm: str, server: Server, cost: int, history: list[tuple[int, int, int]]
) -> None:
    """After any steps a promised wait is as long as without steps at most, and the promise is kept."""
    clocks, quota = Clocks(), (LIMIT, INTERVAL, None, algorithm)
    longest = INTERVAL * (2 if algorithm == "sliding-window" else 1)
    with both(server, clocks, algorithm) as (_, other):
        for wait, step, each in history:
            clocks.advance(wait)
            clocks.server = max(clocks.server + step, START // 2)
            other.do(("take", ("a", quota, each)))
        answer: Any = other.do(("take", ("a", quota, cost)))
        allowed, _, _, reset_after, retry_after = answer
        assert 0 <= retry_after <= longest + JITTER
        assert 0 <= reset_after <= 2 * INTERVAL + JITTER
        clocks.advance(int(retry_after))
        answer = other.do(("take", ("a", quota, cost)))
        assert allowed or answer[0]


@every_algorithm
@given(steps=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=12))
@examples
def test_each_step_admits_at_most_one_more_limit(algorithm: str, server: Server, steps: list[int]) -> None:
    """A step to any side, with all demand that there can be, and no time that passes."""
    clocks, quota = Clocks(), (LIMIT, INTERVAL, None, algorithm)
    with both(server, clocks, algorithm) as (_, other):
        for step in (0, *steps):
            clocks.server += step
            answers: list[Any] = [other.do(("take", ("a", quota, 1))) for _ in range(2 * LIMIT)]
            assert sum(answer[0] for answer in answers) <= LIMIT
