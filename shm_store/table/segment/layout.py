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
              16         length    words           of the log that begins here
              17-        journal   pairs           of a word's index in the segment and its new value; of a log that is
                                                   longer, the rest is in the journals of the next stripes held
    set       three columns, each up to a whole number of cache lines: set_slots control bytes, as many fingerprints of
              16 bytes, and as many slots; guarded by stripe (set number mod stripes)
    control   a byte that is 0 while its slot is vacant; else the first byte of the slot's fingerprint, 1 if that is 0
    slot      one cache line, of one of four kinds; word 1 is when it may go to another key, word 7 the tag
    bucket    0, 2, 3    state     (algorithm)     the set's stripe, like the whole record
              1          idle_at   ns, monotonic   from then on the bucket is indistinguishable from a fresh one
              4          limit     units
              5          interval  ns
              6          burst     units           most units at once
              7          tag
    in flight 0          units     units           of a concurrency limit that one process has in flight
              1          idle_at   ns, monotonic   since when there are no units; NEVER_IDLE with units
              4          limit     units
              5          pid
              6          start     clock ticks
              7          tag
    block     1          ends      ns, monotonic   until then, nothing is taken from the key
              7          tag
    lease     0          spent     units           of a limit that hosts share: at most `most`
              1          ends      ns, monotonic   until then it decides
              2          resets    ns, monotonic   when the limit is full again
              3          again     ns, monotonic   of a denial: when there is a unit again
              4          limit     units           most units at once
              5          number                    the issuer's
              6          most      units           up to which `spent` may go
              7          tag
    tag       generation * 256 + flags; generation 0 for a slot that no hint may point at
    flags     bits 0-1 kind; bits 2-4 code: of a bucket its algorithm's, of a lease its state; bit 5 override, bit 6
              unasked: an override that adopts the algorithm and the burst of the key's first take
    label     0          allowed   count           the set's stripe, like the whole record; takes of the slot's key
              1          denied    count           those in shadow mode included
              2          quiet     ns, monotonic   until then, what the log says of its denials was said
              3          length    bytes           of the key, which may be more than there is room for; or UNKNOWN
              4-         key       UTF-8           surrogates as they are; written before the slot gets its fingerprint
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

MAGIC: Final = int.from_bytes(b"shmstore", "little")
# Left by a creator that died before it wrote MAGIC: the segment may be made anew.
MAGIC_UNFINISHED: Final = int.from_bytes(b"unfinish", "little")
VERSION: Final = 10

WORD: Final = 8
WORD_MAX: Final = 2**64 - 1
CACHE_LINE: Final = 64
SEATS: Final = 512
SET_SLOTS_MAX: Final = 128
FINGERPRINT: Final = 16
SECRET: Final = 32
#: The control byte of a slot that no key has.
VACANT: Final = 0

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
# Whole pairs alone.
JOURNAL_WORDS: Final = (STRIPE_WORDS - JOURNAL) // 2 * 2

SLOT_WORDS: Final = 8
STATE_WORDS: Final = 4
#: Of every kind of slot.
IDLE_AT, TAG = 1, 7
LIMIT, INTERVAL, BURST = range(STATE_WORDS, TAG)
IN_FLIGHT_UNITS, IN_FLIGHT_LIMIT, IN_FLIGHT_PID, IN_FLIGHT_START = 0, 4, 5, 6
BLOCK_ENDS: Final = IDLE_AT
LEASE_SPENT, LEASE_ENDS, LEASE_RESETS, LEASE_AGAIN, LEASE_LIMIT, LEASE_NUMBER, LEASE_MOST = range(TAG)
#: When a slot with units in flight is idle: never, as long as it has them.
NEVER_IDLE: Final = 2**63 - 1

GENERATION_SHIFT: Final = 8
FLAGS: Final = (1 << GENERATION_SHIFT) - 1
KIND_MASK: Final = 3
BUCKET, IN_FLIGHT, BLOCK, LEASE = range(KIND_MASK + 1)
CODE_SHIFT: Final = 2
CODE_MASK: Final = 7
OVERRIDE: Final = 32
UNASKED: Final = 64
#: The codes of leases.
DENIAL, UNITS, PENDING = range(3)

LABEL_USAGE: Final = 2
LABEL_ALLOWED, LABEL_DENIED, LABEL_QUIET, LABEL_LENGTH, LABEL_TEXT = range(5)
#: The length of a key whose text is not known.
UNKNOWN: Final = WORD_MAX

assert HEADER_FIXED.size == 16 * WORD
assert HEADER_FIXED_AT + HEADER_FIXED.size == TTL_INTERVAL_AT * WORD
assert SEAT_COMMITTED < SEAT_WAITS
assert SEAT_WAITED < SEAT_PHASES
assert TALLY_COUNTS.stop == TALLY_LENGTH
assert TALLY_NAME * WORD + TALLY_NAME_MAX <= TALLY_WORDS * WORD
assert BLOCKED < JOURNAL_LENGTH
assert LEASE_ENDS == IDLE_AT

#: A view of one word, `word[()]`, which is read and written in half the time of an item of a longer view.
Word: TypeAlias = "memoryview[int]"


def word(words: memoryview, index: int) -> Word:
    """Return a view of the word at `index` alone."""
    return words[index : index + 1].cast("B").cast("Q", ())
