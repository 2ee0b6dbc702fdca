"""One handle of a process on a segment: everything that works on it, put together once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Self

from shm_store.config import Config, OnFull
from shm_store.core.digest import Digest
from shm_store.core.reservation import Settlements
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import TableFullError
from shm_store.process import forks, identity
from shm_store.table import plain, sweeps
from shm_store.table.accounts import Owner
from shm_store.table.attachment import Attachment, on_open
from shm_store.table.buckets import Buckets
from shm_store.table.call import Taken, Undecided, Wanted
from shm_store.table.handle import Handle, close_dropped
from shm_store.table.hints import Hints
from shm_store.table.locking.recovery import Recovery
from shm_store.table.locking.seats import Role, Seats
from shm_store.table.locking.stripes import Hold, Stripes
from shm_store.table.records.slots import Place
from shm_store.table.records.tallies import Tallies
from shm_store.table.segment.layout import MIN_TTL_AT, OTHER, TTL_INTERVAL_AT, WORD
from shm_store.table.segment.mapping import Segment
from shm_store.table.settlement import Settling
from shm_store.table.takes import Takes

# Slots that a sweep vacates in one hold of a stripe, which is then about as long as that of a first take.
_SWEPT_AT_ONCE: Final = 4


class Table:
    """A segment with its seats, stripes, buckets and recovery, as one handle uses them.

    Attributes:
        config: The settings of this handle.
        segment: The mapping.
        seats: This process's seats.
        recovery: Frees what dead processes held.
        stripes: Runs a function under a stripe.
        buckets: What to run on one bucket.
        takes: What to run on several.
        settling: What to settle of what was taken.
        tallies: How policies decide.
        handle: What ends with this table.
    """

    def __init__(self, attachment: Attachment, config: Config, clock: Callable[[], int]) -> None:
        """Bind everything to `attachment`, which does not count this table: use `open` or `attach`."""
        on_full: OnFull = config.on_full
        self.config: Final = config
        self.segment: Final[Segment] = attachment.segment
        self.seats: Final[Seats] = attachment.seats
        self.recovery: Final[Recovery] = attachment.recovery
        self.stripes: Final = Stripes(attachment, config.lock_timeout_ns)
        self.buckets: Final = Buckets(self.segment, self.recovery.journal, clock, _epoch_of(clock), on_full)
        self.takes: Final = Takes(self.buckets)
        self.tallies: Final = Tallies(self.segment)
        self.settling: Final = Settling(self.segment.name, self.stripes, self.takes)
        self.handle: Final = Handle(attachment, self.stripes, Settlements(self.settling), self.tallies)
        self._owner: Owner | None = None
        forks.register(self)

    @classmethod
    def open(cls, config: Config, clock: Callable[[], int]) -> Self:
        """Return a handle on the segment that `config` names, which is created if there is none.

        Raises:
            LayoutMismatchError: The segment has another geometry, or is no table.
            BackendError: The operating system refused.
        """
        close_dropped()
        table = cls._entered(Attachment.open(config, Role.USER), config, clock)
        for hear in on_open:
            hear(config.name)
        return table

    @classmethod
    def attach(cls, name: str, clock: Callable[[], int], role: Role, owner: str | int | None = None) -> Self | None:
        """Return a handle on the segment `name` whatever its geometry; None when there is none.

        Args:
            name: The segment's name.
            clock: Returns nanoseconds.
            role: What this process does with the table.
            owner: A user whose table this process trusts besides those of root and of its own user.

        Raises:
            LayoutMismatchError: The file is no table of this version.
            OwnershipError: Another user owns it.
            BackendError: The operating system refused.
        """
        close_dropped()
        attachment = Attachment.attach(name, role, owner)
        if attachment is None:
            return None
        geometry, words = attachment.segment.header.geometry, attachment.segment.words
        config = Config(
            name=name,
            initial_size=geometry.initial_size,
            stripes=geometry.stripes,
            label_size=geometry.label_size,
            owner=owner,
            ttl_interval=words[TTL_INTERVAL_AT] / NS_PER_SECOND,
            min_ttl=words[MIN_TTL_AT] / NS_PER_SECOND,
        )
        return cls._entered(attachment, config, clock)

    @classmethod
    def _entered(cls, attachment: Attachment, config: Config, clock: Callable[[], int]) -> Self:
        """Return the handle that `attachment` has already counted."""
        try:
            table = cls(attachment, config, clock)
            table.handle.count()
        except BaseException:
            attachment.leave(0)
            raise
        return table

    @property
    def owner(self) -> Owner:
        """This process, as others know it by what it has in flight."""
        forks.catch_up()
        if self._owner is None:
            self._owner = Owner(os.getpid(), identity.own_start_ticks())
        return self._owner

    def take_all(self, wanted: list[Wanted]) -> list[Taken]:
        """Take all or nothing, under one hold of every stripe concerned."""
        try:
            return self._take_all(wanted)
        except TableFullError:
            # Without a sweeper, too, what the dead had in flight makes room.
            if not sum(map(self.sweep_set, {each.place.set_index for each in wanted})):
                raise
            return self._take_all(wanted)

    def take(self, wanted: Wanted) -> Taken:
        """Take from one bucket."""

        def body(hold: Hold) -> Taken | list[Taken] | Undecided:
            return plain.take(self.buckets, hold, wanted) or self.takes.take(hold, [wanted], self.owner)

        try:
            taken = self.stripes.run(wanted.place.stripe, body)
        except TableFullError:
            taken = self.take_all([wanted])
        assert not isinstance(taken, Undecided)
        return taken[0] if isinstance(taken, list) else taken

    def _take_all(self, wanted: list[Wanted]) -> list[Taken]:
        def body(hold: Hold) -> list[Taken] | Undecided:
            return plain.take_all(self.buckets, hold, wanted) or self.takes.take(hold, wanted, self.owner)

        stripes = tuple(sorted({each.place.stripe for each in wanted}))
        outcome = self.stripes.run_all(stripes, body)
        if isinstance(outcome, Undecided):
            # Not under the stripes: each look is a file to be read.
            dead = _dead(outcome.owners)
            outcome = self.stripes.run_all(stripes, lambda hold: self.takes.take(hold, wanted, self.owner, dead))
        assert not isinstance(outcome, Undecided)
        return outcome

    def place_of(self, digest: Digest) -> Place:
        """Return where the key of a digest belongs, with its text and its whole fingerprint if a slot has them."""
        half = self.buckets.slots.place_of_digest(digest)

        def body(hold: Hold) -> Place:
            hold.records[half.stripe][OTHER] += 1
            return self._labelled(half) or self.buckets.slots.bucket_of_half(half) or half

        return self.stripes.run(half.stripe, body)

    def _labelled(self, half: Place) -> Place | None:
        slots, labels = self.buckets.slots, self.buckets.labels
        if labels is None:
            return None
        for slot in slots.of_key(half):
            text = labels.key(half.set_index, slot.number)
            if text is not None:
                place = slots.place(text)
                # A damaged label may have the text of another key.
                if place.fingerprint[WORD:] == half.fingerprint[WORD:]:
                    return place
        return None

    def begins_burst(self, place: Place, length_ns: int) -> bool:
        """Return whether no process has called this for the key within its time; always, where no text is kept."""
        labels, buckets = self.buckets.labels, self.buckets
        if labels is None:
            return True

        def body(hold: Hold) -> bool:
            slot, now_ns = buckets.slots.find(place), buckets.clock()
            hold.records[place.stripe][OTHER] += 1
            return slot is None or labels.begins_burst(place.set_index, slot.number, now_ns, now_ns + length_ns)

        return self.stripes.run(place.stripe, body)

    def sweep_set(self, set_index: int) -> int:
        """Reclaim the unused slots of one set; return how many.

        It scans without the stripe, and acquires it for a few slots at a time. So another process waits no longer
        than for a take.
        """
        stripe = set_index % self.segment.header.geometry.stripes
        dead = _dead(self.buckets.holders.owners(set_index))
        found = sweeps.reclaimable(self.buckets, set_index, dead)
        return sum(
            self.stripes.run(
                stripe, partial(sweeps.sweep, self.buckets, set_index, found[at : at + _SWEPT_AT_ONCE], dead)
            )
            for at in range(0, len(found), _SWEPT_AT_ONCE)
        )

    def reset_all(self) -> int:
        """Forget every bucket and override, and what is in flight; keep blocks; return how many slots were vacated."""
        reset = 0
        for set_index in range(self.segment.header.geometry.sets):
            found = [slot.number for slot in self.buckets.slots.occupied(set_index)]
            stripe = set_index % self.segment.header.geometry.stripes
            for at in range(0, len(found), _SWEPT_AT_ONCE):
                numbers = found[at : at + _SWEPT_AT_ONCE]
                reset += self.stripes.run(stripe, partial(sweeps.reset_all, self.buckets, set_index, numbers))
        return reset

    def new_hints(self) -> Hints:
        """Return hints, none so far, that end with this handle."""
        return self.handle.new_hints(self.buckets.labels)

    def close(self) -> None:
        """See `Handle.close`."""
        self.handle.close()
        forks.unregister(self)

    def after_fork(self) -> None:
        """Count in records of the child's own, and as a process of its own."""
        self._owner = None
        self.settling.pid = os.getpid()
        self.tallies.after_fork()


def _dead(owners: Iterable[Owner]) -> set[Owner]:
    return {owner for owner in owners if not identity.is_alive(*owner)}


def _epoch_of(clock: Callable[[], int]) -> Callable[[], int]:
    """Return what tells where UTC's zero is on the clock; a clock of the caller's own begins at it."""
    if clock is time.monotonic_ns:
        return lambda: time.monotonic_ns() - time.time_ns()
    return lambda: 0
