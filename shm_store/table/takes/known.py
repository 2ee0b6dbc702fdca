"""Known keys: what one process remembers of the keys that it has met, so that their next takes need no search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from shm_store.core.algorithms import FRESH, Algorithm, Word
from shm_store.quota import Quota
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.labels import Labels
from shm_store.table.segment.layout import LABEL_ALLOWED, LABEL_DENIED, SEAT_PHASES, TAG, word
from shm_store.table.takes.found import Found

#: Hints of one generation, 2 kB each at most; there are two. `meet` notes as many keys. A key that is longer than 256
#: bytes is in none of them.
HINTS_MAX: Final = 8_192
# Most bytes of a key that a process remembers. A client may choose longer ones.
_SHORT: Final = 256
# Most bytes of a character.
_WIDE: Final = 4


#: How the hot path takes from a key. A plain tuple: unpacking a NamedTuple costs some 50 ns more.
Hint: TypeAlias = tuple[
    Found,  # the bucket, with what few takes need
    int,  # index of the stripe's phase in a seat
    Callable[[bool], bool],  # acquire
    Callable[[], None],  # release
    Word,  # the slot's tag,
    int,  # and what it was
    "Quota | None",  # the quota of the takes; None for that of calls that name none, and for any equal one
    int,  # until when a take adds its units to one word; 0 if `Found.within` decides instead
    Word,  # the word that a take changes, or the first
    int,  # most units at once
    Word,  # the stripe's counter `allowed`
]


class Known:
    """The hints of one process, in two generations.

    If there are HINTS_MAX recent ones, they become the old ones, and the old ones are dropped. An old one that is used
    becomes recent again. So rare keys push out one another, and no frequent ones.

    A key gets its hint when it comes again, while it is among the last keys without one. A hint costs more than a
    search, and most keys of a flood come once.

    Attributes:
        recent: The hints that the hot path uses, by key.
    """

    def __init__(self, stripes: Stripes, words: memoryview, labels: Labels | None, default: Quota) -> None:
        """Have no hints; `default` is the quota of calls that name none."""
        self._stripes = stripes
        self._words = words
        self._labels = labels
        self._default = default
        self.recent: dict[str, Hint] = {}
        self._old: dict[str, Hint] = {}
        self._met: set[str] = set()
        self._is_closed = False

    def found(self, key: str) -> Found | None:
        """Return the bucket of a key that has a hint; an old hint becomes a recent one."""
        hint = self.recent.get(key)
        if hint is None:
            # Most keys without a recent one have none.
            hint = self._old.pop(key, None) if key in self._old else None
            if hint is None:
                return None
            self._keep(key, hint)
        return hint[0]

    def meet(self, key: str) -> bool:
        """Note that a key has come, unless it is long; return whether it is the first time of late."""
        met = self._met
        if key in met:
            return False
        if is_short(key):
            if len(met) >= HINTS_MAX:
                met.clear()
            met.add(key)
        return True

    def remember(self, found: Found) -> None:
        """Keep a hint to the bucket of a key that came before of late. No other operation has `found`."""
        key, counts = found.key.key, found.counts
        if key is None or (self.meet(key) and key not in self.recent):
            return
        # The flags are those of a tag that is not stored: of a peek, which changes nothing.
        if found.victim is not None or found.flags is not None or not isinstance(counts, Algorithm):
            return
        within = counts.within(found.after, lambda index: word(self._words, found.at + index))
        if within is None:
            return
        found.stretch(within)
        ends_ns = found.after[2]
        found.taken = (0, ends_ns, ends_ns, 0) if counts.refunds_by_window else None
        # Only the operation needs them, and they take 300 bytes.
        found.state = found.after = FRESH
        self._note(key, found, is_counted=counts.counts_in_window)

    def remember_lease(self, key: str, found: Found, *, denies: bool) -> None:
        """Keep a hint to a lease, unless its key is long; if it `denies`, no other place decides instead."""
        if is_short(key):
            self._note(key, found, denies=denies)

    def _note(self, key: str, found: Found, *, is_counted: bool = False, denies: bool = True) -> None:
        stripe = found.stripe
        semaphore = self._stripes.semaphores[stripe]
        allowed, denied = self._stripes.outcomes[stripe]
        found.tagged, found.word = word(self._words, found.at + TAG), word(self._words, found.index)
        found.second = None if found.second_index is None else word(self._words, found.second_index)
        found.denied, found.kept = denied if denies else None, None
        if self._labels is not None:
            usage = self._labels.usage(found.place.set_index, found.number)
            found.let, found.kept = word(usage, LABEL_ALLOWED), word(usage, LABEL_DENIED)
        hint = (
            found,
            SEAT_PHASES + stripe,
            semaphore.acquire,
            semaphore.release,
            found.tagged,
            found.tag,
            None if found.asked == self._default else found.asked,
            found.ends_ns if is_counted else 0,
            found.word,
            found.most,
            allowed,
        )
        self._keep(key, hint)

    def clear(self) -> None:
        """Forget everything."""
        self.recent.clear()
        self._old.clear()
        self._met.clear()

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


def is_short(key: str) -> bool:
    """Return whether a process may remember a key: it takes 256 bytes at most."""
    return len(key) * (1 if key.isascii() else _WIDE) <= _SHORT
