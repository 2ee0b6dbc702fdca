"""The server as its script has it (shm_store/redis/lua/lease.lua), for one key: issues units, takes back the unspent.

Times are whole microseconds, as on a server.
"""

from __future__ import annotations

from typing import NamedTuple

from shm_store.algorithms import ALGORITHMS, FRESH, State, Terms
from shm_store.redis import Order


class Answer(NamedTuple):
    """What the server says to an order.

    Attributes:
        units: Units that were issued; 0: too few are left.
        limit: Most units at once.
        remaining: Units that are left.
        reset_after: Time until the limit is full again.
        retry_after: Time until as many as were ordered could be issued; 0 if they were.
    """

    units: int
    limit: int
    remaining: int
    reset_after: int
    retry_after: int


class Engine:
    """A bucket, and what each host was issued last.

    Attributes:
        calls: How many scripts it has run.
        issued: Units that it has issued and not got back.
        refused: Units that came back when the host had been issued others.
    """

    def __init__(self, algorithm: str, terms: Terms) -> None:
        self._algorithm = ALGORITHMS[algorithm]
        self._terms = terms
        self._state = FRESH
        self._last: dict[str, tuple[int, State]] = {}
        self.calls = self.issued = self.refused = 0

    def restart(self) -> None:
        """Forget everything."""
        self._state = FRESH
        self._last.clear()

    def take(self, now: int) -> Answer:
        """Take one unit, for a host that is waiting for a lease."""
        return self._take(now, 1)

    def issue(self, now: int, order: Order) -> Answer:
        """Take back what was not spent of the last lease, and issue another."""
        if order.unspent:
            number, taken = self._last.get(order.host, (0, FRESH))
            if number == order.returned:
                del self._last[order.host]
                before = self._spent(now)
                self._state = self._algorithm.refund(self._state, self._terms, taken, now, order.unspent)
                self.issued -= before - self._spent(now)
            else:
                self.refused += order.unspent
        if not order.cost:
            self.calls += 1
            return Answer(0, self._terms.burst, 0, 0, 0)
        left = self._terms.burst - self._spent(now)
        answer = self._take(now, max(order.cost, min(order.most, int(left * order.share / order.hosts))))
        if answer.units:
            self._last[order.host] = order.number, self._state
        return answer

    def _take(self, now: int, units: int) -> Answer:
        self.calls += 1
        decision = self._algorithm.decide(self._state, self._terms, now, units)
        self._state = decision.state
        self.issued += units * decision.allowed
        return Answer(
            units * decision.allowed,
            self._terms.burst,
            decision.remaining,
            decision.reset_after_ns,
            decision.retry_after_ns,
        )

    def _spent(self, now: int) -> int:
        return min(self._algorithm.spent(self._state, self._terms, now), self._terms.burst)
