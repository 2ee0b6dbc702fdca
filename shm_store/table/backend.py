"""The table as the back end of a store: what the front asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TypeVar

from shm_store.core.algorithms import State
from shm_store.core.backend import Decided, Take
from shm_store.core.digest import Digest
from shm_store.core.validation import not_a_quota, require_key
from shm_store.errors import ConfigurationError, CostError, TableFullError
from shm_store.process import forks
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.table.handle import close_dropped
from shm_store.table.operations import Receipt
from shm_store.table.records.slots import Place
from shm_store.table.table import Table
from shm_store.table.takes.found import Found

T = TypeVar("T")


class TableBackend:
    """Keeps buckets in one table, closed with it; implements `Backend`. See there for the attributes."""

    keys: tuple[type, ...] = (str, Digest)
    is_split = False
    is_remote = False

    def __init__(self, table: Table) -> None:
        self.table = table
        self.transaction = table.transaction
        self.settlements = table.handle.settlements
        self.known = table.new_known(table.config.quota)
        self._locate = table.slots.locate
        self.name = table.config.name
        self.quota = table.config.quota
        self.realm = f"shm://{self.name}"
        self.pid = forks.own_pid
        self.settle = table.operations.settle
        self.abandon = table.operations.abandon

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of all keys as one group."""
        return [[*range(len(keys))]]

    def check(self, limit: Quota | Concurrency) -> None:
        """Do nothing: the table counts by any limit."""

    def decide(self, takes: Sequence[Take]) -> list[RateInfo]:
        """Take from all buckets or from none, under one hold of all their stripes."""
        return self._decided(takes, None)[1]

    def peek(self, take: Take) -> RateInfo:
        """Answer what a take would answer, and change nothing."""
        close_dropped()
        founds = [self._sought(take.key, take.quota)]
        infos, _, rare = self.transaction.run(founds, [take.cost], stores=False)
        self.remember(rare)
        return infos[0]

    def reserve(self, takes: Sequence[Take]) -> list[Decided]:
        """Do the same as `decide`, and return what a settlement needs as well."""
        afters: list[State] = []
        founds, infos, is_denied = self._decided(takes, afters)
        return [
            Receipt(take, info, info.allowed and not is_denied, found, after)
            for take, found, info, after in zip(takes, founds, infos, afters)  # noqa: B905 - a keyword costs 100 ns
        ]

    def book(self, take: Take, patience_ns: int) -> Decided:
        """Do the same with one take, which may come due later."""
        close_dropped()
        afters: list[State] = []
        founds = [self._sought(take.key, take.quota)]
        infos, _, rare = self._run(founds, [take.cost], 0, afters, patience_ns)
        if rare:
            self.remember(rare)
        else:
            # As in `take_slowly`.
            self.known.meet(take.key)
        return Receipt(take, infos[0], infos[0].allowed, founds[0], afters[0])

    def get(self, key: str | Digest) -> tuple[int, int]:
        """Return (limit, remaining); (0, 0) if there is no bucket."""
        place = self.any_place(key)
        answer, found = self.table.stripes.run(place.stripe, self.table.operations.get, place)
        if found is not None and isinstance(key, str):
            known = self.known.found(key)
            # A hint to the bucket as it is knows more: the quota of takes.
            if known is None or known.tag != found.tag:
                self.known.remember(found)
        return answer

    def set(self, key: str | Digest, quota: Quota, *, keep_spent: bool) -> bool:
        """Store an override; return whether it changed anything. See `whole_place`."""
        place, operations = self.whole_place(key), self.table.operations
        return self.table.stripes.run(
            place.stripe, lambda hold: operations.set(hold, place, quota, keep_spent=keep_spent)
        )

    def reset(self, key: str | Digest) -> bool:
        """Forget a bucket and its override; return whether there was one."""
        place = self.any_place(key)
        return self.table.stripes.run(place.stripe, self.table.operations.reset, place)

    def block(self, key: str | Digest, wait_ns: int) -> None:
        """Deny every take of a key for so long; see `whole_place`."""
        place = self.whole_place(key)
        self.table.stripes.run(place.stripe, self.table.operations.block, place, wait_ns)

    def unblock(self, key: str | Digest) -> bool:
        """End the block of a key; return whether there was one."""
        place = self.any_place(key)
        return self.table.stripes.run(place.stripe, self.table.operations.unblock, place)

    def close(self) -> None:
        """Let go of the segment."""
        self.table.close()

    def place(self, key: str) -> Place:
        """Return where a key belongs."""
        close_dropped()
        return self.table.slots.locate(key)

    def any_place(self, key: str | Digest) -> Place:
        """Return the place of a key that may be given by its digest; of one without a bucket, half a fingerprint."""
        return self.table.place_of(key) if isinstance(key, Digest) else self.place(key)

    def whole_place(self, key: str | Digest) -> Place:
        """Return the place of a key for what may need a new slot, which takes more than half a fingerprint.

        Raises:
            ConfigurationError: No slot has the text or the whole fingerprint of the digest's key.
        """
        place = self.any_place(key)
        if not place.is_known:
            raise ConfigurationError("key", str(key), "no bucket has this digest: give the text of the key")
        return place

    def take_slowly(self, key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        """Take where the hot path does not lead."""
        self.settlements.begin()
        close_dropped()
        if type(key) is not str:
            require_key(key)
        if quota is None:
            quota = self.quota
        elif not isinstance(quota, Quota):
            raise not_a_quota("quota", quota)
        founds = [self._sought(key, quota)]
        # In line what `_run` does.
        try:
            infos, _, rare = self.transaction.run(founds, (cost,))
        except TableFullError as error:
            infos, _, rare = self._run_again(error, founds, (cost,), 0)
        if rare:
            self.remember(rare)
        else:
            # A new key, most likely: its next take gets a hint.
            self.known.meet(key)
        return infos[0]

    def _sought(self, key: str, quota: Quota | Concurrency) -> Found:
        """Return what a hint says of a key, or what is still to be found."""
        found = self.known.found(key)
        if found is not None and (found.asked is quota or found.asked == quota):
            return found
        return Found(self._locate(key), quota)

    def _decided(self, takes: Sequence[Take], afters: list[State] | None) -> tuple[list[Found], list[RateInfo], bool]:
        """Return of each take what has decided and its answer, and whether one was denied; see `Transaction.run`."""
        close_dropped()
        founds: list[Found] = []
        costs: list[int] = []
        shadows = 0
        for take in takes:
            founds.append(self._sought(take.key, take.quota))
            costs.append(take.cost)
            shadows += take.shadow
        if shadows:
            return self._shadowed(takes, founds, afters, shadows)
        infos, is_denied, rare = self._run(founds, costs, 0, afters)
        if rare:
            self.remember(rare)
        else:
            # As in `take_slowly`: of several new keys, all are in `rare`.
            self.known.meet(takes[0].key)
        return founds, infos, is_denied

    def _shadowed(
        self, takes: Sequence[Take], sought: list[Found], afters: list[State] | None, shadows: int
    ) -> tuple[list[Found], list[RateInfo], bool]:
        """Do the same as `_decided` with takes in shadow mode last: they are decided on what the others leave."""
        order = sorted(range(len(takes)), key=lambda position: takes[position].shadow)
        founds = [sought[position] for position in order]
        try:
            infos, is_denied, rare = self._run(founds, [takes[position].cost for position in order], shadows, afters)
        except CostError as error:
            error.index = order[error.index]
            raise
        self.remember(rare)
        if afters:
            afters[:] = _restored(order, afters)
        return _restored(order, founds), _restored(order, infos), is_denied

    def _run(
        self,
        founds: list[Found],
        costs: Sequence[int],
        shadows: int,
        afters: list[State] | None = None,
        patience_ns: int = 0,
    ) -> tuple[list[RateInfo], bool, list[Found]]:
        try:
            return self.transaction.run(founds, costs, shadows, afters=afters, patience_ns=patience_ns)
        except TableFullError as error:
            return self._run_again(error, founds, costs, shadows, afters, patience_ns)

    def _run_again(  # noqa: PLR0917 - as above
        self,
        error: TableFullError,
        founds: list[Found],
        costs: Sequence[int],
        shadows: int,
        afters: list[State] | None = None,
        patience_ns: int = 0,
    ) -> tuple[list[RateInfo], bool, list[Found]]:
        """Run a transaction that has raised `error` again, if a sweep of its sets makes room."""
        # Without a sweeper, too, what the dead had in flight makes room.
        if not sum(map(self.table.sweeps.sweep_set, {found.key.set_index for found in founds})):
            raise error
        founds[:] = [Found(found.key, found.asked) for found in founds]
        return self.transaction.run(founds, costs, shadows, afters=afters, patience_ns=patience_ns)

    def remember(self, rare: list[Found]) -> None:
        """Keep hints to the buckets that were found anew."""
        for found in rare:
            self.known.remember(found)


def _restored(order: Sequence[int], values: Sequence[T]) -> list[T]:
    """Return values in their places, of which `order` has the positions."""
    return [value for _, value in sorted(zip(order, values, strict=True), key=itemgetter(0))]
