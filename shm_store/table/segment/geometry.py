"""The geometry of a segment: its sizes, and the offsets that follow from them. Pure arithmetic."""

from __future__ import annotations

from typing import NamedTuple

from shm_store.table.segment.layout import (
    CACHE_LINE,
    FINGERPRINT,
    HEADER_WORDS,
    LABEL_TEXT,
    SEAT_PHASES,
    SEATS,
    SET_SLOTS_MAX,
    SLOT_WORDS,
    STRIPE_WORDS,
    TALLIES,
    TALLY_WORDS,
    WORD,
)


class Geometry(NamedTuple):
    """The sizes that are fixed when a segment is made, and the offsets that follow from them, in words."""

    initial_size: int
    sets: int
    set_slots: int
    stripes: int
    seats: int
    label_size: int

    @classmethod
    def of(cls, initial_size: int, stripes: int, label_size: int = 0) -> Geometry:
        """Return the geometry for `initial_size` slots: sets of equal size, at most SET_SLOTS_MAX slots each."""
        sets = -(-initial_size // SET_SLOTS_MAX)
        return cls(initial_size, sets, -(-initial_size // sets), min(stripes, sets), SEATS, label_size)

    @property
    def slots(self) -> int:
        """Number of slots; at least `initial_size`."""
        return self.sets * self.set_slots

    @property
    def seat_words(self) -> int:
        """Words of one seat, a whole number of cache lines."""
        return SEAT_PHASES + _lines(self.stripes * WORD)

    @property
    def tallies_at(self) -> int:
        """First word of the tallies."""
        return HEADER_WORDS + self.seats * self.seat_words

    @property
    def stripes_at(self) -> int:
        """First word of the stripes."""
        return self.tallies_at + TALLIES * TALLY_WORDS

    @property
    def sets_at(self) -> int:
        """First word of the sets."""
        return self.stripes_at + self.stripes * STRIPE_WORDS

    @property
    def control_words(self) -> int:
        """Words of the control bytes of a set, a whole number of cache lines."""
        return _lines(self.set_slots)

    @property
    def fingerprint_words(self) -> int:
        """Words of the fingerprints of a set, a whole number of cache lines."""
        return _lines(self.set_slots * FINGERPRINT)

    @property
    def set_words(self) -> int:
        """Words of one set: its control bytes, its fingerprints and its slots; a whole number of cache lines."""
        return self.control_words + self.fingerprint_words + self.set_slots * SLOT_WORDS

    @property
    def labels_at(self) -> int:
        """First word of the labels."""
        return self.sets_at + self.sets * self.set_words

    @property
    def label_words(self) -> int:
        """Words of one label; 0 if there are none."""
        return LABEL_TEXT + -(-self.label_size // WORD) if self.label_size else 0

    @property
    def size(self) -> int:
        """Bytes of the whole segment."""
        return (self.labels_at + self.slots * self.label_words) * WORD

    def seat_at(self, seat: int) -> int:
        """First word of a seat."""
        return HEADER_WORDS + seat * self.seat_words

    def stripe_at(self, stripe: int) -> int:
        """First word of a stripe's record."""
        return self.stripes_at + stripe * STRIPE_WORDS

    def stripe_of(self, set_index: int) -> int:
        """The stripe that guards a set."""
        return set_index % self.stripes

    def set_at(self, set_index: int) -> int:
        """First word of a set, which is the first of its control bytes."""
        return self.sets_at + set_index * self.set_words

    def fingerprints_at(self, set_index: int) -> int:
        """First word of a set's fingerprints."""
        return self.set_at(set_index) + self.control_words

    def slots_at(self, set_index: int) -> int:
        """First word of a set's slots."""
        return self.fingerprints_at(set_index) + self.fingerprint_words

    def label_at(self, set_index: int, number: int) -> int:
        """First word of the label of a slot, by its number in its set."""
        return self.labels_at + (set_index * self.set_slots + number) * self.label_words


def _lines(size: int) -> int:
    """Return so many bytes in words, up to a whole number of cache lines."""
    return -(-size // CACHE_LINE) * (CACHE_LINE // WORD)
