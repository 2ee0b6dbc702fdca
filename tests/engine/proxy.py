"""A proxy between a store and its server that loses replies to scripts that the server has run."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from tests.engine.hostile import Listener

_SIZE: Final = 2**16


class Proxy(Listener):
    """Forwards all bytes both ways; the threads of a connection end with it.

    Attributes:
        lost: Number of replies lost so far.
        losing: Number of the next replies to lose; the proxy closes the connection with each.
    """

    def __init__(self, server_port: int) -> None:
        """Listen on a port of this host, in front of the server."""
        self.lost = 0
        self.losing = 0
        self._server_port = server_port
        super().__init__(self._pass_on)

    def _pass_on(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            while reply := server.recv(_SIZE):
                # Lose replies to scripts only: NOSCRIPT means that none ran, and +OK answers the connection's set-up.
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
