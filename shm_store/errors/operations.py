"""Errors about one operation of a store, whose arguments are right and whose segment is sound."""

from __future__ import annotations

from shm_store.core.quoting import named, shown
from shm_store.errors.arguments import StoreError


class AcquireTimeoutError(StoreError, TimeoutError):
    """Units cannot be had within the timeout; nothing was taken.

    Attributes:
        key: The key.
        timeout_ns: The timeout; None if there was none, and no wait would make room.
        retry_after_ns: Time until they can be had; 0 when it is unknown.
    """

    fields = ("key", "timeout_ns", "retry_after_ns")
    is_failure = False

    def __init__(self, key: str, timeout_ns: int | None, retry_after_ns: int) -> None:
        within = "" if timeout_ns is None else f" within {timeout_ns / 1e9:g} s"
        when = (
            f"but in {retry_after_ns / 1e9:g} s; try again then" if retry_after_ns else "the wait is unknown; try later"
        )
        raising = "" if timeout_ns is None or not retry_after_ns else ", or raise the timeout"
        super().__init__(f"key {shown(key)}: the units cannot be had{within}, {when}{raising}")
        self.key = key
        self.timeout_ns = timeout_ns
        self.retry_after_ns = retry_after_ns

    @property
    def timeout(self) -> float | None:
        """The timeout in seconds; None if there was none."""
        return None if self.timeout_ns is None else self.timeout_ns / 1e9

    @property
    def retry_after(self) -> float:
        """Seconds until the units can be had; 0.0 when it is unknown."""
        return self.retry_after_ns / 1e9


class StoreClosedError(StoreError):
    """The store was closed before the call."""

    fields = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(f"segment {shown(name)}: this store is closed; open a new one")
        self.name = name


class ForkInOperationError(StoreError, RuntimeError):
    """This process is a child that was forked in the middle of an operation, with which only the parent goes on.

    Attributes:
        pid: The child.
        parent: Its parent.
    """

    fields = ("pid", "parent")
    is_failure = False

    def __init__(self, pid: int, parent: int) -> None:
        super().__init__(
            f"process {pid} was forked in the middle of an operation, and only its parent {parent} goes on with that; "
            "end the child where it is forked (exec or os._exit), or do not fork in signal handlers and finalizers"
        )
        self.pid = pid
        self.parent = parent


class ReentryError(StoreError, RuntimeError):
    """A signal handler, a finalizer or a clock has called the store in the middle of an operation of its own thread.

    That operation holds what the call needs, and would not go on before the call ends. Nothing was taken.

    Attributes:
        name: The segment.
        needed: The stripe or the lock that the interrupted operation holds.
    """

    fields = ("name", "needed")
    is_failure = False

    def __init__(self, name: str, needed: str) -> None:
        super().__init__(
            f"segment {shown(name)}: {needed} is held by an operation of this thread, which this call has interrupted; "
            "call the store after the signal handler, the finalizer or the clock has returned"
        )
        self.name = name
        self.needed = needed


class EngineError(StoreError):
    """Redis or Valkey, which keeps the buckets, has failed; or has just failed, and the store does not call it yet.

    The outcome is unknown: units may have been taken, and none were given back.
    """

    fields = ("engine", "operation", "reason", "remedy")

    def __init__(self, engine: str, operation: str, reason: str, remedy: str) -> None:
        super().__init__(f"{named(engine)}: {operation} failed: {reason}; {remedy}")
        self.engine = engine
        self.operation = operation
        self.reason = reason
        self.remedy = remedy
