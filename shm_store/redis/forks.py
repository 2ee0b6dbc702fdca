"""Forks: what has to be told that it is in a child now, where nothing of the parent's is its own."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Forked(Protocol):
    """What a child has to go on with otherwise."""

    def after_fork(self) -> None:
        """Leave to the parent what is its own."""
        ...


_forked: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def register(forked: Forked) -> None:
    """Have `after_fork` of an object called in each child that is forked while there is the object."""
    _forked.add(forked)


def _in_child() -> None:
    for each in list(_forked):
        each.after_fork()


os.register_at_fork(after_in_child=_in_child)
