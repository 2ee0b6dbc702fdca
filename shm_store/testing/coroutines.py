"""How a coroutine waits for a bell, under asyncio and under trio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Final

from shm_store.core import loops
from shm_store.testing.sleepers import Bell, Sleepers


class Coroutines:
    """The coroutines of this process that sleep by a clock."""

    def __init__(self, sleepers: Sleepers, is_over: Callable[[int], bool]) -> None:
        """Have bells among `sleepers`; `is_over` returns whether the sleep until an instant is over."""
        self._sleepers: Final = sleepers
        self._is_over: Final = is_over
        self._loops: dict[asyncio.AbstractEventLoop, AsyncioLoop] = {}

    @contextlib.contextmanager
    def entered(self) -> Iterator[AsyncioLoop | TrioTask]:
        """Provide what the running coroutine can wait by; raise RuntimeError if the clock is closed."""
        if loops.running() == "trio":
            with contextlib.closing(self._sleepers.bell()) as bell:
                yield TrioTask(bell)
            return
        loop = asyncio.get_running_loop()
        mine = self._loops.get(loop)
        if mine is None:
            mine = self._loops[loop] = AsyncioLoop(loop, self._sleepers.bell(), self._is_over)
        mine.sleeping += 1
        try:
            yield mine
        finally:
            mine.sleeping -= 1
            if not mine.sleeping:
                del self._loops[loop]
                mine.close()


class AsyncioLoop:
    """An event loop of asyncio, whose sleepers share one bell: a thousand coroutines need one descriptor.

    Attributes:
        bell: The bell.
        sleeping: How many coroutines use it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, bell: Bell, is_over: Callable[[int], bool]) -> None:
        self.bell: Final = bell
        self.sleeping = 0
        self._loop: Final = loop
        self._is_over: Final = is_over
        self._waiting: dict[asyncio.Future[None], int] = {}
        loop.add_reader(bell.fd, self._on_ring)

    async def wait(self, instant_ns: int, most_s: float) -> None:
        """Wait until the bell rings at the end of the sleep until an instant, for `most_s` seconds at most."""
        rung = self._loop.create_future()
        self._waiting[rung] = instant_ns
        try:
            await asyncio.wait([rung], timeout=most_s)
        finally:
            del self._waiting[rung]

    def close(self) -> None:
        """Remove the bell."""
        self._loop.remove_reader(self.bell.fd)
        self.bell.close()

    def _on_ring(self) -> None:
        self.bell.silence()
        for rung, instant_ns in self._waiting.items():
            if not rung.done() and self._is_over(instant_ns):
                rung.set_result(None)


class TrioTask:
    """A task of trio, which has a bell of its own: of several tasks only one can wait for a descriptor.

    Attributes:
        bell: The bell.
    """

    def __init__(self, bell: Bell) -> None:
        self.bell: Final = bell

    async def wait(self, _instant_ns: int, most_s: float) -> None:
        """Wait until the bell rings, for `most_s` seconds at most."""
        trio = import_module("trio")
        with trio.move_on_after(most_s):
            await trio.lowlevel.wait_readable(self.bell.fd)
        self.bell.silence()
