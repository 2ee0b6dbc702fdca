"""Servers that keep a client waiting, or reply with what is no answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

Serve = Callable[[socket.socket], None]


class Listener:
    """Serves each connection in a thread of its own, until it is closed.

    Attributes:
        port: Its port.
        connections: How many clients have connected.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread that waits in `accept` is woken by this, and not by `close`.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self.connections += 1
                threading.Thread(target=self._run, args=(client,), daemon=True).start()

    def _run(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._serve(client)


def trickling(begin: bytes, every_s: float = 0.02) -> Serve:
    """Reply with `begin`, and with one byte now and then for as long as the client stays."""

    def serve(client: socket.socket) -> None:
        client.recv(2**16)
        client.sendall(begin)
        while True:
            time.sleep(every_s)
            client.sendall(b"1")

    return serve


def silent(client: socket.socket) -> None:
    """Read, and never reply."""
    while client.recv(2**16):
        pass


def replying(*replies: bytes) -> Serve:
    """Reply to the first command with the first, and so on; to all others with the last."""

    def serve(client: socket.socket) -> None:
        left = list(replies)
        while client.recv(2**16):
            client.sendall(left.pop(0) if len(left) > 1 else left[0])

    return serve


def until(reply: Serve, *commands: bytes) -> Serve:
    """Reply `+OK` to some commands, as while a client logs in, and then as `reply` does."""

    def serve(client: socket.socket) -> None:
        while words := client.recv(2**16, socket.MSG_PEEK):
            if any(command in words for command in commands):
                break
            client.sendall(b"+OK\r\n" * len(client.recv(2**16).split(b"*")[1:]))
        reply(client)

    return serve
