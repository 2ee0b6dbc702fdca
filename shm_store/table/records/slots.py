"""Slots: where a key's slot is, the columns of a set, and the stores that give a slot to a key and take it away.

Everything here runs under the stripe of the set it touches; reading columns needs no stripe.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from shm_store.core.digest import Digest
from shm_store.quota import Quota
from shm_store.table.records import record
from shm_store.table.records.labels import ENCODING, ERRORS
from shm_store.table.records.record import Owner
from shm_store.table.segment.layout import (
    BUCKET,
    FINGERPRINT,
    FLAGS,
    GENERATION,
    GENERATION_SHIFT,
    IDLE_AT,
    KIND_MASK,
    MIN_TTL_AT,
    SLOT_WORDS,
    TAG,
    VACANT,
    WORD,
)
from shm_store.table.segment.mapping import Segment

_FINGERPRINT_WORDS: Final = FINGERPRINT // WORD
_ABSENT: Final = bytes(WORD)
_HALF: Final = struct.Struct("<8xQ").unpack
_HALVES: Final = struct.Struct("<2Q").unpack
_write: Final = struct.Struct("@8Q").pack_into


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a key belongs.

    Attributes:
        fingerprint: Its fingerprint.
        set_index: Its set.
        stripe: The stripe of that.
        key: The key; None for one that has a digest alone.
    """

    fingerprint: bytes
    set_index: int
    stripe: int
    key: str | None

    @property
    def is_known(self) -> bool:
        """Whether the fingerprint is whole, and not only the half that a digest has."""
        return not self.fingerprint.startswith(_ABSENT)


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One slot: its number in the set, the index of its first word in the segment, and its words."""

    number: int
    at: int
    words: memoryview


class Slots:
    """The slots of one segment.

    Attributes:
        memory: The segment.
        geometry: Its geometry.
    """

    def __init__(self, segment: Segment) -> None:
        self.memory = segment.memory
        self._words = segment.words
        geometry = self.geometry = segment.header.geometry
        # Each of them would be computed anew several times in each operation.
        self._controls_at, self._fingerprints_at = geometry.set_at(0) * WORD, geometry.fingerprints_at(0) * WORD
        self._slots_at, self._set_size = geometry.slots_at(0), geometry.set_words * WORD
        self._set_words, self._set_slots = geometry.set_words, geometry.set_slots
        self._sets, self._stripes = geometry.sets, geometry.stripes
        self._secret = segment.header.secret
        # A copy of it costs two thirds of what a new one does.
        self._hash = _keyed(self._secret)

    def locate(self, key: str) -> Place:
        """Return where `key` belongs: a keyed hash, so that a client cannot aim for another's slot."""
        hashed = self._hash.copy()
        hashed.update(key.encode(ENCODING, ERRORS))
        fingerprint = hashed.digest()
        # In line what `located` does.
        low, half = _HALVES(fingerprint)
        set_index = half % self._sets
        return Place(fingerprint if low else _occupying(fingerprint), set_index, set_index % self._stripes, key)

    def located(self, fingerprint: bytes, key: str | None = None) -> Place:
        """Return where the key of a fingerprint belongs."""
        (half,) = _HALF(fingerprint)
        set_index = half % self._sets
        return Place(fingerprint, set_index, set_index % self._stripes, key)

    def place_of_units(self, place: Place, owner: Owner) -> Place:
        """Return where the units that a process has in flight of a key belong."""
        return self._beside(place, b"".join(word.to_bytes(WORD, "little") for word in owner))

    def place_of_block(self, place: Place) -> Place:
        """Return where the block of a key belongs."""
        return self._beside(place, b"block")

    def place_of_lease(self, place: Place, quota: Quota, issuer: str) -> Place:
        """Return where the lease of a key by a quota belongs; each server that issues them has leases of its own."""
        terms = quota.limit, quota.interval_ns, quota.most, quota.algorithm, issuer
        return self._beside(place, repr(terms).encode())

    def _beside(self, place: Place, what: bytes) -> Place:
        """Return a place in the key's set, of a fingerprint that has the second half of the key's."""
        digest = hashlib.blake2b(place.fingerprint + what, key=self._secret, digest_size=WORD).digest()
        fingerprint = _occupying(digest + place.fingerprint[WORD:])
        return Place(fingerprint, place.set_index, place.stripe, place.key)

    def place_of_digest(self, digest: Digest) -> Place:
        """Return where the key of a digest belongs; the digest has the second half of its fingerprint."""
        return self.located(_ABSENT + bytes.fromhex(digest.digits))

    def search(self, place: Place) -> tuple[int, bool]:
        """Return the number of the slot of a key in its set, and False; without one that of a vacant slot, and True.

        The number is -1 if no slot is vacant.
        """
        fingerprint, memory, offset = place.fingerprint, self.memory, place.set_index * self._set_size
        first = self._controls_at + offset
        # Within a microsecond: a search of the fingerprints themselves takes up to five. In line: `control_of`.
        controls, control = memory[first : first + self._set_slots], fingerprint[0] or 1
        # Mostly a new key's byte is not there, and `in` tells that in a third of the time of `find`.
        number = controls.find(control) if control in controls else -1
        while number >= 0:
            at = self._fingerprints_at + offset + number * FINGERPRINT
            if memory[at : at + FINGERPRINT] == fingerprint:
                return number, False
            number = controls.find(control, number + 1)
        return controls.find(VACANT), True

    def number(self, place: Place) -> int | None:
        """Return the number of the slot of a key in its set, or None."""
        number, is_vacant = self.search(place)
        return None if is_vacant else number

    def find(self, place: Place) -> Slot | None:
        """Return the slot of a key, or None."""
        number = self.number(place)
        return None if number is None else self.slot(place.set_index, number)

    def controls(self, set_index: int) -> bytes:
        """Return the control bytes of a set: 0 for a vacant slot."""
        first = self._controls_at + set_index * self._set_size
        return self.memory[first : first + self._set_slots]

    def at(self, set_index: int, number: int) -> int:
        """Return the index in the segment of the first word of a slot, by its number in its set."""
        return self._slots_at + set_index * self._set_words + number * SLOT_WORDS

    def slot(self, set_index: int, number: int) -> Slot:
        """Return a slot by its number in its set."""
        at = self.at(set_index, number)
        return Slot(number, at, self.words(at))

    def words(self, at: int) -> memoryview:
        """Return the words of the slot whose first word has the index `at` in the segment."""
        return self._words[at : at + SLOT_WORDS]

    def occupied(self, set_index: int) -> list[Slot]:
        """Return the slots of a set that are not vacant."""
        return [self.slot(set_index, number) for number, control in enumerate(self.controls(set_index)) if control]

    def is_occupied(self, set_index: int, number: int) -> bool:
        """Return whether a slot of a set is not vacant."""
        return bool(self.memory[self._controls_at + set_index * self._set_size + number])

    def of_key(self, place: Place, kind: int | None = None) -> list[Slot]:
        """Return the slots of a key: of its bucket, block, leases, and units in flight; or of one kind alone."""
        (half,) = _HALF(place.fingerprint)
        # A vacant slot keeps the fingerprint that it had.
        found = [
            self.slot(place.set_index, number)
            for number, second in enumerate(self._fingerprint_column(place.set_index, 1))
            if second == half and self.is_occupied(place.set_index, number)
        ]
        return [slot for slot in found if kind is None or slot.words[TAG] & KIND_MASK == kind]

    def bucket_of_half(self, place: Place) -> Place | None:
        """Return the place with the whole fingerprint, from the slot of the key's bucket; None without a bucket."""
        for slot in self.of_key(place, BUCKET):
            at = self._fingerprints_at + place.set_index * self._set_size + slot.number * FINGERPRINT
            return self.located(bytes(self.memory[at : at + FINGERPRINT]))
        return None

    def column(self, set_index: int, word: int) -> list[int]:
        """Return one word of every slot of a set."""
        first = self._slots_at + set_index * self._set_words
        return self._words[first + word : first + self._set_slots * SLOT_WORDS : SLOT_WORDS].tolist()

    def _fingerprint_column(self, set_index: int, word: int) -> list[int]:
        first = (self._fingerprints_at + set_index * self._set_size) // WORD
        return self._words[first + word : first + self._set_slots * _FINGERPRINT_WORDS : _FINGERPRINT_WORDS].tolist()

    @property
    def min_ttl_ns(self) -> int:
        """For how long a slot must have been idle to count as absent."""
        return self._words[MIN_TTL_AT]

    def is_past(self, idle_at_ns: int, now_ns: int) -> bool:
        """Return whether a slot has been idle for the minimum TTL."""
        return record.is_past(idle_at_ns, now_ns, self._words[MIN_TTL_AT])

    def is_expired(self, slot: Slot, now_ns: int) -> bool:
        """Return whether a slot counts as absent, swept or not (I10)."""
        return record.is_expired(slot.words[TAG], slot.words[IDLE_AT], now_ns, self._words[MIN_TTL_AT])

    def vacate(self, set_index: int, number: int) -> None:
        """Take a slot from its key."""
        # The tag first: a hint must not go on counting in a slot that others no longer find.
        self._words[self.at(set_index, number) + TAG] &= FLAGS
        self.memory[self._controls_at + set_index * self._set_size + number] = VACANT

    def occupy(self, place: Place, number: int, at: int, words: Sequence[int], tag: int) -> None:
        """Give a vacant slot, of which `at` is the first word, to a key, with these words and this tag."""
        memory, fingerprint, offset = self.memory, place.fingerprint, place.set_index * self._set_size
        # `*words` would cost 60 ns more.
        first, second, third, fourth, fifth, sixth, seventh = words
        _write(memory, at * WORD, first, second, third, fourth, fifth, sixth, seventh, tag)
        # Until the last store the slot is vacant, whatever its words and its fingerprint are.
        begin = self._fingerprints_at + offset + number * FINGERPRINT
        memory[begin : begin + FINGERPRINT] = fingerprint
        # In line: `control_of`.
        memory[self._controls_at + offset + number] = fingerprint[0] or 1


