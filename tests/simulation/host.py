"""A host as LeaseStore and its table are one (shm_store/tiers/leases.py, shm_store/table/leases.py), for one key."""

from __future__ import annotations

from typing import NamedTuple

from shm_store.core.algorithms import Algorithm
from shm_store.redis import Order
from shm_store.tiers import LeaseConfig
from tests.simulation.engine import Answer

_PART = 10
_US = 1_000


class Info(NamedTuple):
    """The answer to a client."""

    allowed: bool
    limit: int
    remaining: int


class Lease(NamedTuple):
    """The answer of the slot: units up to `most`, or, if there are none, a denial."""

    number: int
    limit: int
    spent: int
    most: int
    ends: int


class Host:
    """The lease of one host.

    Attributes:
        name: Its name.
        is_pending: Whether it has asked for a lease, and has no answer yet.
    """

    def __init__(self, name: str, algorithm: Algorithm, config: LeaseConfig) -> None:
        self.name = name
        self.is_pending = False
        self._is_windowed = algorithm.counts_in_window
        self._lasts = min(config.lifetime_ns // _US, algorithm.interval_ns // _PART)
        self._config = config
        self._lease: Lease | None = None
        self._numbers = 0

    def spend(self, now: int, cost: int = 1) -> Info | None:
        """Take from the lease; None if it does not decide."""
        lease = self._lease
        if lease is None or now >= lease.ends:
            return None
        if not lease.number:
            return Info(False, lease.limit, 0)
        if lease.spent + cost > lease.most:
            return None
        self._lease = lease._replace(spent=lease.spent + cost)
        return Info(True, lease.limit, lease.limit - lease.spent - cost)

    def order(self, cost: int = 1) -> Order:
        """Ask for a lease, with what is left of the last one."""
        self.is_pending = True
        self._numbers += 1
        return self._ordered(self._numbers, cost)

    def leave(self) -> Order | None:
        """Hand back what is left; None if nothing is."""
        order = self._ordered(0, 0)
        return order if order.unspent else None

    def _ordered(self, number: int, cost: int) -> Order:
        config, lease, self._lease = self._config, self._lease, None
        returned, unspent = (0, 0) if lease is None or not lease.number else (lease.number, lease.most - lease.spent)
        return Order(self.name, number, cost, returned, unspent, config.hosts, config.share, config.most)

    def receive(self, asked: int, number: int, answer: Answer, cost: int = 1) -> Info:
        """Take what the server said to an order of the time `asked`.

        Args:
            asked: When the request was sent.
            number: The number of the order.
            answer: Its answer.
            cost: The units requested.
        """
        self.is_pending = False
        if answer.units:
            lasts = min(self._lasts, answer.reset_after) if self._is_windowed else self._lasts
            most = answer.limit - answer.remaining
            spent = most - answer.units + cost
            self._lease = Lease(number, answer.limit, spent, most, asked + lasts)
            return Info(True, answer.limit, answer.limit - spent)
        if not answer.remaining and (cost == 1 or self._is_windowed):
            # Upwards: the library halves nanoseconds, and no request comes between two microseconds.
            lasts = min(answer.retry_after, max(self._lasts, (answer.retry_after + 1) // 2))
            self._lease = Lease(0, answer.limit, answer.limit, answer.limit, asked + lasts)
        return Info(False, answer.limit, answer.remaining)

    def give_up(self) -> None:
        """Have no answer."""
        self.is_pending = False

    def crash(self) -> None:
        """Lose the lease."""
        self._lease = None
        self.is_pending = False
