"""Attachments: what all handles of this process on one segment share, and how long the process stays attached.

Handles come and go in any thread, in signal handlers, and in finalizers, which run between any two bytecodes. So no
lock guards their number. Each change of it is one statement without a call, a backward jump or a new container: at
those alone CPython switches threads, runs signal handlers and collects garbage. A test requires that of the bytecode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from shm_store.config import Config
from shm_store.errors import BackendError
from shm_store.process import forks
from shm_store.table.locking.recovery import Recovery
from shm_store.table.locking.seats import Role, Seats
from shm_store.table.segment import files, lifetime
from shm_store.table.segment.layout import ALLOWED, DENIED, STRIPE_WORDS, word
from shm_store.table.segment.mapping import Segment


class _Key(NamedTuple):
    """What two handles must have in common to share an attachment; a name may mean another file by now."""

    device: int
    inode: int
    role: Role


class Attachment:
    """A segment as this process has attached it once, for any number of handles.

    Attributes:
        segment: The mapping, the descriptor and the semaphores.
        seats: This process's seats.
        recovery: Frees what dead processes held.
        records: The records of the stripes.
        outcomes: Of each stripe its counters `allowed` and `denied`, for the hot path.
        handles: How many handles use it; 0 once the last one has left.
        is_opened: Whether a handle has opened it by a configuration, as services do and tools do not.
    """

    def __init__(self, segment: Segment, role: Role) -> None:
        """Begin with one handle, the caller's."""
        geometry = segment.header.geometry
        self.segment: Final = segment
        self.seats: Final = Seats(segment, role)
        self.recovery: Final = Recovery(segment, self.seats)
        stripes_at = map(geometry.stripe_at, range(geometry.stripes))
        self.records: Final = [segment.words[at : at + STRIPE_WORDS] for at in stripes_at]
        self.outcomes: Final = [(word(record, ALLOWED), word(record, DENIED)) for record in self.records]
        self.handles = 1
        self.is_opened = False
        # While as many handles or fewer use it, no further one may.
        self._closed_at = 0
        self._key: Final = _Key(*segment.identity, role)
        forks.register(self)

    @classmethod
    def open(cls, config: Config, role: Role) -> Attachment:
        """Return the segment of `config`, with one handle more; create it if there is none, see `lifetime`."""
        attachment = _found(config.name, role)
        if attachment is None:
            attachment = _registered(cls(lifetime.open_or_create(config), role))
        else:
            attachment.checked(config, config.owner)
        attachment.is_opened = True
        return attachment

    @classmethod
    def attach(cls, name: str, role: Role, owner: str | int | None) -> Attachment | None:
        """Return the segment `name`, with one handle more; None if there is none, see `lifetime.attach`."""
        attachment = _found(name, role)
        if attachment is not None:
            attachment.checked(None, owner)
            return attachment
        segment = lifetime.attach(name, owner=owner)
        return None if segment is None else _registered(cls(segment, role))

    def checked(self, config: Config | None, owner: str | int | None) -> None:
        """Check the segment again, for a handle that has just entered; let the handle leave if it is refused."""
        try:
            self.segment.verify(config, owner)
        except BaseException:
            self.leave(0)
            raise

    def enter(self) -> bool:
        """Count one handle more; return whether the segment is still attached."""
        # In one line: a debugger's or a profiler's trace function is called between lines.
        self.handles += (has_entered := self.handles > self._closed_at)
        return has_entered

    def leave(self, deadline_ns: int) -> None:
        """Count one handle less; the last one waits for other threads' operations, returns the seats and detaches."""
        handles = self.handles = self.handles - 1
        if handles == 0:
            if self.seats.close(deadline_ns):
                self.segment.close()
            forks.unregister(self)
            if _attached.get(self._key) is self:
                del _attached[self._key]

    def unlink(self) -> None:
        """Remove the segment; raise BackendError if another process, or another handle, is attached."""
        with self._alone():
            lifetime.remove_unused(self.segment.name, self.segment.fd)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._closed_at = 1
        try:
            if self.handles > 1:
                name, reason = self.segment.name, f"others are attached: this process has it open {self.handles} times"
                remedy = f"close the other stores first, or run: shm-store unlink --name {name} --force"
                raise BackendError(name, "unlink", reason, remedy)
            yield
        finally:
            self._closed_at = 0

    def after_fork(self) -> None:
        """Attach in one's own right, without seats: the parent goes on using its own."""
        self.seats.forget()
        self.segment.after_fork()


def _found(name: str, role: Role) -> Attachment | None:
    """Return what this process has attached under the name, with one handle more."""
    identity = files.identity(name)
    attachment = identity and _attached.get(_Key(*identity, role))
    return attachment if attachment and attachment.enter() else None


def _registered(mine: Attachment) -> Attachment:
    """Return `mine`, or the attachment that another thread has made while this one made `mine`."""
    key = mine._key  # noqa: SLF001 - of this module
    found = _attached.setdefault(key, mine)
    if found is not mine and found.enter():
        mine.leave(0)
        return found
    # The last handle of what was there has just left it.
    _attached[key] = mine
    return mine


def opened() -> list[Segment]:
    """Return the segments that stores of this process have open, for hooks that look after them."""
    return [each.segment for each in tuple(_attached.values()) if each.is_opened]


#: Called with the name of each segment that a store opens from now on.
on_open: Final[list[Callable[[str], None]]] = []
_attached: Final[dict[_Key, Attachment]] = {}
