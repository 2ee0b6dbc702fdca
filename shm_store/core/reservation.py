"""Reservations: units that a call takes now, and of which it later returns those that the caller has not used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeAlias

from shm_store.errors import ConfigurationError, StoreError, unusable
from shm_store.quota import LIMIT_MAX
from shm_store.rate_info import RateInfo

#: Settles what was taken, given the units that were used of each take; None: its cost.
Settle: TypeAlias = Callable[[Sequence[int] | None], None]


class Reservation:
    """What one `reserve` has taken; a context manager that settles it.

    A settlement names the units that were really used; only the first one counts. Without one the cost stands. Units
    in flight (`Concurrency`) end with the block, or when the program drops the reservation. The reserved units of a
    killed process stay spent, and its units in flight are free.

    A settlement returns only units that the bucket still misses: none after a refill, so that no unit is there twice,
    and none after a reset, an eviction or a change of the quota. With `gcra`, refunds of other takes count as a refill,
    so that a little less than the unused units may come back.

    Attributes:
        infos: The answers, one for each take.
    """

    def __init__(self, infos: list[RateInfo], settle: Settle | None, abandon: Callable[[Settle], None]) -> None:
        """Begin unsettled.

        Args:
            infos: The answers.
            settle: Called once, with the units used or None; None if nothing was taken.
            abandon: Called with `settle` when the program drops the reservation.
        """
        self.infos = infos
        self._allowed = settle is not None
        self._settle = settle
        self._abandon = abandon

    @property
    def allowed(self) -> bool:
        """Whether the units were taken; those of takes in shadow mode apart."""
        return self._allowed

    @property
    def info(self) -> RateInfo:
        """The answer of the first take."""
        return self.infos[0]

    def commit(self, *used: int) -> None:
        """Settle: return unused units, and take used units beyond the cost while the bucket has any.

        Args:
            used: Units really used, 0 to 2**63 - 1, for each take in turn; none: the cost of each. Units in flight
                always end.

        Raises:
            ConfigurationError: There are not as many as takes, or one is out of range. Nothing is settled.
            StoreError: The store failed; the rest is settled, and a later operation retries the part that failed.
        """
        remedy = f"give {len(self.infos)} integers from 0 to {LIMIT_MAX}, one for each take"
        for units in used:
            if type(units) is not int or not 0 <= units <= LIMIT_MAX:
                raise unusable("used", units, remedy, int)
        if used and len(used) != len(self.infos):
            raise ConfigurationError("used", used, remedy)
        if self._settle is not None:
            self._settle(used or None)
            # Last: a later call, or the end of this object, finishes a settlement that an exception has cut short.
            self._settle = None

    def refund(self) -> None:
        """Settle: give back all of it."""
        self.commit(*[0] * len(self.infos))

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
        # No caller is left that an error could reach.
        with contextlib.suppress(StoreError, AttributeError):
            if self._settle is not None:
                self._abandon(self._settle)
