"""In flight: says to the server, again and again, what this process still has in flight."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

import msgspec

from shm_store.errors import StoreError
from shm_store.redis import answers, scripts
from shm_store.redis.names import Names
from shm_store.redis.scripts import Call
from shm_store.redis.server.engine import Engine


class Heartbeat:
    """Renews what is in flight, in a thread that runs while there is any.

    Renewed three times before it would no longer count. What a server that fails could not be told may end too early,
    and so may what no thread could be started for.
    """

    def __init__(self, renew: Callable[[str, Sequence[str]], None], period_s: float) -> None:
        """Begin with nothing; `renew` is called with a key and the tags of its units every `period_s` seconds."""
        self._renew = renew
        self._period_s = period_s
        self.after_fork()

    def after_fork(self) -> None:
        """Forget what the parent has in flight, and its thread."""
        self._tags: dict[str, str] = {}
        # Reentrant, so that a signal handler may reserve while its thread starts the one that renews.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, tag: str, key: str) -> None:
        """Renew units of a key from now on."""
        self._tags[tag] = key
        with self._lock:
            # Once it is closed the thread would never wait.
            if self._thread is None and not self._wake.is_set():
                thread = threading.Thread(target=self._run, name="shm-store-in-flight", daemon=True)
                # The system may have none to spare, and a process that ends starts none: the next one tries again.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def discard(self, tag: str) -> None:
        """Renew them no longer."""
        self._tags.pop(tag, None)

    def close(self) -> None:
        """Renew nothing any more."""
        self._tags.clear()
        self._wake.set()

    def _run(self) -> None:
        try:
            while True:
                self._wake.wait(self._period_s)
                with self._lock:
                    if not self._tags or self._wake.is_set():
                        self._thread = None
                        return
                self._renew_all()
        except BaseException:
            # Whatever it was, the next that comes starts another one.
            self._thread = None
            raise

    def _renew_all(self) -> None:
        by_key: dict[str, list[str]] = {}
        for tag, key in list(self._tags.items()):
            by_key.setdefault(key, []).append(tag)
        for key, tags in by_key.items():
            try:
                self._renew(key, tags)
            except StoreError:
                # It is told again; who takes hears of it as well. A server that is gone is not asked for the others.
                continue


def renew(engine: Engine, names: Names, ttl: int, key: str, tags: Sequence[str]) -> None:
    """Tell the server that units of a key are still in flight."""
    arguments = msgspec.msgpack.encode(tags), b"%d" % ttl
    engine.run(Call(scripts.RENEW, names.flight(key), arguments, answers.done))
