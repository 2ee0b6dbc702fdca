"""Spelling: a set or blocked key that no take has met may be mistyped; the doubt names the keys much like it."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Callable, Iterable
from os.path import commonprefix
from typing import Final

import msgspec

from shm_store.config import LABEL_SIZE_MAX
from shm_store.core.digest import Digest, written
from shm_store.core.quoting import excerpt, shown
from shm_store.core.validation import require_instance
from shm_store.operate.inspection import Inspection

_DEFAULT: Final = "default"
_EXAMPLE: Final = "client:203.0.113.7"
# Keys that are compared at length, of those that begin and end most like the one that was written.
_COMPARED: Final = 32
_SHOWN: Final = 3
_LIKENESS: Final = 0.75


class Doubt(msgspec.Struct, frozen=True):
    """Why a key may be mistyped.

    Attributes:
        note: One line for people.
        near: Keys that are there and much like it, as operators write them, the most alike first.
    """

    note: str
    near: list[str]


def doubt(inspection: Inspection, key: str | Digest) -> Doubt | None:
    """Return why a key may be mistyped; None if a take has met it, or if it is given by its digest.

    Reads the whole table where it keeps texts, without any stripe: some 12 µs for each key.

    Raises:
        ConfigurationError: `inspection` is no Inspection, or `key` neither a text nor a Digest.
    """
    require_instance("inspection", inspection, Inspection, "give what `ShmStore.inspect` returns")
    if isinstance(key, Digest) or any(entry.is_met for entry in inspection.entry(key)):
        return None
    policies = [*inspection.policies()]
    near = close_to(inspection, key)
    policy = key.partition(":")[0]
    known = policies[0] if policies and _DEFAULT not in policies else _DEFAULT
    note = f"no bucket of this key exists yet: check the spelling, keys look like {known}:{_EXAMPLE}"
    if policies and policy not in policies:
        alike = difflib.get_close_matches(policy, policies, n=1)
        mended = f"the nearest is {alike[0]}" if alike else f"it has {excerpt(', '.join(policies))}"
        note += f"; this table has no policy {shown(policy)}, {mended}"
    return Doubt(note, near)


def close_to(inspection: Inspection, key: str) -> list[str]:
    """Return keys of the table that are much like `key`, as operators write them; none where texts are not kept."""
    if len(key) > LABEL_SIZE_MAX:
        return []
    texts = {entry.key for entry in inspection.entries() if entry.key is not None and entry.is_met}
    return [written(text) for text in _alike(key, texts - {key})]


def _alike(key: str, texts: Iterable[str]) -> list[str]:
    # A key without its policy, or with a wrong one, and keys with a slip in one place.
    ends = heapq.nlargest(_COMPARED, texts, key=_likeness_to(key))
    who = key.partition(":")[2]
    tails = [text for text in ends if text.endswith(f":{key}") or (who and text.partition(":")[2] == who)]
    slips = difflib.get_close_matches(key, ends, n=_SHOWN, cutoff=_LIKENESS)
    found = dict.fromkeys([*tails, *slips])
    return heapq.nlargest(_SHOWN, found, key=lambda text: difflib.SequenceMatcher(None, text, key).ratio())


def _likeness_to(key: str) -> Callable[[str], int]:
    """Return what counts the characters that a text has in common with `key` at both ends."""
    backward = key[::-1]

    def shared(text: str) -> int:
        # It compares characters, not paths: this module needs that, and a loop of its own takes twice as long.
        return len(commonprefix((key, text))) + len(commonprefix((backward, text[::-1])))  # noqa: RUF071

    return shared
