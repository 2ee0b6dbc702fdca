"""Hints: what one process remembers of the keys it has seen, so that their next takes go the short way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from shm_store.quota import Quota
from shm_store.table.call import Taken
from shm_store.table.leases import DENIAL, UNITS, Spent
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.labels import Labels
from shm_store.table.records.slots import Place, Slot
from shm_store.table.segment.layout import FIRST, LABEL_ALLOWED, LABEL_DENIED, SEAT_PHASES, TAG, Word, word

#: Algorithms that the hot path can do: in the window that a slot names, they count units up to the limit.
COUNTING: Final = frozenset(("token-bucket", "fixed-window"))
#: Hints of one generation, 1.5 kB each at most, 1 kB of a usual key; there are two. Only short keys have hints,
#: as the places of long ones are not remembered.
HINTS_MAX: Final = 8_192

#: The hot path's knowledge of a key. A plain tuple: unpacking a NamedTuple costs some 50 ns more.
Hint: TypeAlias = tuple[
    int,  # index of the stripe's phase in a seat
    Callable[[bool], bool],  # acquire
    Callable[[], None],  # release
    Word,  # the slot's tag,
    int,  # and what it was
    int,  # end of the window, or of the lease
    Word,  # units taken in it
    int,  # most that may be taken in it
    int,  # limit
    int,  # when the limit is full again
    Word,  # the stripe's counters: allowed,
    "Word | None",  # and denied; None if it does not deny, but asks elsewhere
    Quota | None,  # the quota that was passed
    "Word | None",  # where takes are counted by key: allowed,
    "Word | None",  # and denied
]


class Hints:
    """The hints of one process, in two generations.

    If there are HINTS_MAX recent ones, they become the old ones, and the old ones are dropped. An old one that is used
    becomes recent again. So rare keys push out one another, and no frequent ones.

    Attributes:
        recent: The hints that the hot path uses, by key.
    """

    def __init__(self, stripes: Stripes, labels: Labels | None) -> None:
        """Begin with none; `stripes` and `labels` are those of the segment."""
        self._stripes = stripes
        self._labels = labels
        self.recent: dict[str, Hint] = {}
        self._old: dict[str, Hint] = {}
        self._is_closed = False

    def recall(self, key: str) -> bool:
        """Make the old hint of a key a recent one; return whether there was one."""
        hint = self._old.pop(key, None)
        if hint is None:
            return False
        self._keep(key, hint)
        return True

    def remember(self, key: str, taken: Taken, quota: Quota | None) -> None:
        """Keep a hint to where `key` was found, if its next takes can go the short way.

        Args:
            key: The key.
            taken: What became of its last take.
            quota: The quota that was passed with it.
        """
        if taken.slot is not None and taken.algorithm in COUNTING:
            limit, ends_ns = taken.info.limit, taken.state.idle_at_ns
            bounds = ends_ns, limit, limit, ends_ns
            self._note(key, taken.place, slot=taken.slot, tag=taken.tag, bounds=bounds, quota=quota)

    def remember_lease(self, key: str, spent: Spent, quota: Quota | None) -> None:
        """Keep a hint to the lease that `key` was taken from; see `remember`."""
        _, ends_ns, resets_ns, limit, again_ns, most, tag = spent.words
        # The hot path has one instant for both: when to come back, and when the limit is full again.
        if spent.kind == UNITS or resets_ns == again_ns:
            bounds = ends_ns, most, limit, resets_ns
            denies = spent.kind == DENIAL
            self._note(key, spent.place, slot=spent.slot, tag=tag, bounds=bounds, quota=quota, denies=denies)

    def _note(
        self,
        key: str,
        place: Place,
        *,
        slot: Slot,
        tag: int,
        bounds: tuple[int, int, int, int],
        quota: Quota | None,
        denies: bool = True,
    ) -> None:
        stripe = place.stripe
        semaphore = self._stripes.semaphores[stripe]
        allowed, denied = self._stripes.outcomes[stripe]
        ends_ns, most, limit, resets_ns = bounds
        hint = (
            SEAT_PHASES + stripe,
            semaphore.acquire,
            semaphore.release,
            word(slot.words, TAG),
            tag,
            ends_ns,
            word(slot.words, FIRST),
            most,
            limit,
            resets_ns,
            allowed,
            denied if denies else None,
            quota,
            *self._usage(place, slot),
        )
        self._keep(key, hint)

    def _usage(self, place: Place, slot: Slot) -> tuple[Word | None, Word | None]:
        if self._labels is None:
            return None, None
        usage = self._labels.usage(place.set_index, slot.number)
        return word(usage, LABEL_ALLOWED), word(usage, LABEL_DENIED)

    def clear(self) -> None:
        """Forget everything."""
        self.recent.clear()
        self._old.clear()

    def close(self) -> None:
        """Forget everything, and keep nothing from now on: no take goes the short way any more."""
        self._is_closed = True
        self.clear()

    def _keep(self, key: str, hint: Hint) -> None:
        if len(self.recent) >= HINTS_MAX:
            # The hot path is bound to the one dictionary.
            self._old = self.recent.copy()
            self.recent.clear()
        self.recent[key] = hint
        # Looked at last: another thread may have closed it since the take.
        if self._is_closed:
            self.clear()