def control_of(fingerprint: bytes) -> int:
    """Return the control byte of the slot that the key of a fingerprint has; never VACANT."""
    return fingerprint[0] or 1


def is_text_of(secret: bytes, text: bytes, fingerprint: bytes) -> bool:
    """Return whether a fingerprint is of the key with this whole, encoded text, or of a block of that key."""
    hashed = _keyed(secret)
    hashed.update(text)
    return hashed.digest()[WORD:] == fingerprint[WORD:]


def _keyed(secret: bytes) -> hashlib.blake2b:
    # As a `key`, it would be a block of its own, which each digest of a copy compresses anew: 0.13 µs.
    half = len(secret) // 2
    return hashlib.blake2b(salt=secret[:half], person=secret[half:], digest_size=FINGERPRINT)


def _occupying(digest: bytes) -> bytes:
    """Return a fingerprint whose first word is not 0, as it is of a vacant slot."""
    return b"\1" + digest[1:] if digest.startswith(_ABSENT) else digest


def next_tag(stripe_record: memoryview, flags: int) -> int:
    """Return a tag that no slot of the stripe had before."""
    # Counted before it is used: no two states of a slot's identity or quota ever share a tag.
    generation = stripe_record[GENERATION] = stripe_record[GENERATION] + 1
    return generation << GENERATION_SHIFT | flags
