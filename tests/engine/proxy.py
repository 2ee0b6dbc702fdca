"""Stands between a store and its server, and loses replies to what the server has done."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from tests.engine.hostile import Listener

_SIZE: Final = 2**16


class Proxy(Listener):
    """Passes on all that comes, one thread for each connection, which ends with it.

    Attributes:
        lost: How many replies were lost.
        losing: How many of the next ones are to be, each with its connection.
    """

    def __init__(self, server_port: int) -> None:
        """Stand before the server on a port of this host."""
        self.lost = 0
        self.losing = 0
        self._server_port = server_port
        super().__init__(self._pass_on)

    def _pass_on(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
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
