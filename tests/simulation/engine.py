"""A model of the server's lease script (shm_store/redis/lua/lease.lua) for one key.

Times are whole microseconds, as on a server, and come from its clock, which may step back.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shm_store.core.algorithms import FRESH, Algorithm, State
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

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
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
                self._keep(self._algorithm.refund(self._state, taken, now, order.unspent), now)
                self.issued -= before - self._spent(now)
            else:
                self.refused += order.unspent
        if not order.cost:
            self.calls += 1
            return Answer(0, self._algorithm.burst, 0, 0, 0)
        left = self._algorithm.burst - self._spent(now)
        answer = self._take(now, max(order.cost, min(order.most, int(left * order.share / order.hosts))))
        if answer.units:
            self._last[order.host] = order.number, self._state
        return answer

    def _own_time(self, now: int) -> int:
        """Return the bucket's time, as `bucket_of` of shm_store/redis/lua/buckets.lua does."""
        own, behind = max(now + self._ahead, self._at), self._at - now - self._ahead
        if behind > self._algorithm.interval_ns * JITTER:
            self._at, self._ahead = own, self._at - now
        if self._ahead and self._state[1] <= own:
            units, idle_at, _, _ = self._state
            idle_at = max(idle_at - self._ahead, 0)
            # A window's end says where the next one begins; what else is idle is as good as fresh.
            self._state = (units, idle_at, idle_at, 0) if self._algorithm.counts_in_window else FRESH
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
        allowed, remaining, reset_after, retry_after, state = self._algorithm.step(self._state, now, units)
        self._keep(state, now)
        self.issued += units * allowed
        return Answer(units * allowed, self._algorithm.burst, remaining, reset_after, retry_after)

    def _spent(self, now: int) -> int:
        return min(self._algorithm.spent(self._state, now), self._algorithm.burst)
