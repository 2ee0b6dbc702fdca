"""Found: what decides on the takes of a key, as an operation has found it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from shm_store.core.algorithms import FRESH, Algorithm, State, Step, TakeWithin, Within, Word
from shm_store.rate_info import RateInfo
from shm_store.table.records.record import Owner
from shm_store.table.records.slots import Place
from shm_store.table.records.victims import Victim
from shm_store.table.segment.layout import NEVER_IDLE

#: The tag of what is still to be found, and of what has no slot: no slot has it.
SOUGHT: Final = -1
#: The quota of a call that accepts any quota of its hint, and of a hint before a take has told its quota.
ANY: Final[Any] = object()


class Flight:
    """Counts the units of a key that a process has in flight, beside those of others; as an Algorithm does of a bucket.

    Attributes:
        burst: Most units in flight, of all processes.
        quota: The words of the slot that say the limit and the process.
        counts_in_window: See `Algorithm`.
        step: Decides on a take.
    """

    counts_in_window = False

    def __init__(self, limit: int, owner: Owner, others: int) -> None:
        """Count for `owner`, where other processes have so many units."""
        self.burst = limit
        self.quota = limit, *owner
        self._free = free = limit - others

        def step(state: State, _now_ns: int, cost: int) -> tuple[bool, int, int, int, State]:
            left = free - state[0] - cost
            if left < 0:
                return False, max(left + cost, 0), 0, 0, state
            return True, left, 0, 0, (state[0] + cost, NEVER_IDLE, 0, 0)

        self.step: Step = step

    def full_at(self, _state: State) -> int:
        """Return 0: no process knows when units in flight end."""
        return 0


class Found:
    """A bucket, or whatever else decides on the takes of a key.

    Hints keep those of buckets, for other operations and threads. So only the operation that made one changes it. One
    that a hint keeps has what the transaction needs for takes within a stretch of time.

    Attributes:
        key: Where the key belongs.
        place: The place of its slot: that of the key, or of the units that this process has in flight.
        stripe: The stripe of both.
        asked: The limit of the takes.
        most: Most units at once.
        tag: The tag of its slot; SOUGHT before it is found or stored, and for what has no slot.
        at: The first word of its slot, 0 without one.
        number: The number of the slot in its set, -1 without one.
        step: Decides on a take.
        counts: What counts the bucket, or the units in flight; None if nothing does.
        state: The state before the operation, under the limit that it has or adopts.
        after: The state after it.
        flags: The flags of the tag that it is to get; None if its slot says its limit already.
        victim: The former use of the slot that a new key gets; None for any other key.
        owners: Other processes with units in flight. A denial stands only while they live.
        allowed: Counts the allowed takes of its stripe.
        is_refused: Whether it denies because a set is full.
        taken: A state with the window of takes within the stretch; None if a refund needs to know more.
        ends_ns: The end of the stretch in which takes change one word, or two; 0 if no hint keeps this.
        tagged: The tag in the slot.
        within: Decides on a take within the stretch.
        word: The word that such a take changes, or the first.
        index: The index of that in the segment.
        second: The second of such words; None if there is none.
        second_index: Its index.
        denied: Counts the denied takes of the stripe; None if another place denies.
        kept: Counts those of the key; None if nothing does.
        let: Counts the allowed takes of the key, in a table with labels.
    """

    __slots__ = (
        *("key", "place", "stripe", "asked", "most", "tag", "at", "number", "step"),
        *("counts", "state", "after", "flags", "victim", "owners", "is_refused", "allowed"),
        *("taken", "ends_ns", "tagged", "within", "word", "index", "second", "second_index", "denied", "kept", "let"),
    )

    step: Step
    allowed: Word
    after: State
    taken: State | None
    tagged: Word
    within: TakeWithin
    word: Word
    index: int
    second: Word | None
    second_index: int | None
    denied: Word | None
    kept: Word | None
    let: Word

    def __init__(self, place: Place, asked: Any) -> None:  # noqa: ANN401 - of some hints, nothing that equals a quota
        """Seek what decides on the takes of a key."""
        self.key = self.place = place
        self.stripe = place.stripe
        self.asked = asked
        self.tag = SOUGHT
        self.at = 0
        self.number = -1
        self.ends_ns = 0
        self.state = FRESH
        self.counts: Algorithm | Flight | None = None
        self.flags: int | None = None
        self.victim: Victim | None = None
        self.owners: Collection[Owner] = ()
        self.is_refused = False

    def counted(self, counts: Algorithm | Flight) -> None:
        """Have `counts` decide."""
        self.counts, self.step, self.most = counts, counts.step, counts.burst

    def stretch(self, within: Within) -> None:
        """Have takes within a stretch of time change its words alone."""
        self.within, self.index, self.ends_ns = within.take, self.at + within.word, within.ends_ns
        self.second_index = None if within.second is None else self.at + within.second

    def is_of(self, other: Found) -> bool:
        """Return whether both are of the same key and limit."""
        return self.key.fingerprint == other.key.fingerprint and self.asked == other.asked


def doubtful_owners(founds: list[Found], infos: list[RateInfo]) -> set[Owner]:
    """Return the processes that must be alive for the denials to stand."""
    together = zip(founds, infos, strict=True)
    return {owner for found, info in together if not info.allowed for owner in found.owners}
