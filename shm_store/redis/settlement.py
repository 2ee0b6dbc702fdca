"""Settlements: how what one call has taken ends, also when its caller forgot it or the server failed meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from weakref import WeakSet

from shm_store.core.reservation import Settle
from shm_store.errors import StoreError
from shm_store.redis.commands import Commands, Taken
from shm_store.redis.in_flight import Heartbeat


class Settlement:
    """Settles one call, when it is called with the units that were really used; None for the cost of each take.

    The first call counts, whatever becomes of it: units that were given back twice would be there twice.
    """

    def __init__(self, calls: Commands, heartbeat: Heartbeat, outcome: Sequence[Taken]) -> None:
        """Remember what was taken."""
        self._calls = calls
        self._heartbeat = heartbeat
        self._outcome = outcome
        self._pid = os.getpid()
        self._is_settled = False

    def __call__(self, used: Sequence[int] | None = None) -> None:
        """Give back what of each take was not used, and take what was used beyond.

        Raises:
            StoreError: The server failed; what could not be given back stays spent.
        """
        units = [0] * len(self._outcome)
        if used is not None:
            units = [taken.take.cost - each for taken, each in zip(self._outcome, used, strict=True)]
        self._settle(units)

    def forget(self) -> None:
        """Let what is in flight end by itself, unless it is settled before."""
        for taken in self._outcome:
            self._heartbeat.discard(taken.tag)

    def _settle(self, units: Sequence[int]) -> None:
        # A forked child has nothing of its parent's to give back.
        if self._is_settled or os.getpid() != self._pid:
            return
        self._is_settled = True
        returns = []
        for taken, each in zip(self._outcome, units, strict=True):
            if taken.is_flight:
                self._heartbeat.discard(taken.tag)
            back = taken.take.cost if taken.is_flight else each
            if taken.is_taken and back:
                returns.append((taken, back))
        if returns:
            self._calls.settle(returns)


class Settlements:
    """The settlements of one store that are still to come."""

    def __init__(self, calls: Commands, heartbeat: Heartbeat) -> None:
        """Begin with none."""
        self._calls = calls
        self._heartbeat = heartbeat
        self._open: WeakSet[Settlement] = WeakSet()
        self._later: deque[Settle] = deque()

    def open(self, outcome: Sequence[Taken]) -> Settlement:
        """Return the settlement of a call that was allowed."""
        settlement = Settlement(self._calls, self._heartbeat, outcome)
        self._open.add(settlement)
        for taken in outcome:
            if taken.is_flight and taken.is_taken:
                self._heartbeat.add(taken.tag, taken.take.key)
        return settlement

    def abandon(self, settle: Settle) -> None:
        """Settle what nobody refers to any more, with later operations: no garbage collector waits for a server."""
        if isinstance(settle, Settlement):
            # From now on it would end by itself.
            settle.forget()
        self._later.append(settle)

    def catch_up(self) -> None:
        """Settle one of those that were left for later: a round trip, for which an operation waits.

        Where each call leaves one at most, this is enough for there never to be more.
        """
        with contextlib.suppress(IndexError, StoreError):
            self._later.popleft()(None)

    def close(self) -> None:
        """End what is in flight: whoever closes the store gives up what it holds."""
        for settlement in list(self._open):
            with contextlib.suppress(StoreError):
                settlement()
