"""The table as the back end of a store: what the front asks of it, as operations on slots."""

from __future__ import annotations

from collections.abc import Sequence

from shm_store.core.backend import Decided, Take
from shm_store.core.digest import Digest
from shm_store.errors import ConfigurationError
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo
from shm_store.table import overrides
from shm_store.table.call import Wanted
from shm_store.table.handle import close_dropped
from shm_store.table.records.slots import Place
from shm_store.table.settlement import Receipt
from shm_store.table.table import Table


class TableBackend:
    """Keeps buckets in one table; implements `Backend`. See there for the attributes."""

    keys: tuple[type, ...] = (str, Digest)
    is_split = False
    is_remote = False

    def __init__(self, table: Table) -> None:
        """Keep them in `table`, which is closed with this."""
        self._table = table
        self.name = table.config.name
        self.quota = table.config.quota
        self.realm = f"shm://{self.name}"
        self.settle = table.settling.settle
        self.abandon = table.settling.abandon

    @property
    def pid(self) -> int:
        """The process that uses it."""
        return self._table.settling.pid

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        """Return the positions of all keys as one group."""
        return [[*range(len(keys))]]

    def check(self, limit: Quota | Concurrency) -> None:
        """Do nothing: the table counts by any limit."""

    def decide(self, takes: Sequence[Take]) -> list[RateInfo]:
        """Take from all buckets or from none, under one hold of all their stripes."""
        return [taken.info for taken in self._table.take_all(self._wanted(takes))]

    def peek(self, take: Take) -> RateInfo:
        """Answer what a take would answer, and change nothing."""
        place, quota = self.place(take.key), take.quota
        assert isinstance(quota, Quota)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.takes.peek(hold, place, quota, take.cost))

    def reserve(self, takes: Sequence[Take]) -> list[Decided]:
        """Do the same as `decide`, and return what a settlement needs as well."""
        outcome = self._table.take_all(self._wanted(takes))
        return [Decided(taken.info, taken.taken, Receipt(taken)) for taken in outcome]

    def get(self, key: str | Digest) -> tuple[int, int]:
        """Return (limit, remaining); (0, 0) if there is no bucket."""
        place = self.any_place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.buckets.get(hold, place))

    def set(self, key: str | Digest, quota: Quota, *, keep_spent: bool) -> bool:
        """Store an override; return whether it changed anything.

        Raises:
            ConfigurationError: No bucket has the digest.
        """
        place, terms = self.whole_place(key), quota.terms
        return self._table.stripes.run(
            place.stripe, lambda hold: overrides.store(self._table.buckets, hold, place, terms, keep_spent=keep_spent)
        )

    def reset(self, key: str | Digest) -> bool:
        """Forget a bucket and its override; return whether there was one."""
        place = self.any_place(key)
        return self._table.stripes.run(place.stripe, lambda hold: self._table.buckets.reset(hold, place))

    def close(self) -> None:
        """Let go of the segment."""
        self._table.close()

    def place(self, key: str) -> Place:
        """Return where a key belongs."""
        close_dropped()
        return self._table.buckets.slots.place(key)

    def any_place(self, key: str | Digest) -> Place:
        """Return the place of a key that may be given by its digest; of one without a bucket, half a fingerprint."""
        return self._table.place_of(key) if isinstance(key, Digest) else self.place(key)

    def whole_place(self, key: str | Digest) -> Place:
        """Return the place of a key for what may need a new slot, which takes more than half a fingerprint.

        Raises:
            ConfigurationError: No slot has the text or the whole fingerprint of the digest's key.
        """
        place = self.any_place(key)
        if not place.is_known:
            raise ConfigurationError("key", str(key), "no bucket has this digest: give the text of the key")
        return place

    def _wanted(self, takes: Sequence[Take]) -> list[Wanted]:
        return [Wanted(self.place(take.key), take.quota, take.cost, take.shadow) for take in takes]
