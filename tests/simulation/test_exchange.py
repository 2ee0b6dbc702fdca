"""Simulated hosts ask the server as often as the library does, and hand back as much: by any settings, and at exit."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from shm_store.core.algorithms import ALGORITHMS
from shm_store.testing import FakeClock
from shm_store.tiers import LeaseConfig, LeaseStore
from tests.engines import Server
from tests.simulation.engine import Engine
from tests.simulation.host import Host, Info
from tests.simulation.world import SECOND
from tests.tiers.conftest import Hosts

KEY: Final = "client:203.0.113.7"
#: Sequences of each algorithm; `make soak` has more.
SEEDS: Final = range(max(int(os.environ.get("EXAMPLES", "100")) // 10, 2))
STEPS: Final = 150
INTERVAL: Final = 10 * SECOND
LIMITS: Final = (1, 7, 40, 1_000)
WAITS: Final = (0, 0, 0, 0, 1, 1_000, SECOND // 3, SECOND, 5 * SECOND, INTERVAL - 1, INTERVAL, 2 * INTERVAL + 1)
COSTS: Final = (1, 1, 1, 1, 1, 2, 3, 9)


@pytest.fixture(scope="module")
def engine() -> Iterator[Server]:
    with Server() as server:
        yield server


def _scripts_run(server: Server) -> int:
    stats = server.client().info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


class Pair:
    """A host of the library, and one of the simulation.

    Attributes:
        store: That of the library.
    """

    def __init__(self, store: LeaseStore, host: Host, bucket: Engine, now: Callable[[], int]) -> None:
        self.store = store
        self._host, self._bucket, self._now = host, bucket, now

    def take(self, cost: int) -> tuple[Info, Info]:
        """Take from both."""
        info = self.store.take(KEY, cost)
        return Info(info.allowed, info.limit, info.remaining), self._simulated(cost)

    def _simulated(self, cost: int) -> Info:
        now = self._now()
        info = self._host.spend(now, cost)
        if info is not None:
            return info
        order = self._host.order(cost)
        return self._host.receive(now, order.number, self._bucket.issue(now, order), cost)

    def leave(self) -> None:
        """Hand back what is left of both."""
        self.store.close()
        order = self._host.leave()
        if order is not None:
            self._bucket.issue(self._now(), order)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_simulated_hosts_ask_as_the_library_does(algorithm: str, seed: int, clock: FakeClock, engine: Server) -> None:
    """Allowed, limit and remaining of every take; and as many scripts, for takes and for what is handed back."""
    chance = random.Random(seed)  # noqa: S311 - the same again
    limit, count = chance.choice(LIMITS), chance.choice((1, 2, 3))
    config = LeaseConfig(
        hosts=count, share=chance.choice((0.1, 0.5, 1.0)), most=chance.choice((1, 5, 1_000)), lifetime=0.6
    )
    bound, hosts = ALGORITHMS[algorithm](limit, INTERVAL, limit), Hosts(clock)
    bucket = Engine(bound)

    def pair(name: int) -> Pair:
        store = hosts.leasing(
            engine,
            hosts=count,
            share=config.share,
            most=config.most,
            lifetime=config.lifetime,
            redis_limit=limit,
            redis_interval="10s",
            redis_algorithm=algorithm,
        )
        return Pair(store, Host(f"host {name}", bound, config), bucket, lambda: clock() // 1_000)

    try:
        # From now on the server knows the script.
        with contextlib.closing(pair(-1).store) as store:
            store.peek(KEY)
            store.take("another")
        before = _scripts_run(engine)
        pairs = [pair(name) for name in range(count)]
        for step in range(STEPS):
            clock.advance(chance.choice(WAITS) / SECOND)
            if chance.random() < 0.03:
                leaver = chance.randrange(count)
                pairs[leaver].leave()
                pairs[leaver] = pair(count + step)
            cost = min(chance.choice(COSTS), limit)
            real, simulated = chance.choice(pairs).take(cost)
            assert real == simulated, f"step {step}: {cost} of {limit}"
        assert _scripts_run(engine) - before == bucket.calls
    finally:
        hosts.close()
