"""Stands between a store and its server, and loses replies to what the server has done."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Self

_SIZE: Final = 2**16


class Proxy:
    """Passes on all that comes, one thread for each connection, which ends with it.

    Attributes:
        lost: How many replies were lost.
        losing: How many of the next ones are to be, each with its connection.
    """

    def __init__(self, port: int) -> None:
        """Stand before the server on a port of this host."""
        self.lost = 0
        self.losing = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What waits in `accept` is woken by this, and not by `close`.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, contextlib.suppress(OSError):
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            while reply := server.recv(_SIZE):
                # It is told which script it is to run a second time only if it does not know it.
                if self.losing and not reply.startswith((b"-NOSCRIPT", b"+OK")):
                    self.losing -= 1
                    self.lost += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(reply)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while asked := client.recv(_SIZE):
                server.sendall(asked)
            server.shutdown(socket.SHUT_RDWR)
