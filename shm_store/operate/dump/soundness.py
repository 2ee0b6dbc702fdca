"""Checks a slot of a dump: every process trusts a loaded slot (I5), and a table in use changes as it is read."""

from __future__ import annotations

from typing import Final

from shm_store.operate import audit
from shm_store.operate.dump.file import Head, Saved
from shm_store.table.records.slots import is_text_of
from shm_store.table.segment.layout import FINGERPRINT, UNKNOWN, WORD

# More than ever happens, and far from what a word holds.
_COUNT_MAX: Final = 2**63 - 1


def is_sound(saved: Saved, head: Head, now_ns: int) -> bool:
    """Return whether the table that `head` describes can have had this slot now."""
    return (
        len(saved.fingerprint) == FINGERPRINT
        and any(saved.fingerprint[:WORD])
        and saved.record.idle_at_ns >= 0
        and not any(audit.record_faults(saved.record, now_ns))
        and has_sound_label(saved, head)
    )


def has_sound_label(saved: Saved, head: Head) -> bool:
    """Return whether the slot can have this label; a text that is whole has the slot's fingerprint."""
    if not head.label_size and (saved.key_length != UNKNOWN or saved.allowed or saved.denied):
        return False
    if not (0 <= saved.allowed <= _COUNT_MAX and 0 <= saved.denied <= _COUNT_MAX):
        return False
    if saved.key_length == UNKNOWN:
        return not saved.key
    if len(saved.key) != min(saved.key_length, head.label_size):
        return False
    is_whole = saved.key_length <= head.label_size
    return not is_whole or is_text_of(head.secret, saved.key, saved.fingerprint)
