"""The simulation matches reality: the same takes on simulated hosts, and on real hosts with a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_store import Config, ShmStore
from shm_store.core.algorithms import ALGORITHMS
from shm_store.redis import RedisConfig, RedisStore
from shm_store.table.segment.files import remove
from shm_store.tiers import LeaseConfig, LeaseStore
from tests.engines import Server
from tests.segments import new_segment_name
from tests.simulation.engine import Engine
from tests.simulation.host import Host
from tests.simulation.world import SECOND, START

examples = settings(
    max_examples=int(os.environ.get("EXAMPLES", "100")) // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
HOSTS: Final = 3
LIMIT: Final = 90
INTERVAL: Final = 30 * SECOND
CONFIG: Final = LeaseConfig(hosts=HOSTS, share=0.5, most=40, lifetime="2s")


class Step(NamedTuple):
    """So many microseconds later, and a step of the server's clock, a host takes so often, each time so much."""

    wait: int
    step: int
    host: int
    times: int
    cost: int


steps = st.lists(
    st.builds(
        Step,
        st.one_of(st.sampled_from((0, 1, SECOND, 2 * SECOND, INTERVAL)), st.integers(0, 20 * SECOND)),
        st.one_of(st.just(0), st.just(0), st.sampled_from((-1, -SECOND // 10, -SECOND, -3_600 * SECOND, SECOND))),
        st.integers(0, HOSTS - 1),
        st.integers(1, 60),
        st.sampled_from((1, 1, 1, 7)),
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(taken=steps)
@examples
def test_simulated_hosts_answer_as_real_ones(algorithm: str, server: Server, taken: list[Step]) -> None:
    """Whether it is allowed, the limit, and what is left, of every take, whatever the server's clock does."""
    now, skew, prefix = START, 0, new_segment_name()
    bound = ALGORITHMS[algorithm](LIMIT, INTERVAL, LIMIT)
    engine = Engine(bound)
    simulated = [Host(str(number), bound, CONFIG) for number in range(HOSTS)]
    names = [new_segment_name() for _ in range(HOSTS)]

    def clock() -> int:
        return now * 1_000

    redis = RedisConfig(limit=LIMIT, interval="30s", algorithm=algorithm, prefix=prefix, timeout="20s")
    real = [
        LeaseStore(
            RedisStore.open(server.url, redis, clock=lambda: clock() + skew * 1_000),
            ShmStore.open(Config(name=name, initial_size=64), clock=clock),
            CONFIG,
            clock=clock,
        )
        for name in names
    ]
    try:
        for step in taken:
            now, skew = now + step.wait, skew + step.step
            for _ in range(step.times):
                host, info = simulated[step.host], real[step.host].take("key", step.cost)
                expected = host.spend(now, step.cost)
                if expected is None:
                    order = host.order(step.cost)
                    expected = host.receive(now, order.number, engine.issue(now + skew, order), step.cost)
                assert (info.allowed, info.limit, info.remaining) == expected
    finally:
        for store in real:
            store.close()
        for name in names:
            remove(name)
