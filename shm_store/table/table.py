"""One handle of a process on a segment: everything that works on it, put together once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Self

from shm_store.config import Config
from shm_store.core.digest import Digest
from shm_store.core.reservation import Settlements
from shm_store.durations import NS_PER_SECOND
from shm_store.process import forks
from shm_store.quota import Quota
from shm_store.table.attachment import Attachment, on_open
from shm_store.table.handle import Handle, close_dropped
from shm_store.table.locking.seats import Role
from shm_store.table.locking.stripes import Hold, Stripes
from shm_store.table.operations import Operations
from shm_store.table.records.labels import Labels
from shm_store.table.records.slots import Place, Slots
from shm_store.table.records.tallies import Tallies
from shm_store.table.records.victims import Victims
from shm_store.table.segment.layout import MIN_TTL_AT, TTL_INTERVAL_AT, WORD
from shm_store.table.sweeps import Sweeps
from shm_store.table.takes.finding import Finding
from shm_store.table.takes.in_flight import InFlightUnits
from shm_store.table.takes.known import Known
from shm_store.table.takes.transaction import Transaction


class Table:
    """A segment with all that works on it, as one handle uses it."""

    def __init__(self, attachment: Attachment, config: Config, clock: Callable[[], int]) -> None:
        """Bind everything to `attachment`, which does not count this table: use `open` or `attach`."""
        self.config: Final = config
        self.clock: Final = clock
        self.segment: Final = attachment.segment
        self.seats: Final = attachment.seats
        self.recovery: Final = attachment.recovery
        self.stripes: Final = Stripes(attachment, clock, config.lock_timeout_ns)
        self.slots: Final = Slots(self.segment)
        self.labels: Final = Labels(self.segment) if config.label_size else None
        victims, journal = Victims(self.segment, self.slots, config.on_full), self.recovery.journal
        self._in_flight: Final = InFlightUnits(self.slots, victims)
        self.finding: Final = Finding(
            self.slots,
            victims,
            self._in_flight,
            labels=self.labels,
            records=attachment.records,
            outcomes=attachment.outcomes,
            epoch=_epoch_of(clock),
        )
        self.transaction: Final = Transaction(
            self.segment, self.seats, self.stripes, journal, self.finding, labels=self.labels, clock=clock
        )
        self.operations: Final = Operations(self.slots, self.stripes, self.finding, self._in_flight, journal)
        self.sweeps: Final = Sweeps(self.slots, self.stripes, clock)
        self.tallies: Final = Tallies(self.segment)
        self.handle: Final = Handle(attachment, self.stripes, Settlements(self.operations), self.tallies)
        forks.register(self)

    @classmethod
    def open(cls, config: Config, clock: Callable[[], int]) -> Self:
        """Return a handle on the segment of `config`, which is created if there is none; see `lifetime`."""
        close_dropped()
        table = cls._entered(Attachment.open(config, Role.USER), config, clock)
        for hear in on_open:
            hear(config.name)
        return table

    @classmethod
    def attach(cls, name: str, clock: Callable[[], int], role: Role, owner: str | int | None = None) -> Self | None:
        """Return a handle on the segment `name` whatever its geometry; None without one, see `lifetime.attach`."""
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

    def place_of(self, digest: Digest) -> Place:
        """Return where the key of a digest belongs, with its text and its whole fingerprint if a slot has them."""
        half = self.slots.place_of_digest(digest)

        return self.stripes.run(
            half.stripe, lambda _hold: self._labelled(half) or self.slots.bucket_of_half(half) or half
        )

    def _labelled(self, half: Place) -> Place | None:
        labels = self.labels
        if labels is None:
            return None
        for slot in self.slots.of_key(half):
            text = labels.key(half.set_index, slot.number)
            if text is not None:
                place = self.slots.locate(text)
                # A damaged label may have the text of another key.
                if place.fingerprint[WORD:] == half.fingerprint[WORD:]:
                    return place
        return None

    def begins_burst(self, place: Place, length_ns: int) -> bool:
        """Return whether no process has called this for the key within its time; always, where no text is kept."""
        labels = self.labels
        if labels is None:
            return True

        def body(hold: Hold) -> bool:
            number, now_ns = self.slots.number(place), hold.now_ns
            return number is None or labels.begins_burst(place.set_index, number, now_ns, now_ns + length_ns)

        return self.stripes.run(place.stripe, body)

    def new_known(self, default: Quota) -> Known:
        """Return hints, none so far, that end with this handle; `default` is the quota of calls that name none."""
        known = Known(self.stripes, self.segment.words, self.labels, default)
        self.handle.add(known)
        return known

    def close(self) -> None:
        """See `Handle.close`."""
        self.handle.close()
        forks.unregister(self)

    def after_fork(self) -> None:
        """Count in records of the child's own, and as a process of its own."""
        self._in_flight.after_fork()
        self.tallies.after_fork()


def _epoch_of(clock: Callable[[], int]) -> Callable[[], int]:
    """Return what tells where UTC's zero is on the clock; a clock of the caller's own begins at it."""
    if clock is time.monotonic_ns:
        return lambda: time.monotonic_ns() - time.time_ns()
    return lambda: 0
