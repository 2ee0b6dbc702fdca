"""Attaches the segment that a command is about."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from shm_store.cli.codes import AbsentError
from shm_store.cli.escaping import visible
from shm_store.core.digest import Digest, written
from shm_store.core.quoting import SHOWN_MAX
from shm_store.operate.inspection import Inspection, tables
from shm_store.operate.spelling import close_to
from shm_store.store import ShmStore

# Tables that an error names.
_NAMED: Final = 8


@contextmanager
def inspected(name: str, owner: str | None) -> Iterator[Inspection]:
    """Look at the segment `name`; raise AbsentError if there is none."""
    inspection = Inspection.attach(name, owner=owner)
    if inspection is None:
        raise no_segment(name)
    with inspection:
        yield inspection


@contextmanager
def opened(name: str, owner: str | None) -> Iterator[ShmStore]:
    """Open the segment `name`, to change it; raise AbsentError if there is none."""
    store = ShmStore.attach(name, owner=owner)
    if store is None:
        raise no_segment(name)
    with store:
        yield store


def no_segment(name: str) -> AbsentError:
    """Return the error that there is no such segment; it names those that are most like it."""
    there = [other for other in tables() if other != name]
    nearest = difflib.get_close_matches(name, there, n=_NAMED, cutoff=0.0)
    named = ", ".join([*map(visible, nearest), *(["..."] if len(there) > _NAMED else [])])
    remedy = f"choose one with --name: {named}" if there else "start what makes it"
    return AbsentError(f"there is no segment {name!r}; {remedy}")


def no_key(inspection: Inspection, name: str, key: str | Digest) -> AbsentError:
    """Return the error that there is no such key, with keys much like it."""
    near = [] if isinstance(key, Digest) else close_to(inspection, key)
    return AbsentError(f'there is no key "{shown_key(key)}" in segment {name!r}{did_you_mean(near)}')


def shown_key(key: str | Digest) -> str:
    """Return a key as an operator writes it, for a message on a terminal."""
    return visible(written(key), SHOWN_MAX) if isinstance(key, str) else str(key)


def did_you_mean(near: Sequence[str]) -> str:
    """Return the end of a message, which names keys that were perhaps meant; empty if there are none."""
    # In quotes where a shell would read more into it than a word: clients choose keys.
    return f"; did you mean {' or '.join(shlex.quote(visible(key, SHOWN_MAX)) for key in near)}?" if near else ""
