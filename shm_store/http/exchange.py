"""Exchange: one request of an ASGI application, and the status that its client receives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from shm_store.http.responses.answers import UNANSWERED

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: What begins a response, and its status where the message does not contain it.
STATUSES: Final = {
    "http.response.start": None,
    "websocket.http.response.start": None,
    "websocket.accept": 101,
    "websocket.close": 403,
}
_GONE: Final = frozenset(("http.disconnect", "websocket.disconnect"))
# Messages that a look reads ahead of the application: no more, as a body may be of any length.
_AHEAD_MAX: Final = 8


class Exchange:
    """Passes on what an application receives and sends, and keeps the status that its client receives.

    A client that has disconnected before the response starts receives no status. The application may not have received
    the message of that yet, so `send` looks for it: without waiting, and only for a status that gives units back. A
    message that arrives on the way goes to the application when it receives next.

    The look needs an event loop of asyncio. It reads eight messages at most, so it may miss a disconnection behind a
    long request body that the application has not read.

    Attributes:
        status: The status; UNANSWERED as long as there is none, and for good once the client is gone without one.
    """

    def __init__(self, receive: Receive, send: Send, gives_back: Callable[[int], bool]) -> None:
        """Begin; `receive` and `send` are of the server, `gives_back` returns whether a status refunds units."""
        self._receive = receive
        self._send = send
        self._gives_back = gives_back
        self._gone = False
        self._receiving = 0
        # Done, but for the last one.
        self._ahead: deque[asyncio.Task[Message]] = deque()
        self.status = UNANSWERED

    async def receive(self) -> Message:
        """Return the next message."""
        self._receiving += 1
        try:
            message = await (self._taken_ahead() if self._ahead else self._receive())
        finally:
            self._receiving -= 1
        self._gone = self._gone or message["type"] in _GONE
        return message

    async def send(self, message: Message) -> None:
        """Send a message; the first that begins a response has the status."""
        kind = message["type"]
        if self.status or kind not in STATUSES:
            await self._send(message)
            return
        await self.tell(STATUSES[kind] or message["status"])
        try:
            await self._send(message)
        except OSError:
            # That is how the specification has a server refuse to send to a client that is gone.
            self._gone, self.status = True, UNANSWERED
            raise

    async def tell(self, status: int) -> None:
        """Keep the status that the client receives, unless it has one or is gone."""
        if self.status or self._gone:
            return
        if self._gives_back(status):
            await self._look()
        if not self._gone:
            self.status = status

    def close(self) -> None:
        """End what is still to be received."""
        while self._ahead:
            self._ahead.pop().cancel()

    async def _look(self) -> None:
        """Look whether the client is gone; leave it to the application if that is receiving."""
        if self._receiving or self._ahead or not _has_asyncio():
            return
        for _ in range(_AHEAD_MAX):
            # A task, as `receive` may be of other middleware, which may not be left half-way or by another task.
            task = asyncio.ensure_future(_awaited(self._receive()))
            task.add_done_callback(_retrieve)
            self._ahead.append(task)
            await asyncio.sleep(0)
            if not task.done() or task.cancelled() or task.exception() is not None:
                return
            message = task.result()
            if message["type"] != "http.request":
                self._gone = message["type"] in _GONE
                return

    async def _taken_ahead(self) -> Message:
        task = self._ahead.popleft()
        try:
            if not task.done():
                # Does not cancel the task with the application's own.
                await asyncio.wait((task,))
        except asyncio.CancelledError:
            self._ahead.appendleft(task)
            raise
        return task.result()


async def _awaited(message: Awaitable[Message]) -> Message:
    return await message


def _retrieve(task: asyncio.Task[Message]) -> None:
    """Take note of an error that the application may never ask for, which asyncio would log."""
    if not task.cancelled():
        task.exception()


def _has_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
