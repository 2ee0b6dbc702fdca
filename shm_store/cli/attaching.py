"""Attaches the segment that a command is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shm_store.cli.codes import AbsentError
from shm_store.cli.escaping import visible
from shm_store.entry import Entry
from shm_store.inspection import Inspection, tables
from shm_store.store import ShmStore

# Tables that an error names.
_NAMED: Final = 8
_DIGEST: Final = re.compile(r"#([0-9a-fA-F]{16})")


@contextmanager
def inspected(name: str) -> Iterator[Inspection]:
    """Look at the segment `name`.

    Raises:
        AbsentError: There is none.
    """
    inspection = Inspection.attach(name)
    if inspection is None:
        raise no_segment(name)
    with inspection:
        yield inspection


@contextmanager
def opened(name: str) -> Iterator[ShmStore]:
    """Open the segment `name`, to change it.

    Raises:
        AbsentError: There is none.
    """
    store = ShmStore.attach(name)
    if store is None:
        raise no_segment(name)
    with store:
        yield store


def digest_in(key: str) -> str | None:
    """Return the digest that is given in place of a key's text; None if it is a text."""
    match = _DIGEST.fullmatch(key)
    return match and match[1].lower()


def entries_of(inspection: Inspection, key: str) -> list[Entry]:
    """Return what is known of a key that is given as text or as a digest."""
    digest = digest_in(key)
    # A key may look like a digest, and is then one that no text has.
    found = [] if digest is None else inspection.find(digest)
    return found or inspection.entry(key)


def no_segment(name: str) -> AbsentError:
    """Return the error that there is no such segment."""
    there = [visible(other) for other in tables() if other != name]
    named = ", ".join([*there[:_NAMED], *(["..."] if len(there) > _NAMED else [])])
    remedy = f"choose one with --name: {named}" if there else "start what makes it"
    return AbsentError(f"there is no segment {name!r}; {remedy}")


def no_key(name: str, key: str) -> AbsentError:
    """Return the error that there is no such key."""
    return AbsentError(f'there is no key "{visible(key)}" in segment {name!r}')
