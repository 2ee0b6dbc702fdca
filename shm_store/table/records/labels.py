"""Labels: for operators, the text of each slot's key, and how often it was taken from, in tables with a `label_size`.

Everything here runs under the stripe of the slot's set, but for `text_of`. A label is written before its slot gets
the key's fingerprint.
"""

from __future__ import annotations

from typing import Final

from shm_store.table.segment.layout import (
    LABEL_ALLOWED,
    LABEL_DENIED,
    LABEL_LENGTH,
    LABEL_QUIET,
    LABEL_TEXT,
    LABEL_USAGE,
    UNKNOWN,
    WORD,
)
from shm_store.table.segment.mapping import Segment

#: Of keys: one to one, as no two texts have the same bytes.
ENCODING: Final = "utf-8"
ERRORS: Final = "surrogatepass"


class Labels:
    """The labels of one segment that has them."""

    def __init__(self, segment: Segment) -> None:
        self._memory = segment.memory
        self._words = segment.words
        self._geometry = segment.header.geometry

    def write(self, set_index: int, number: int, key: str | None) -> None:
        """Label a vacant slot with the key that is to get it, None for a key without a text; counts begin at 0."""
        at = self._geometry.label_at(set_index, number)
        text = b"" if key is None else encoded(key)
        kept = text[: self._geometry.label_size]
        words = self._words
        words[at + LABEL_ALLOWED] = words[at + LABEL_DENIED] = words[at + LABEL_QUIET] = 0
        words[at + LABEL_LENGTH] = UNKNOWN if key is None else len(text)
        first = (at + LABEL_TEXT) * WORD
        self._memory[first : first + len(kept)] = kept

    def restore(self, set_index: int, number: int, text: bytes | None, length: int, usage: tuple[int, int]) -> None:
        """Label a slot of a loaded table as a label of its key was in the dump.

        After the fingerprint, against I8: a dump knows keys by that, and no process has attached the table yet. The
        text is the kept bytes of the key, None if there are none; the length is that of the whole key.
        """
        at = self._geometry.label_at(set_index, number)
        size = self._geometry.label_size
        kept = b"" if text is None else text[:size]
        first = (at + LABEL_TEXT) * WORD
        self._memory[first : first + size] = kept.ljust(size, b"\0")
        # Of a key that was cut short, the length says that there is more, whatever room there is now.
        cut = len(kept) < length
        self._words[at + LABEL_LENGTH] = UNKNOWN if text is None else max(length, size + 1) if cut else length
        self._words[at + LABEL_ALLOWED], self._words[at + LABEL_DENIED] = usage

    def key(self, set_index: int, number: int) -> str | None:
        """Return the key of a slot; None if the label does not hold all of it."""
        at = self._geometry.label_at(set_index, number)
        label = self._words[at : at + self._geometry.label_words]
        return text_of(label, self._geometry.label_size) if label[LABEL_LENGTH] <= self._geometry.label_size else None

    def usage(self, set_index: int, number: int) -> memoryview:
        """Return how many takes were allowed and how many denied, as two words to be raised."""
        at = self._geometry.label_at(set_index, number)
        return self._words[at : at + LABEL_USAGE]

    def count(self, set_index: int, number: int, *, allowed: bool) -> None:
        """Count a take."""
        at = self._geometry.label_at(set_index, number)
        self._words[at + (LABEL_ALLOWED if allowed else LABEL_DENIED)] += 1

    def begins_burst(self, set_index: int, number: int, now_ns: int, until_ns: int) -> bool:
        """Return whether a burst of the slot's denials begins now: once for all processes, until `until_ns`."""
        at = self._geometry.label_at(set_index, number) + LABEL_QUIET
        if now_ns < self._words[at]:
            return False
        self._words[at] = until_ns
        return True


def encoded(key: str) -> bytes:
    """Return a key in bytes."""
    return key.encode(ENCODING, ERRORS)


def text_of(label: memoryview, label_size: int) -> str | None:
    """Return the key that a label, given as its words, says; with an ellipsis where it had no room for all of it."""
    length = label[LABEL_LENGTH]
    if length == UNKNOWN:
        return None
    kept = label[LABEL_TEXT:].tobytes()[: min(length, label_size)]
    if length > label_size:
        return kept.rstrip(b"\0").decode("utf-8", "ignore") + "…"
    try:
        return kept.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        # Of a slot that was given to another key while it was read.
        return kept.decode("utf-8", "replace")
