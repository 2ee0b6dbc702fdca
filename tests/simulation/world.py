"""Hosts, a server, and messages between them that take time or get lost: one seeded run, by a clock of its own."""

from __future__ import annotations

import heapq
import itertools
import random
from bisect import bisect
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from shm_store.core.algorithms import ALGORITHMS
from shm_store.tiers import LeaseConfig
from tests.simulation.engine import Answer, Engine
from tests.simulation.host import Host

SECOND: Final = 1_000_000
#: So that instants are like those of a server.
START: Final = 1_700_000_000 * SECOND


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A simulation's settings.

    Attributes:
        algorithm: The algorithm.
        limit: Units per interval.
        interval: Microseconds.
        hosts: How many hosts.
        demand: Requests, as a multiple of the limit.
        lull: The part of them that comes in every second interval, from the first on.
        skew: How unevenly they come to hosts: the n-th has 1 / n^skew of them.
        intervals: For how many intervals.
        share: See LeaseConfig, as for the next two.
        most: Most units of a lease.
        lifetime: Seconds.
        latency: Microseconds that a message takes, on average.
        loss: The part of messages, either way, that get lost.
        crashes: How often a host crashes, on average, in an interval; or leaves in order.
        restarts: How often the server comes back empty, in an interval.
        timeout: Microseconds after which a host gives up an answer.
        backoff: Microseconds for which it does not ask then.
        seed: Of all that is random.
    """

    algorithm: str = "token-bucket"
    limit: int = 10_000
    interval: int = 60 * SECOND
    hosts: int = 3
    demand: float = 3.0
    lull: float = 1.0
    skew: float = 1.0
    intervals: int = 3
    share: float = 0.5
    most: int = 1_000
    lifetime: float = 60.0
    latency: int = 300
    loss: float = 0.0
    crashes: float = 0.0
    restarts: float = 0.0
    timeout: int = 100_000
    backoff: int = SECOND
    seed: int = 0

    @property
    def batch(self) -> int:
        """Most units that a host is issued at once."""
        return max(min(self.most, int(self.limit * self.share / self.hosts)), 1)


class Run(NamedTuple):
    """The events of a run.

    Attributes:
        scenario: The settings of the run.
        arrived: When requests came.
        admitted: When requests that were admitted had their unit: from the lease, or from the server.
        issued: When units were issued, and how many; below 0: given back.
        failed: Requests that the server failed.
        waited: Requests that waited for the server.
        calls: When the server ran a script.
        lost: Units that a host had when it crashed, that it never heard of, or whose return came to the server too late
            or never.
        first: When the server first issued a unit, which windows of a token bucket begin with.
    """

    scenario: Scenario
    arrived: list[int]
    admitted: list[int]
    issued: list[tuple[int, int]]
    failed: int
    waited: int
    calls: list[int]
    lost: int
    first: int


class World:
    """One run."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = random.Random(scenario.seed)  # noqa: S311 - the same again
        algorithm = ALGORITHMS[scenario.algorithm](scenario.limit, scenario.interval, scenario.limit)
        config = LeaseConfig(hosts=scenario.hosts, share=scenario.share, most=scenario.most, lifetime=scenario.lifetime)
        self._engine = Engine(algorithm)
        self._hosts = [Host(f"host {n}", algorithm, config) for n in range(scenario.hosts)]
        # The number of a host's lives grows with each crash; no host waits for an answer to its earlier life.
        self._lives = [0] * scenario.hosts
        self._silent_until = [0] * scenario.hosts
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()
        self._arrived: list[int] = []
        self._admitted: list[int] = []
        self._issued: list[tuple[int, int]] = []
        self._calls: list[int] = []
        self._failed = self._waited = self._lost = 0

    def run(self) -> Run:
        """Run it to its end."""
        ends = START + self._scenario.intervals * self._scenario.interval
        for rate, happen in ((self._scenario.crashes, self._crash), (self._scenario.restarts, self._restart)):
            for at in self._times(rate / self._scenario.interval, ends):
                self._at(at, happen)
        weights = list(itertools.accumulate((n + 1) ** -self._scenario.skew for n in range(self._scenario.hosts)))
        for at in self._times(self._scenario.demand * self._scenario.limit / self._scenario.interval, ends):
            while self._events and self._events[0][0] <= at:
                self._next()
            if self._is_lull(at) and self._random.random() >= self._scenario.lull:
                continue
            self._arrived.append(at)
            self._arrive(at, bisect(weights, self._random.random() * weights[-1]))
        while self._events:
            self._next()
        self._admitted.sort()
        return Run(
            self._scenario,
            self._arrived,
            self._admitted,
            self._issued,
            self._failed,
            self._waited,
            self._calls,
            self._lost + self._engine.refused,
            self._issued[0][0],
        )

    def _times(self, rate: float, ends: int) -> Iterator[int]:
        at = float(START)
        while rate:
            at += self._random.expovariate(rate)
            if at >= ends:
                return
            yield int(at)

    def _is_lull(self, at: int) -> bool:
        return self._scenario.lull < 1 and (at - START) // self._scenario.interval % 2 == 0

    def _at(self, when: int, happen: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))

    def _next(self) -> None:
        when, _, happen = heapq.heappop(self._events)
        happen(when)

    def _arrive(self, now: int, index: int) -> None:
        host = self._hosts[index]
        info = host.spend(now)
        if info is not None:
            if info.allowed:
                self._admitted.append(now)
            return
        if now < self._silent_until[index]:
            self._failed += 1
            return
        self._waited += 1
        if host.is_pending:
            self._ask(now, index, self._engine.take, lambda there, answer: self._served(there, bool(answer.units)))
            return
        order = host.order()
        self._ask(
            now,
            index,
            lambda there: self._engine.issue(there, order),
            lambda there, answer: self._served(there, host.receive(now, order.number, answer).allowed),
            failed=host.give_up,
            carried=order.unspent,
        )

    def _ask(
        self,
        now: int,
        index: int,
        run: Callable[[int], Answer],
        answered: Callable[[int, Answer], None],
        *,
        failed: Callable[[], None] = lambda: None,
        carried: int = 0,
    ) -> None:
        """Have the server run a script; a host that hears nothing gives up, and does not ask for a while.

        Args:
            now: When the request is sent.
            index: The host that sends it.
            run: The script, as a function of the instant.
            answered: Is given the instant at which it was done, and the answer: what the server decides is spent then,
                and not when the answer comes.
            failed: Called if the host gets no answer.
            carried: Units that are given back with it, and lost with it.
        """
        life, gives_up = self._lives[index], now + self._scenario.timeout

        def there(when: int) -> None:
            answer = self._ran(when, run)
            back = self._delay()
            if self._random.random() < self._scenario.loss or when + back > gives_up:
                self._lost += answer.units
                self._at(gives_up, silent)
            else:
                self._at(when + back, lambda _later: hear(when, answer))

        def hear(when: int, answer: Answer) -> None:
            if self._lives[index] == life:
                answered(when, answer)
            else:
                self._lost += answer.units

        def silent(when: int) -> None:
            if self._lives[index] == life:
                self._failed += 1
                self._silent_until[index] = when + self._scenario.backoff
                failed()

        if self._random.random() < self._scenario.loss:
            self._lost += carried
            self._at(gives_up, silent)
        else:
            self._at(now + self._delay(), there)

    def _ran(self, when: int, run: Callable[[int], Answer]) -> Answer:
        before = self._engine.issued
        answer = run(when)
        self._calls.append(when)
        if self._engine.issued != before:
            self._issued.append((when, self._engine.issued - before))
        return answer

    def _served(self, when: int, allowed: bool) -> None:  # noqa: FBT001 - what was decided
        if allowed:
            self._admitted.append(when)

    def _delay(self) -> int:
        return 1 + int(self._random.expovariate(1 / self._scenario.latency)) if self._scenario.latency else 0

    def _crash(self, now: int) -> None:
        """A host crashes, or leaves in order; another one takes its place at once."""
        index = self._random.randrange(self._scenario.hosts)
        order = self._hosts[index].leave()
        if order is not None and self._random.random() < 0.5:
            back = order
            self._at(now + self._delay(), lambda there: void(self._ran(there, lambda at: self._engine.issue(at, back))))
        elif order is not None:
            self._lost += order.unspent
        self._lives[index] += 1
        self._hosts[index].crash()

    def _restart(self, _now: int) -> None:
        self._engine.restart()


def void(_result: object) -> None:
    """Do no more with it."""
