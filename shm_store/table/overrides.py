"""Overrides: quotas that are stored for one key alone, kept until the key is reset.

An override has the algorithm and the burst of the bucket that the key has. One that is stored before the key's first
take is unasked: it adopts the algorithm and the burst of the first quota that a take asks about (`Account.adopt`).
Everything here runs under the stripe of the key's set.
"""

from __future__ import annotations

from shm_store.core.algorithms import FRESH, Terms
from shm_store.table.accounts import Account
from shm_store.table.buckets import Buckets
from shm_store.table.locking.stripes import Hold
from shm_store.table.records.slots import Place, Slot
from shm_store.table.segment.layout import INTERVAL, LIMIT, OTHER, OVERRIDE, TAG, UNASKED


def store(buckets: Buckets, hold: Hold, place: Place, terms: Terms, *, keep_spent: bool) -> bool:
    """Store an override, all of it or nothing; return whether it changed anything.

    Args:
        buckets: The buckets of the segment.
        hold: The stripe.
        place: Where the key belongs.
        terms: The limit and the interval, with a burst that equals the limit.
        keep_spent: Whether the units that are spent stay spent. Then the same override again changes nothing: hints and
            reservations of the bucket go on. Otherwise the bucket is full, and they end.

    Raises:
        TableFullError: The key is new, and its set has no slot to give up.
    """
    slot = buckets.slots.find(place)
    hold.records[place.stripe][OTHER] += 1
    if slot is None:
        buckets.admit(hold, place, state=FRESH, terms=terms, flags=OVERRIDE | UNASKED, kept=())
        return True
    if keep_spent and _is_stored(slot, terms):
        return False
    account = _overridden(buckets, place, slot, terms)
    if not keep_spent:
        account.base = FRESH
        # Even over an override of the same quota: this ends hints and reservations of the old bucket.
        account.stored[TAG] &= ~OVERRIDE
    buckets.alter(hold, account)
    return True


def _overridden(buckets: Buckets, place: Place, slot: Slot, terms: Terms) -> Account:
    """Return the account of a key under the override, with the units that are spent."""
    now_ns = buckets.clock()
    account = buckets.stored_quota(place, slot, now_ns)
    if buckets.is_expired(slot.words, now_ns):
        # As of a key that has no bucket.
        account.code, account.terms, account.flags = 0, terms, OVERRIDE | UNASKED
    else:
        account.override(terms, now_ns)
    return account


def _is_stored(slot: Slot, terms: Terms) -> bool:
    """Return whether a slot has an override of this limit and interval."""
    words = slot.words
    return bool(words[TAG] & OVERRIDE) and (words[LIMIT], words[INTERVAL]) == (terms.limit, terms.interval_ns)
