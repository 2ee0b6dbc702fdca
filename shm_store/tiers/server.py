"""The store that several hosts share, as stores of two tiers use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from shm_store.core.backend import Backend
from shm_store.core.issuing import Issue, Order
from shm_store.quota import Quota


@runtime_checkable
class Server(Protocol):
    """A store on a server, such as RedisStore.

    Attributes:
        timeout_ns: The longest that an operation waits for the server.
        clock: Returns nanoseconds; waits for units go by it.
    """

    timeout_ns: int
    clock: Callable[[], int]

    @property
    def backend(self) -> Backend[str]:
        """What keeps its buckets."""

    @property
    def is_failing(self) -> bool:
        """Whether the server has failed this process, and has not answered since."""

    def lease(self, key: str, quota: Quota, order: Order) -> Issue:
        """Have units issued to a host, ahead of the takes that spend them."""

    def close(self) -> None:
        """Let go of the server; may be called again."""
