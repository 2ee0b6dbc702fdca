"""The functions that a store binds over the methods of its front, for keys that it knows.

Each leaves to a function of the same signature, which is called `slowly`, what is unusual. None refers to its store: so
it outlives the store, and a store that the program drops is in no cycle of references. A back end must refer to none of
them, for the same reason.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from shm_store.core.algorithms import State
from shm_store.core.backend import Take
from shm_store.core.digest import Digest
from shm_store.core.limiter import AT_ONCE, GetCall, KeyReserve, KeyTake, ReserveCall, TakeAllCall, TakeCall
from shm_store.core.reservation import Reservation
from shm_store.durations import Duration
from shm_store.errors import TableFullError
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.table.backend import TableBackend
from shm_store.table.operations import Receipt
from shm_store.table.takes import hot
from shm_store.table.takes.found import ANY, Found

_UNKNOWN: Final = RateInfo(False, 0, -1, 0)
_LISTS: Final = (list, tuple)
# What says that no take is in shadow mode: a call says nothing, and middleware has a list.
_NONE: Final[tuple[Collection[int], ...]] = ((), [])


def take(backend: TableBackend) -> TakeCall:
    """Return the fast `take` of a store. It refers to this, and this must not refer to it: that were a cycle."""
    return _hot(backend, backend.take_slowly)


def peek(backend: TableBackend, slowly: TakeCall) -> TakeCall:
    """Return the fast `peek` of a store, which leaves to `slowly` what is unusual."""
    return _hot(backend, slowly, stores=False)


def get(backend: TableBackend, slowly: GetCall) -> GetCall:
    """Return the fast `get` of a store, which leaves to `slowly` what is unusual."""
    look = _hot(backend, _unknown, stores=False)

    def get(key: str | Digest) -> tuple[int, int]:
        # No hint has the hash of a Digest.
        info = look(key, 1, ANY)  # type: ignore[arg-type]
        remaining = info.remaining + info.allowed
        # A full bucket may have expired.
        if info is _UNKNOWN or remaining == info.limit:
            return slowly(key)
        return info.limit, remaining

    return get


def take_all(backend: TableBackend, slowly: TakeAllCall) -> TakeAllCall:
    """Return the fast `take_all` of a store, for keys that are all known; it leaves to `slowly` what is unusual."""
    hints, run, default = backend.known.recent, backend.transaction.run, backend.quota

    def take_all(takes: Sequence[KeyTake], *, shadow: Collection[int] = ()) -> list[RateInfo]:
        if shadow not in _NONE or type(takes) not in _LISTS or not takes:
            return slowly(takes, shadow=shadow)
        founds: list[Found] = []
        costs: list[int] = []
        try:
            for each in takes:
                # The validation refuses a list, also of known keys.
                if type(each) is not tuple:
                    return slowly(takes, shadow=shadow)
                key, quota, cost = each
                found = hints[key][0]
                wanted = default if quota is None else quota
                if wanted is not found.asked and wanted != found.asked:
                    return slowly(takes, shadow=shadow)
                founds.append(found)
                costs.append(cost)
        except (LookupError, TypeError, ValueError):
            return slowly(takes, shadow=shadow)
        try:
            infos, _, rare = run(founds, costs)
        except TableFullError:
            return slowly(takes, shadow=shadow)
        if rare:
            backend.remember(rare)
        return infos

    return take_all


def reserve(backend: TableBackend, slowly: ReserveCall) -> ReserveCall:
    """Return the fast `reserve` of a store: it reserves of one known key at once, and calls `slowly` otherwise."""
    hints, run, default, settlements = backend.known.recent, backend.transaction.run, backend.quota, backend.settlements
    take = _hot(backend, _unknown)

    def reserve(
        key: str | Sequence[KeyReserve],
        cost: int = 1,
        quota: Quota | Concurrency | None = None,
        *,
        shadow: Collection[int] = (),
        timeout: Duration | None = AT_ONCE,
    ) -> Reservation:
        asked = default if quota is None else quota
        try:
            found = hints[key][0]  # type: ignore[index] # no hint is of a list
        except (LookupError, TypeError):
            return slowly(key, cost, quota, shadow=shadow, timeout=timeout)
        if timeout is not AT_ONCE or shadow not in _NONE or (asked is not found.asked and asked != found.asked):
            return slowly(key, cost, quota, shadow=shadow, timeout=timeout)
        info, state = _UNKNOWN, found.taken
        if state is not None:
            # Another thread may replace the hint before the take reads it. Then the state may be of an earlier window:
            # a settlement returns fewer units than the take has spent, or none.
            info = take(key, cost, asked)  # type: ignore[arg-type] # a str and a Quota, as it has a hint
        if info is _UNKNOWN:
            founds = [found]
            afters: list[State] = []
            try:
                (info,), _, rare = run(founds, [cost], afters=afters)
            except TableFullError:
                return slowly(key, cost, quota, shadow=shadow, timeout=timeout)
            if rare:
                backend.remember(rare)
            found, state = founds[0], afters[0]
        receipt = Receipt(Take(key, asked, cost), info, info.allowed, found, state)  # type: ignore[arg-type] # as above
        return Reservation([receipt], settlements, backend)

    return reserve


def _hot(backend: TableBackend, slowly: TakeCall, *, stores: bool = True) -> TakeCall:
    table = backend.table
    return hot.bind(
        hints=backend.known.recent,
        segment=table.segment,
        seats=table.seats,
        stripes=table.stripes,
        clock=table.clock,
        slowly=slowly,
        is_labelled=table.labels is not None,
        stores=stores,
    )


def _unknown(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:  # noqa: ARG001 - a TakeCall
    return _UNKNOWN
