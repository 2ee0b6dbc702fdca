"""Reservations: units that a call takes now, and of which it later returns those that the caller has not used."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Self
from weakref import WeakSet

import msgspec

from shm_store.core.backend import Decided, Part, Settler
from shm_store.errors import ConfigurationError, StoreClosedError, StoreError, unusable
from shm_store.quota import LIMIT_MAX, Concurrency, Quota
from shm_store.rate_info import RateInfo

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`


class Reservation:
    """What one `reserve` has taken; a context manager that settles it.

    A settlement names the units that were really used; only the first one counts. Without one the cost stands. Units
    used beyond it that the bucket has not are owed: later takes are denied until the bucket has paid them off. Units
    in flight (`Concurrency`) end with the block, or when the program drops the reservation. The reserved units of a
    killed process stay spent, and its units in flight are free.

    A settlement returns only units that the bucket still misses: none after a refill, so that no unit is there twice,
    and none after a reset, an eviction, a change of the quota, or a block of the key. With `gcra`, refunds of other
    takes count as a refill, so that a little less than the unused units may come back.

    Attributes:
        allowed: Whether the units were taken; those of takes in shadow mode apart.
    """

    allowed = True
    # None once there is nothing to settle; also of an object without attributes, as a failed copy leaves it.
    _settlements: Settlements | None = None
    # The parts to settle, once the caller has named the units used.
    _parts: list[Part] | None = None
    _is_in_flight = False

    def __init__(self, decided: Sequence[Decided], settlements: Settlements, owner: object) -> None:
        """Begin unsettled; use `reserve` of a store. `owner` must not end before this reservation."""
        self._decided = decided
        is_in_flight = False
        for each in decided:
            if not each.is_taken and not self._is_allowed():
                self.allowed = False
                return
            # To ask for a class that it is not would take five times as long.
            if type(each.take.quota) is not Quota:
                is_in_flight = True
        self._owner = owner
        self._pid = settlements.pid()
        self._settlements = settlements
        # The others have nothing that ends with the store, and to remember them takes a microsecond.
        if is_in_flight:
            self._is_in_flight = True
            settlements.in_flight.add(self)
            if settlements.is_closed:
                # By another thread, meanwhile: it may have looked before this one was there.
                settlements.end(self)

    @property
    def infos(self) -> list[RateInfo]:
        """The answers, one for each take."""
        return [each.info for each in self._decided]

    @property
    def info(self) -> RateInfo:
        """The answer of the first take."""
        return self._decided[0].info

    def come_due(self) -> None:
        """Say that the units of the first take, which was booked ahead, are there now."""
        first = self._decided[0]
        _, limit, remaining, reset_ns, wait_ns = msgspec.structs.astuple(first.info)
        first.info = RateInfo(True, limit, remaining, max(reset_ns - wait_ns, 0))

    def commit(self, *used: int, debt: bool = True) -> tuple[int, ...]:
        """Settle: return unused units, and charge used units beyond the cost.

        Args:
            used: Units really used, 0 to 2**63 - 1, for each take in turn; none: the cost of each. Units in flight
                always end.
            debt: Whether units that are not there are owed, of 100 years at most; otherwise they are not charged.
                The debt of a bucket that is gone begins a new one.

        Returns:
            For each take, how many of the charged units were not there. A later call returns the same.

        Raises:
            ConfigurationError: There are not as many as takes, or one is out of range. Nothing is settled.
            StoreError: The store failed; the rest is settled. On shared memory a later operation retries the part that
                failed. What cannot be given back because a server fails stays spent.
        """
        for units in used:
            if type(units) is not int or not 0 <= units <= LIMIT_MAX:
                raise unusable("used", units, self._remedy(), int)
        if used and len(used) != len(self._decided):
            raise ConfigurationError("used", used, self._remedy())
        if type(debt) is not bool:
            raise unusable("debt", debt, "give True or False", bool)
        settlements = self._settlements
        if settlements is None:
            return self._short()
        if self._parts is None and (used or self._is_in_flight):
            self._parts = self._unused(used, debt=debt)
        # A forked child has nothing of its parent's to give back.
        if self._parts and self._pid == settlements.pid():
            settlements.settle(self._parts)
        # Last: a later call, or the end of this object, finishes a settlement that an exception has cut short.
        self._settlements = None
        return self._short()

    def refund(self) -> None:
        """Settle: give back all of it."""
        self.commit(*[0] * len(self._decided))

    def in_flight(self) -> list[Part]:
        """Return what is in flight and must end when the store closes: nothing in a forked child."""
        if self._settlements is None or self._pid != self._settlements.pid():
            return []
        return self._unused(())

    def _is_allowed(self) -> bool:
        return all(each.info.allowed or each.take.shadow for each in self._decided)

    def _short(self) -> tuple[int, ...]:
        return tuple([each.short for each in self._decided])

    def _unused(self, used: Sequence[int], *, debt: bool = True) -> list[Part]:
        parts, is_in_flight = [], self._is_in_flight
        for position, decided in enumerate(self._decided):
            take = decided.take
            # Of a quota the cost stands if the caller names no units; units in flight end as a whole.
            units = take.cost - used[position] if used else 0
            if is_in_flight and isinstance(take.quota, Concurrency):
                units = take.cost
            if units and decided.is_taken:
                parts.append((decided, units, debt))
        return parts

    def _remedy(self) -> str:
        return f"give {len(self._decided)} integers from 0 to {LIMIT_MAX}, one for each take"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.commit()
            return
        # The exception of the block says more than that of a store, which tries again anyway.
        with contextlib.suppress(StoreError):
            self.commit()

    def __del__(self) -> None:
        settlements = self._settlements
        if settlements is None:
            return
        parts = self._unused(()) if self._parts is None and self._is_in_flight else self._parts
        if parts and self._pid == settlements.pid():
            # No caller is left that an error could reach.
            with contextlib.suppress(StoreError):
                settlements.abandon(parts, sys._getframe())  # noqa: SLF001 - documented, underscore and all


class Settlements:
    """The settlements of one store that are still to come, and whether the store is closed.

    Nothing here refers to the store, nor to what a finalizer must close with it.

    Attributes:
        settler: What settles.
        pid: Returns the process that calls.
        in_flight: The reservations that end with the store.
        is_closed: Whether the store is closed.
    """

    def __init__(self, settler: Settler) -> None:
        self.settler = settler
        self.pid = settler.pid
        self.in_flight: WeakSet[Reservation] = WeakSet()
        self.is_closed = False
        # With the process that was to settle each: a child that is forked leaves them to it.
        self._later: deque[tuple[int, list[Part]]] = deque()

    def require_open(self) -> None:
        """Raise StoreClosedError after `close`."""
        if self.is_closed:
            raise StoreClosedError(self.settler.name)

    def begin(self) -> None:
        """Begin an operation on keys, with what was left for it; raise StoreClosedError if the store is closed."""
        if self.is_closed:
            self.require_open()
        if self._later:
            # Where each call leaves one at most, one is enough for there never to be more.
            self._catch_up(1 if self.settler.is_remote else len(self._later))

    def settle(self, parts: list[Part]) -> None:
        """Settle the parts of one call; if the store fails, raise its error, and try again later."""
        try:
            self.settler.settle(parts)
        except StoreClosedError:
            raise
        except StoreError:
            self._later.append((self.pid(), parts))
            raise

    def abandon(self, parts: list[Part], caller: FrameType) -> None:
        """Settle a call whose reservation was dropped, now or with a later operation; see `Settler.abandon`."""
        if self.settler.abandon(parts, caller):
            self.settle(parts)
        else:
            self._later.append((self.pid(), parts))

    def close(self) -> None:
        """End what is in flight: a store that is closed gives up what it holds. May be called again."""
        self.is_closed = True
        self._catch_up(len(self._later))
        for reservation in self._in_flight():
            self.end(reservation)
        self._later.clear()

    def end(self, reservation: Reservation) -> None:
        """End what a reservation has in flight."""
        if parts := reservation.in_flight():
            with contextlib.suppress(StoreError):
                self.settler.settle(parts)

    def _in_flight(self) -> list[Reservation]:
        while True:
            # Another thread may add one meanwhile, in an operation that it began before.
            with contextlib.suppress(RuntimeError):
                return [*self.in_flight]

    def _catch_up(self, count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(IndexError, StoreError):
                pid, parts = self._later.popleft()
                if pid == self.pid():
                    self.settle(parts)
