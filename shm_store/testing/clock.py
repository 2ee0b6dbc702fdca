"""A clock that stands still until a process advances it."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shm_store.core import loops
from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import ConfigurationError
from shm_store.process import identity
from shm_store.quota import INTERVAL_MAX_NS, require_integer
from shm_store.table.host.system import fcntl, require_supported
from shm_store.table.segment.files import FOLDER
from shm_store.testing.coroutines import Coroutines
from shm_store.testing.sleepers import Sleepers, closed, required

_INSTANT_MAX_NS: Final = 2**63 - 1
# Words of the file that the processes share.
_NOW_AT, _IS_CLOSED_AT, _PID_AT, _START_AT = range(4)
_SIZE: Final = 4 * 8
# Real time, in which a sleeper notices that the process that made the clock was killed.
_LOOK_S: Final = 1.0
# Real time between two looks at how many sleepers there are.
_PAUSE_S: Final = 0.001


class FakeClock:
    """A clock for tests, on which time passes only when a test advances it.

    Open a store by it, `ShmStore.open(config, clock=clock)`. Then `acquire`, `acquire_async` and calls of `limited`
    functions sleep until a test has advanced the clock to the instant that they wait for. `wait_for_sleepers` returns
    once they sleep, so that a test does not advance too early.

    Any number of threads, coroutines and processes can use a clock. A forked process goes on with the clock that it
    inherits; pickling makes a copy of it for another process. All of them read, advance and wait for the same time.

    The process that makes a clock removes it by `close`, at the end of a `with` block, when nothing refers to it, or
    at exit. Then the copies in other processes stand still. To advance them, or to sleep by them, raises RuntimeError.

    Only stores go by this clock. Use a segment that the test alone uses: the sweeper and the command `shm-store`
    compare the table's instants with the system's clock, and take live buckets for expired ones. `garbage_collect` of
    a store goes by the store's clock. Lock timeouts, and the timeouts and back-offs of a server, are real time. A
    server forgets a bucket by its own clock: after the time until the bucket would be full, and `min_ttl`.

    Args:
        start_ns: The first instant in nanoseconds, 0 to 2**63 - 1. Windows of `fixed-window` begin at multiples of
            their interval.

    Raises:
        ConfigurationError: `start_ns` is out of range.
        UnsupportedPlatformError: The platform has no shared memory for stores.

    >>> with FakeClock() as clock:
    ...     began_ns = clock()
    ...     clock.advance("1500ms")
    ...     clock() - began_ns
    1500000000
    """

    def __init__(self, start_ns: int = 1_000 * NS_PER_SECOND) -> None:
        require_supported()
        require_integer("start_ns", start_ns, 0, _INSTANT_MAX_NS)
        # In memory, if the host has a place there.
        place = FOLDER if os.access(FOLDER, os.W_OK) else None
        directory = Path(tempfile.mkdtemp(prefix="shm-store-clock-", dir=place))
        try:
            _shared(directory).write_bytes(bytes(_SIZE))
            self._attach(directory)
        except BaseException:
            shutil.rmtree(directory)
            raise
        words, pid = self._words, os.getpid()
        words[_NOW_AT], words[_PID_AT], words[_START_AT] = start_ns, pid, identity.own_start_ticks()
        self._end: weakref.finalize[..., FakeClock] | None = weakref.finalize(self, _remove, directory, words)

    def _attach(self, directory: Path) -> None:
        """Go by the clock in `directory`."""
        self._directory = directory
        with _shared(directory).open("r+b") as file:
            self._words = words = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("q")
        self._sleepers = sleepers = Sleepers(directory)
        self._coroutines = Coroutines(
            sleepers, lambda instant_ns: words[_NOW_AT] >= instant_ns or bool(words[_IS_CLOSED_AT])
        )

    def __call__(self) -> int:
        """Return the instant in nanoseconds."""
        return self._words[0]

    def advance(self, duration: Duration) -> None:
        """Move the clock forwards, and wake the sleepers whose instant has come.

        Args:
            duration: Seconds, a text such as `"500ms"` or a `timedelta`; 0 to 100 years.

        Raises:
            ConfigurationError: It is no such duration, or the clock would pass 2**63 - 1.
            RuntimeError: The clock is closed.
        """
        length_ns = _length_ns(duration)
        self._move(lambda now_ns: now_ns + length_ns)

    def advance_to(self, instant_ns: int) -> None:
        """Move the clock forwards to an instant, and wake the sleepers; do nothing if it is past it already.

        Raises:
            ConfigurationError: The instant is no integer from 0 to 2**63 - 1.
            RuntimeError: The clock is closed.
        """
        require_integer("instant_ns", instant_ns, 0, _INSTANT_MAX_NS)
        self._move(lambda now_ns: max(now_ns, instant_ns))

    def set_back(self, duration: Duration) -> None:
        """Move the clock backwards, as the clock of a server may step. Sleepers sleep for longer.

        Args:
            duration: As for `advance`.

        Raises:
            ConfigurationError: It is no such duration, or the clock would be below 0.
            RuntimeError: The clock is closed.
        """
        length_ns = _length_ns(duration)
        self._move(lambda now_ns: now_ns - length_ns)

    def sleepers(self) -> list[int]:
        """Return the instants that threads and coroutines of all processes sleep until, in nanoseconds and in order.

        Each counts until the clock has come to its instant, or its process has ended.
        """
        return self._sleepers.after(self())

    def wait_for_sleepers(self, count: int = 1, timeout: Duration = "10s") -> None:
        """Return once at least `count` threads and coroutines of all processes sleep.

        Args:
            count: How many.
            timeout: Longest wait in real time, 0 to 100 years.

        Raises:
            TimeoutError: There were never so many within the timeout.
        """
        is_awake = self._awake(count, timeout)
        while is_awake():
            time.sleep(_PAUSE_S)

    async def wait_for_sleepers_async(self, count: int = 1, timeout: Duration = "10s") -> None:  # noqa: ASYNC109
        """Do the same, and let other tasks run."""
        is_awake = self._awake(count, timeout)
        while is_awake():
            await loops.sleep(_PAUSE_S)

    def sleep_until(self, instant_ns: int) -> None:
        """Return once the clock has come to an instant, in nanoseconds.

        Args:
            instant_ns: The instant, 0 to 2**63 - 1.

        Raises:
            ConfigurationError: It is no such instant.
            RuntimeError: The clock is closed, or the process that made it has ended.
        """
        if self._is_past(instant_ns):
            return
        with contextlib.closing(self._sleepers.bell()) as bell, self._sleepers.entered(instant_ns, bell):
            # Looked up now, not at import: gevent replaces it.
            ringing = select.poll()
            ringing.register(bell.fd, select.POLLIN)
            while not self._is_reached(instant_ns):
                ringing.poll(_LOOK_S * 1_000)
                bell.silence()

    async def sleep_until_async(self, instant_ns: int) -> None:
        """Do the same, and let other tasks run."""
        if self._is_past(instant_ns):
            return
        with self._coroutines.entered() as place, self._sleepers.entered(instant_ns, place.bell):
            while not self._is_reached(instant_ns):
                await place.wait(instant_ns, _LOOK_S)

    def close(self) -> None:
        """Remove the clock if this process made it; sleepers wake and raise RuntimeError. May be called again."""
        if self._end is not None:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> Path:
        return self._directory

    def __setstate__(self, directory: Path) -> None:
        with required(directory):
            self._attach(directory)
        # Its maker removes it.
        self._end = None

    def _move(self, moved: Callable[[int], int]) -> None:
        with self._locked():
            instant_ns = moved(self())
            if not 0 <= instant_ns <= _INSTANT_MAX_NS:
                raise ConfigurationError("instant", instant_ns, f"keep the clock from 0 to {_INSTANT_MAX_NS}")
            self._words[_NOW_AT] = instant_ns
        self._sleepers.wake(instant_ns)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Move the clock alone."""
        with required(self._directory):
            file = _shared(self._directory).open("rb")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                # Not by closing it: a child that was forked since has it open.
                fcntl.flock(file, fcntl.LOCK_UN)

    def _awake(self, count: int, timeout: Duration) -> Callable[[], bool]:
        """Return a function: whether fewer than `count` sleep. After the timeout it raises TimeoutError if they do."""
        require_integer("count", count, 0, _INSTANT_MAX_NS)
        deadline_ns = time.monotonic_ns() + _length_ns(timeout, "timeout")

        def awake() -> bool:
            found = len(self.sleepers())
            if found < count and time.monotonic_ns() > deadline_ns:
                remedy = "make sure that the others come to sleep, or raise the timeout"
                raise TimeoutError(f"after {timeout}, {found} of {count} sleep by the FakeClock: {remedy}")
            return found < count

        return awake

    def _is_past(self, instant_ns: int) -> bool:
        require_integer("instant_ns", instant_ns, 0, _INSTANT_MAX_NS)
        return self() >= instant_ns

    def _is_reached(self, instant_ns: int) -> bool:
        """Whether the clock has come to an instant; raise RuntimeError if it never will."""
        words = self._words
        if words[_NOW_AT] >= instant_ns:
            return True
        if words[_IS_CLOSED_AT] or not identity.is_alive(words[_PID_AT], words[_START_AT]):
            raise closed(self._directory)
        return False


def _shared(directory: Path) -> Path:
    return directory / "shared"


def _length_ns(duration: Duration, setting: str = "duration") -> int:
    return to_ns(setting, duration, minimum_ns=0, maximum_ns=INTERVAL_MAX_NS)


def _remove(directory: Path, words: memoryview[int]) -> None:
    """Remove the clock in a directory, in the process that made it; a child leaves it to its parent."""
    if words[_PID_AT] == os.getpid():
        words[_IS_CLOSED_AT] = True
        Sleepers(directory).wake()
        shutil.rmtree(directory, ignore_errors=True)
