"""The byte map of a segment: pure arithmetic, no operating system.

A segment is a header, then the seats, the tallies, the stripes, the sets, and the labels if there are any. Everything
is an aligned little-endian 64-bit word unless the table says otherwise; an offset below counts words from the start of
its record.

    record   word        type      unit            guarded by
    -------  ----------  --------  --------------  ------------------------------------------------------------
    header    0          magic                     registry lock; written last when the segment is made
              1          version                   as magic, never changes afterwards, like all up to word 18
              2          digest    blake2b-64      over words 3 to 18
              3          size      bytes
              4          initial_size  slots       what the creator asked for
              5          sets
              6          set_slots slots
              7          stripes
              8          seats
              9          created   ns, monotonic
             10-11       boot id   16 bytes
             12          pid namespace             inode number
             13          time namespace            inode number; 0 if the kernel has none
             14          label_size bytes          of key text that a label has room for; 0: there are no labels
             15-18       secret    32 bytes        key of the fingerprint hash
             19          ttl_interval  ns          no lock: one store; the latest opener's holds
             20          min_ttl   ns              no lock: one store; the latest opener's holds
             21          sweeper   pid             sweeper lock
             22          heartbeat ns, monotonic   sweeper lock
             23          passes    count           sweeper lock
             24          recoveries  count         registry lock
             25          sweep     ns              sweeper lock; how long the last pass took
             26          swept     ns              sweeper lock; how long all passes took
    seat      0          pid                       registry lock; written last when a seat is given out
              1          start     clock ticks     registry lock
              2          role                      registry lock
              3          timeouts  count           its owner
              4          committed 0 or 1          its owner; after its death registry lock
              5-9        waits     count           its owner; by how long they were, WAITS_NS
              10         waited    ns              its owner; all waits together
              16-        phase     IDLE, BUSY or LOST  its owner; one word a stripe; LOST or dead: registry lock
    tally     0          pid                       registry lock; 0 if it has no process
              1          start     clock ticks     registry lock
              2          allowed   count           its owner, like the five below; they outlive it
              3          denied    count
              4          overruled count           not denied, and not served
              5          shadow    count           would have been denied
              6          errors    count           the store failed
              7          near      count           allowed, and left less than a fifth of the limit
              8          length    bytes           registry lock; of the name, never changes afterwards
              9-16       name      UTF-8           registry lock; written before its length
             17-23       (unused)
    requests  the tally named TALLY_REQUESTS counts requests, and not the decisions of a policy
              2          allowed   count           its owner, like the three below
              3          denied    count
              4          failed    count           answered 503
              5          unlimited count           served although a policy could not decide
    stripe    0          generation  count         the stripe, like the whole record
              1          allowed   count
              2          denied    count
              3          other     count           holds that decided nothing
              4          expired   slots           reclaimed for a new key: idle for the minimum TTL
              5          idle      slots           reclaimed for a new key: refilled, nothing forgotten
              6          evicted   slots           reclaimed for a new key: still had spent units
              7          swept     slots           reclaimed by a sweep
              8          refused   count           new keys that got no slot
              9          shadow    count           takes in shadow mode that would have been denied
              10         blocked   ns, monotonic   until then, at the latest, keys of the stripe may be blocked
              16         length    words           of what follows
              17-        journal   pairs           of a word's index in the segment and its new value
    set       set_slots fingerprints of 16 bytes, then set_slots slots; guarded by stripe (set number mod stripes)
    slot      0          first     (algorithm)     the set's stripe, like the whole record
              1          idle_at   ns, monotonic   from then on the bucket is indistinguishable from a fresh one
              2          third     (algorithm)
              3          limit     units
              4          interval  ns
              5          burst     units           most units at once
              6          tag       generation * 256 + flags; generation 0 for a slot that no hint may point at
    holder    a slot with this flag: units of a concurrency limit that one process has in flight
              0          units     units
              1          idle_at   HELD, or ns     since when there are no units
              2          (unused)
              3          limit     units
              4          pid
              5          start     clock ticks
              6          as in a slot
    block     a slot with this flag: until `idle_at`, nothing is taken from a key
    lease     a slot with this flag: what this host was issued of a limit that others share, until `idle_at`; its
              algorithm is one of three kinds (shm_store/table/leases.py)
              0          spent     units           at most `burst`
              1          idle_at   ns, monotonic   when it ends
              2          resets    ns, monotonic   when the limit is full again
              3          limit     units           most units at once
              4          number                    what the issuer calls it; of a denial, when to ask again
              5          burst     units           up to which `spent` may go
    unasked   an override with this flag: it adopts the algorithm and the burst of the key's first take
    flags     bit 0 override, bit 1 holder, bits 2-4 algorithm, bit 5 block, bit 6 lease, bit 7 unasked
    label     0          allowed   count           the set's stripe, like the whole record; takes of the slot's key
              1          denied    count           those in shadow mode included
              2          quiet     ns, monotonic   until then, what the log says of its denials was said
              3          length    bytes           of the key, which may be more than there is room for; or UNKNOWN
              4-         key       UTF-8           surrogates as they are; written before the slot gets its fingerprint
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from shm_store.process.namespaces import Host, Namespaces

MAGIC: Final = int.from_bytes(b"shmstore", "little")
# Left by a creator that died before it wrote MAGIC: the segment may be made anew.
MAGIC_UNFINISHED: Final = int.from_bytes(b"unfinish", "little")
VERSION: Final = 7

WORD: Final = 8
SEATS: Final = 512
SET_SLOTS_MAX: Final = 128
FINGERPRINT: Final = 16
SECRET: Final = 32
VACANT: Final = bytes(FINGERPRINT)

HEADER_WORDS: Final = 64
HEADER_SIZE: Final = HEADER_WORDS * WORD
HEADER_FIXED: Final = struct.Struct("<7Q16s3Q32s")
HEADER_FIXED_AT: Final = 3 * WORD
MAGIC_AT, VERSION_AT, DIGEST_AT, SIZE_AT = range(4)
TTL_INTERVAL_AT, MIN_TTL_AT, SWEEPER_AT, HEARTBEAT_AT, PASSES_AT, RECOVERIES_AT, SWEEP_AT, SWEPT_AT = range(19, 27)

SEAT_PID, SEAT_START, SEAT_ROLE, SEAT_TIMEOUTS, SEAT_COMMITTED = range(5)
SEAT_WAITS: Final = 5
#: Upper ends of the classes of waits, but for the last, which has none.
WAITS_NS: Final = (100_000, 1_000_000, 10_000_000, 100_000_000)
SEAT_WAITED: Final = SEAT_WAITS + len(WAITS_NS) + 1
SEAT_PHASES: Final = 16
IDLE, BUSY, LOST = range(3)

TALLIES: Final = 1024
TALLY_WORDS: Final = 24
TALLY_PID, TALLY_START = range(2)
TALLY_COUNTS: Final = range(2, 8)
TALLY_LENGTH: Final = 8
TALLY_NAME: Final = 9
TALLY_NAME_MAX: Final = 64
#: The name of the tally that counts requests, which no policy can have.
TALLY_REQUESTS: Final = "(requests)"

STRIPE_WORDS: Final = 1024
GENERATION, ALLOWED, DENIED, OTHER, EXPIRED, RECLAIMED_IDLE, EVICTED, SWEPT, REFUSED, SHADOW, BLOCKED = range(11)
JOURNAL_LENGTH: Final = 16
JOURNAL: Final = 17
JOURNAL_WORDS: Final = STRIPE_WORDS - JOURNAL

SLOT_WORDS: Final = 7
FIRST, IDLE_AT, THIRD, LIMIT, INTERVAL, BURST, TAG = range(SLOT_WORDS)
HOLDER_PID, HOLDER_START = INTERVAL, BURST
#: When a bucket with units in flight is idle: never, as long as it has them.
HELD: Final = 2**63 - 1
GENERATION_SHIFT: Final = 8
FLAGS: Final = (1 << GENERATION_SHIFT) - 1
OVERRIDE: Final = 1
HOLDER: Final = 2
ALGORITHM_SHIFT: Final = 2
ALGORITHM_MASK: Final = 7
BLOCK: Final = 32
LEASE: Final = 64
UNASKED: Final = 128

LABEL_USAGE: Final = 2
LABEL_ALLOWED, LABEL_DENIED, LABEL_QUIET, LABEL_LENGTH, LABEL_TEXT = range(5)
#: The length of a key whose text is not known.
UNKNOWN: Final = 2**64 - 1

assert HEADER_FIXED.size == 16 * WORD
assert HEADER_FIXED_AT + HEADER_FIXED.size == TTL_INTERVAL_AT * WORD
assert SEAT_COMMITTED < SEAT_WAITS
assert SEAT_WAITED < SEAT_PHASES
assert TALLY_COUNTS.stop == TALLY_LENGTH
assert TALLY_NAME * WORD + TALLY_NAME_MAX <= TALLY_WORDS * WORD
assert BLOCKED < JOURNAL_LENGTH

#: A view of one word, `word[()]`, which is read and written in half the time of an item of a longer view.
Word: TypeAlias = "memoryview[int]"


def word(words: memoryview, index: int) -> Word:
    """Return a view of the word at `index` alone."""
    return words[index : index + 1].cast("B").cast("Q", ())


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
        return SEAT_PHASES + -(-self.stripes // 8) * 8

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
    def set_words(self) -> int:
        """Words of one set: its fingerprints and its slots."""
        return self.set_slots * (FINGERPRINT // WORD + SLOT_WORDS)

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

    def set_at(self, set_index: int) -> int:
        """First word of a set, which is the first of its fingerprints."""
        return self.sets_at + set_index * self.set_words

    def slots_at(self, set_index: int) -> int:
        """First word of a set's slots."""
        return self.set_at(set_index) + self.set_slots * (FINGERPRINT // WORD)

    def label_at(self, set_index: int, number: int) -> int:
        """First word of the label of a slot, by its number in its set."""
        return self.labels_at + (set_index * self.set_slots + number) * self.label_words


class Header(NamedTuple):
    """The part of the header that never changes once the segment is made."""

    size: int
    geometry: Geometry
    created_ns: int
    host: Host
    secret: bytes

    def pack(self) -> bytes:
        """Return words 3 to 18."""
        *sizes, label_size = self.geometry
        boot_id, namespaces = self.host
        return HEADER_FIXED.pack(self.size, *sizes, self.created_ns, boot_id, *namespaces, label_size, self.secret)

    @classmethod
    def unpack(cls, fixed: bytes) -> Header:
        """Read words 3 to 18."""
        size, *sizes, created_ns, boot_id, pids, time, label_size, secret = HEADER_FIXED.unpack(fixed)
        geometry = Geometry._make([*sizes, label_size])
        return cls(size, geometry, created_ns, Host(boot_id, Namespaces(pids, time)), secret)
