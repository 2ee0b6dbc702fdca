"""Known keys: what one process remembers of the keys that it has met, so that their next takes need no search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from shm_store.core.algorithms import NEVER, Algorithm, State, Word
from shm_store.quota import Concurrency, Quota
from shm_store.table.finding import Found
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.labels import Labels
from shm_store.table.segment.layout import LABEL_ALLOWED, LABEL_DENIED, SEAT_PHASES, TAG, word

#: Hints of one generation, 2 kB each at most; there are two. A key that is longer than 256 bytes has none.
HINTS_MAX: Final = 8_192
# Most bytes of a key that a process remembers. A client may choose longer ones.
_SHORT: Final = 256
# Most bytes of a character.
_WIDE: Final = 4


class Counter(NamedTuple):
    """A word that counts the units of a key up to a bound, until an instant; of a window, or of a lease.

    Attributes:
        ends_ns: Until when.
        word: Its position in the slot; None if there is no such word.
        most: The bound.
        limit: Most units at once.
        full_ns: When the limit is full again.
        denies: Whether a take beyond the bound is denied; else another place decides it.
    """

    ends_ns: int
    word: int | None
    most: int
    limit: int
    full_ns: int
    denies: bool = True


#: How the hot path takes from a key. A plain tuple: unpacking a NamedTuple costs some 50 ns more.
Hint: TypeAlias = tuple[
    int,  # index of the stripe's phase in a seat
    Callable[[bool], bool],  # acquire
    Callable[[], None],  # release
    Word,  # the slot's tag,
    int,  # and what it was
    Quota | Concurrency,  # the quota of the takes
    int,  # until when a take changes one word alone,
    "Word | None",  # which is this one,
    Any,  # as `Within.take` says; None if it counts units up; any other function if it changes several words
    int,  # to this bound
    int,  # most units at once
    int,  # when all are there again, if it counts units up
    Word,  # the stripe's counters: allowed,
    "Word | None",  # and denied; None if another place decides what is not allowed
    "Word | None",  # the counters of the key: allowed,
    "Word | None",  # and denied
    Found,  # the bucket
]


class Known:
    """The hints of one process, in two generations.

    If there are HINTS_MAX recent ones, they become the old ones, and the old ones are dropped. An old one that is used
    becomes recent again. So rare keys push out one another, and no frequent ones.

    Attributes:
        recent: The hints that the hot path uses, by key.
    """

    def __init__(self, stripes: Stripes, words: memoryview, labels: Labels | None) -> None:
        """Begin with none.

        Args:
            stripes: The stripes of the segment.
            words: Its words.
            labels: Its labels; None if it has none.
        """
        self._stripes = stripes
        self._words = words
        self._labels = labels
        self.recent: dict[str, Hint] = {}
        self._old: dict[str, Hint] = {}
        self._is_closed = False

    def found(self, key: str) -> Found | None:
        """Return the bucket of a key that has a hint; an old hint becomes a recent one."""
        hint = self.recent.get(key)
        if hint is None:
            hint = self._old.pop(key, None)
            if hint is None:
                return None
            self._keep(key, hint)
        return hint[-1]

    def remember(self, found: Found, state: State) -> None:
        """Keep a hint to a bucket, unless its key is long.

        Args:
            found: The bucket.
            state: Its state after the operation.
        """
        key, counts = found.key.key, found.counts
        if key is None or not is_short(key) or not isinstance(counts, Algorithm):
            return
        within = counts.within(state, lambda index: word(self._words, found.at + index))
        if within is None:
            # A take changes several words.
            self._note(key, found, Counter(NEVER, None, counts.burst, counts.burst, NEVER), found.step)
        elif counts.counts_in_window:
            counter = Counter(within.ends_ns, within.word, counts.burst, counts.burst, within.ends_ns)
            self._note(key, found, counter, None)
        else:
            counter = Counter(within.ends_ns, within.word, counts.burst, counts.burst, NEVER)
            self._note(key, found, counter, within.take)

    def remember_lease(self, key: str, found: Found, counter: Counter) -> None:
        """Keep a hint to a lease, unless its key is long."""
        if is_short(key):
            self._note(key, found, counter, None)

    def _note(
        self,
        key: str,
        found: Found,
        counter: Counter,
        take: Callable[..., object] | None,
    ) -> None:
        stripe, at = found.stripe, found.at
        semaphore = self._stripes.semaphores[stripe]
        allowed, denied = self._stripes.outcomes[stripe]
        hint = (
            SEAT_PHASES + stripe,
            semaphore.acquire,
            semaphore.release,
            word(self._words, at + TAG),
            found.tag,
            found.asked,
            counter.ends_ns,
            None if counter.word is None else word(self._words, at + counter.word),
            take,
            counter.most,
            counter.limit,
            counter.full_ns,
            allowed,
            denied if counter.denies else None,
            *self._usage(found),
            found,
        )
        self._keep(key, hint)

    def _usage(self, found: Found) -> tuple[Word | None, Word | None]:
        if self._labels is None:
            return None, None
        usage = self._labels.usage(found.place.set_index, found.number)
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


def is_short(key: str) -> bool:
    """Return whether a process may remember a key: it takes 256 bytes at most."""
    return len(key) * (1 if key.isascii() else _WIDE) <= _SHORT
