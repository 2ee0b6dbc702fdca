"""Slots: where a key's slot is, what a set holds, and the stores that give a slot to a key and take it away.

Everything here runs under the stripe of the set it touches, but for what reads columns, which may do without it.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

import msgspec

from shm_store.core.digest import Digest
from shm_store.quota import Quota
from shm_store.table.records.labels import encoded
from shm_store.table.segment.layout import (
    BLOCK,
    FINGERPRINT,
    FLAGS,
    GENERATION,
    GENERATION_SHIFT,
    HOLDER,
    LEASE,
    MIN_TTL_AT,
    SLOT_WORDS,
    TAG,
    VACANT,
    WORD,
)
from shm_store.table.segment.mapping import Segment

#: Places of keys kept in one process, some 700 bytes each at most; all are dropped when there would be more.
PLACES_MAX: Final = 8_192
# Most bytes of a key that a process remembers. A client may choose longer ones.
_SHORT: Final = 256
# Most bytes of a character.
_WIDE: Final = 4
_FINGERPRINT_WORDS: Final = FINGERPRINT // WORD
_ABSENT: Final = bytes(WORD)
_HALF: Final = struct.Struct("<Q")


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a key belongs.

    Attributes:
        fingerprint: Its fingerprint.
        set_index: Its set.
        stripe: The stripe of that.
        at: The byte of the segment at which the search for its fingerprint begins, and that for a vacant slot.
        key: The key; None for one that has a digest alone.
    """

    fingerprint: bytes
    set_index: int
    stripe: int
    at: int
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
    """The slots of one segment."""

    def __init__(self, segment: Segment) -> None:
        """Bind to `segment`."""
        self._memory = segment.memory
        self._words = segment.words
        self._geometry = segment.header.geometry
        # Each of them would be computed anew several times in each operation.
        self._sets_at, self._slots_at = self._geometry.set_at(0), self._geometry.slots_at(0)
        self._set_words, self._set_slots = self._geometry.set_words, self._geometry.set_slots
        self._secret = segment.header.secret
        # A copy of it costs two thirds of what a new one does.
        self._hash = _keyed(self._secret)
        self._sets, self._stripes = self._geometry.sets, self._geometry.stripes
        self._places: dict[str, Place] = {}

    def place(self, key: str) -> Place:
        """Return where `key` belongs: a keyed hash, so that a client cannot aim for another's slot."""
        known = self._places.get(key)
        return self._placed(key) if known is None else known

    def knows(self, key: str) -> bool:
        """Return whether this process has looked for `key` lately."""
        return key in self._places

    def _placed(self, key: str) -> Place:
        hashed = self._hash.copy()
        hashed.update(encoded(key))
        place = self.placed(_occupying(hashed.digest()), key)
        if is_short(key):
            if len(self._places) >= PLACES_MAX:
                self._places.clear()
            self._places[key] = place
        return place

    def placed(self, fingerprint: bytes, key: str | None) -> Place:
        """Return where the key of a fingerprint belongs."""
        rest, set_index = divmod(_HALF.unpack_from(fingerprint, WORD)[0], self._sets)
        at = (self._sets_at + set_index * self._set_words) * WORD + rest % self._set_slots * FINGERPRINT
        return Place(fingerprint, set_index, set_index % self._stripes, at, key)

    def place_of_holder(self, place: Place, pid: int, start: int) -> Place:
        """Return where the units that a process has in flight of a key belong: in the key's set, with its second half.

        Args:
            place: Where the key belongs.
            pid: The process.
            start: When it started, in clock ticks.
        """
        return self._beside(place, pid.to_bytes(WORD, "little") + start.to_bytes(WORD, "little"))

    def place_of_block(self, place: Place) -> Place:
        """Return where the block of a key belongs: in the key's set, with its second half."""
        return self._beside(place, b"block")

    def place_of_lease(self, place: Place, quota: Quota, issuer: str) -> Place:
        """Return where the lease of a key by a quota belongs: in the key's set, with its second half.

        Args:
            place: Where the key belongs.
            quota: The quota.
            issuer: The server that issues it; each has leases of its own.
        """
        return self._beside(place, repr((quota.terms, quota.algorithm, issuer)).encode())

    def _beside(self, place: Place, what: bytes) -> Place:
        digest = hashlib.blake2b(place.fingerprint + what, key=self._secret, digest_size=WORD).digest()
        fingerprint = _occupying(digest + place.fingerprint[WORD:])
        return Place(fingerprint, place.set_index, place.stripe, place.at, place.key)

    def find(self, place: Place) -> Slot | None:
        """Return the slot of a key, or None."""
        number = self._search(place, place.fingerprint)
        return None if number is None else self.slot(place.set_index, number)

    def vacant(self, place: Place) -> Slot | None:
        """Return a vacant slot for a key, or None where none is found at once; `first_words` tells for sure."""
        number = self._search(place, VACANT)
        return None if number is None else self.slot(place.set_index, number)

    def _search(self, place: Place, fingerprint: bytes) -> int | None:
        """Return the number of the slot of a fingerprint in the place's set.

        The search begins where the place says, so that what was put there, or soon after, is found at once.
        """
        find = self._memory.find
        first = (self._sets_at + place.set_index * self._set_words) * WORD
        end = first + self._set_slots * FINGERPRINT
        for begin, stop in ((place.at, end), (first, place.at)):
            at = find(fingerprint, begin, stop)
            # A match may straddle two fingerprints.
            while at >= 0 and (at - first) % FINGERPRINT:
                at = find(fingerprint, at + 1, stop)
            if at >= 0:
                return (at - first) // FINGERPRINT
        return None

    def slot(self, set_index: int, number: int) -> Slot:
        """Return a slot by its number in its set."""
        at = self._slots_at + set_index * self._set_words + number * SLOT_WORDS
        return Slot(number, at, self._words[at : at + SLOT_WORDS])

    def occupied(self, set_index: int) -> list[Slot]:
        """Return the slots of a set that are not vacant."""
        return [self.slot(set_index, number) for number, first in enumerate(self.first_words(set_index)) if first]

    def is_occupied(self, set_index: int, number: int) -> bool:
        """Return whether a slot of a set is not vacant."""
        return bool(self._words[self._sets_at + set_index * self._set_words + number * _FINGERPRINT_WORDS])

    def first_words(self, set_index: int) -> list[int]:
        """Return the first word of each fingerprint of a set: 0 for a vacant slot."""
        return self._fingerprint_column(set_index, 0)

    def holders(self, place: Place) -> list[Slot]:
        """Return the slots of the units of a key that processes have in flight."""
        return [slot for slot in self.of_key(place) if slot.words[TAG] & HOLDER]

    def place_of_digest(self, digest: Digest) -> Place:
        """Return where the key of a digest belongs; the digest has the second half of its fingerprint."""
        return self.placed(_ABSENT + bytes.fromhex(digest.digits), None)

    def bucket_of_half(self, place: Place) -> Place | None:
        """Return the place with the whole fingerprint, from the slot of the key's bucket; None without a bucket."""
        for slot in self.of_key(place):
            if not slot.words[TAG] & (BLOCK | HOLDER | LEASE):
                at = self._geometry.set_at(place.set_index) * WORD + slot.number * FINGERPRINT
                return self.placed(bytes(self._memory[at : at + FINGERPRINT]), None)
        return None

    def blocks(self, place: Place) -> list[Slot]:
        """Return the slots of blocks of a key: one at most."""
        return [slot for slot in self.of_key(place) if slot.words[TAG] & BLOCK]

    def leases(self, place: Place) -> list[Slot]:
        """Return the slots of what this host was issued of a key."""
        return [slot for slot in self.of_key(place) if slot.words[TAG] & LEASE]

    def of_key(self, place: Place) -> list[Slot]:
        """Return the slots of a key: of its bucket, its block, its leases, and its units in flight."""
        half = int.from_bytes(place.fingerprint[WORD:], "little")
        seconds = self._fingerprint_column(place.set_index, 1)
        # A slot that was vacated keeps no half, but one whose key died in the middle of its coming might.
        return [
            self.slot(place.set_index, number)
            for number, second in enumerate(seconds)
            if second == half and self.is_occupied(place.set_index, number)
        ]

    def column(self, set_index: int, word: int) -> list[int]:
        """Return one word of every slot of a set."""
        first, end = self._geometry.slots_at(set_index), self._geometry.set_at(set_index + 1)
        return self._words[first + word : end : SLOT_WORDS].tolist()

    def is_past(self, idle_at_ns: int, now_ns: int) -> bool:
        """Return whether a bucket has been idle for the minimum TTL: it is as good as swept, whether or not it was."""
        return idle_at_ns + self._words[MIN_TTL_AT] <= now_ns

    def _fingerprint_column(self, set_index: int, word: int) -> list[int]:
        first, end = self._geometry.set_at(set_index), self._geometry.slots_at(set_index)
        return self._words[first + word : end : _FINGERPRINT_WORDS].tolist()

    def vacate(self, set_index: int, slot: Slot) -> None:
        """Take a slot from its key."""
        # The tag first: a hint must not go on counting in a slot that others no longer find.
        slot.words[TAG] &= FLAGS
        self.publish(set_index, slot.number, VACANT)

    def publish(self, set_index: int, number: int, fingerprint: bytes) -> None:
        """Give a slot, its words in order, to the key of `fingerprint`."""
        at = self._geometry.set_at(set_index) * WORD + number * FINGERPRINT
        self._memory[at : at + FINGERPRINT] = fingerprint


def is_text_of(secret: bytes, text: bytes, fingerprint: bytes) -> bool:
    """Return whether a fingerprint is of the key with this text, or of a block of that key.

    Args:
        secret: The key of the table's hash.
        text: The whole key, as `encoded` returns it.
        fingerprint: The fingerprint.
    """
    hashed = _keyed(secret)
    hashed.update(text)
    return hashed.digest()[WORD:] == fingerprint[WORD:]


def _keyed(secret: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(key=secret, digest_size=FINGERPRINT)


def is_short(key: str) -> bool:
    """Return whether a process may remember a key: it takes 256 bytes at most."""
    return len(key) * (1 if key.isascii() else _WIDE) <= _SHORT


def _occupying(digest: bytes) -> bytes:
    """Return a fingerprint whose first word is not 0, which would say that the slot is vacant."""
    return b"\1" + digest[1:] if digest.startswith(_ABSENT) else digest


def next_tag(record: memoryview, flags: int) -> int:
    """Return a tag that no slot of the stripe had before."""
    # Counted before it is used: no two states of a slot's identity or quota ever share a tag.
    record[GENERATION] += 1
    return record[GENERATION] << GENERATION_SHIFT | flags
