"""A model of the server's lease script (shm_store/redis/lua/lease.lua) for one key.

Times are whole microseconds, as on a server, and come from its clock, which may step back.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shm_store.core.algorithms import ALGORITHMS, FRESH, State, Terms
from shm_store.redis import Order

#: A step of a smaller part of the interval stops the bucket's time.
JITTER: Final = 1 / 100


class Answer(NamedTuple):
    """The server's answer to an order.

    Attributes:
        units: Units issued; 0 if too few are left.
        limit: Most units at once.
        remaining: Units that are left.
        reset_after: Time until the limit is full again.
        retry_after: Time until the ordered units can be issued; 0 if they were.
    """

    units: int
    limit: int
    remaining: int
    reset_after: int
    retry_after: int


class Engine:
    """A bucket, and the latest lease of each host.

    Attributes:
        calls: Number of scripts run.
        issued: Units issued and not returned.
        refused: Units of an outdated lease that a host tried to return.
    """

    def __init__(self, algorithm: str, terms: Terms) -> None:
        self._algorithm = ALGORITHMS[algorithm]
        self._terms = terms
        self._state = FRESH
        self._last: dict[str, tuple[int, State]] = {}
        # The bucket's time at the last change, and by how much it is ahead of the clock.
        self._at = self._ahead = 0
        self.calls = self.issued = self.refused = 0

    def restart(self) -> None:
        """Forget everything."""
        self._state = FRESH
        self._at = self._ahead = 0
        self._last.clear()

    def take(self, now: int) -> Answer:
        """Take one unit, for a host that is waiting for a lease."""
        return self._take(self._own_time(now), 1)

    def issue(self, now: int, order: Order) -> Answer:
        """Take back what was not spent of the last lease, and issue another."""
        now = self._own_time(now)
        if order.unspent:
            number, taken = self._last.get(order.host, (0, FRESH))
            if number == order.returned:
                del self._last[order.host]
                before = self._spent(now)
                self._keep(self._algorithm.refund(self._state, self._terms, taken, now, order.unspent), now)
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

    def _own_time(self, now: int) -> int:
        """Return the bucket's time, as `bucket_of` of shm_store/redis/lua/buckets.lua does."""
        own, behind = max(now + self._ahead, self._at), self._at - now - self._ahead
        if behind > self._terms.interval_ns * JITTER:
            self._at, self._ahead = own, self._at - now
        if self._ahead and self._state.idle_at_ns <= own:
            state = self._state
            self._state = State(state.first, max(state.idle_at_ns - self._ahead, 0), state.third)
            self._at, self._ahead = now, 0
            # The issued units have come back by themselves.
            self._last = {host: (number, FRESH) for host, (number, _) in self._last.items()}
            return now
        return own

    def _keep(self, state: State, now: int) -> None:
        if state is not self._state:
            self._state, self._at = state, now

    def _take(self, now: int, units: int) -> Answer:
        self.calls += 1
        decision = self._algorithm.decide(self._state, self._terms, now, units)
        self._keep(decision.state, now)
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
