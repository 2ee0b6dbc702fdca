"""Every error the limiter raises, each with the fields a program needs to act on it.

A denied request is not an error: see `shm_store.rate_info.RateInfo`.

One rule holds for the arguments of every public function, on every store:

* A value that cannot be used raises a `ConfigurationError`, for a cost a `CostError`. Both are `ValueError`s.
* A value of the wrong type raises a `ConfigurationTypeError` or a `CostTypeError`. These are the same errors and
  `TypeError`s as well. `True` and `False` are never integers.
* The call that is wrong raises the error, and changes nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from shm_store.core.quoting import named, shown


class StoreError(Exception):
    """Root of all errors of this package; pickles with its fields.

    Attributes:
        fields: The names of its fields.
        is_failure: Whether the store itself has failed, which a policy's `on_error` is for. False for what a setting, a
            call or a client's request can cause: the HTTP layer answers 503, and lets no such request through.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    is_failure: ClassVar[bool] = True

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field) for field in self.fields)


class ConfigurationError(StoreError, ValueError):
    """A setting, or an argument in the role of one, has a value that cannot be used."""

    fields = ("setting", "value", "remedy")
    is_failure = False

    def __init__(self, setting: str, value: object, remedy: str) -> None:
        super().__init__(f"{named(setting)} is {shown(value)}: {remedy}")
        self.setting = setting
        self.value = value
        self.remedy = remedy

    def of(self, setting: str) -> Self:
        """Return the same error about a setting of another name."""
        return type(self)(setting, self.value, self.remedy)


class ConfigurationTypeError(ConfigurationError, TypeError):
    """A setting, or an argument in the role of one, is of a type that cannot be used."""


def unusable(setting: str, value: object, remedy: str, *types: type) -> ConfigurationError:
    """Return the error about a value that cannot be used: a `ConfigurationTypeError` if it is of none of `types`."""
    has_type = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    return (ConfigurationError if has_type else ConfigurationTypeError)(setting, value, remedy)


class CostError(StoreError, ValueError):
    """The cost is not a positive integer, or no wait would ever make room for it.

    Attributes:
        cost: The cost.
        limit: Most units at once.
        index: Which of the takes of one call it is, from 0.
    """

    fields = ("cost", "limit", "index")
    is_failure = False

    def __init__(self, cost: object, limit: int, index: int = 0) -> None:
        super().__init__(f"cost is {shown(cost)}: give an integer from 1 to {limit}, the most units at once")
        self.cost = cost
        self.limit = limit
        self.index = index


class CostTypeError(CostError, TypeError):
    """The cost is no `int`."""


def unusable_cost(cost: object, limit: int, index: int = 0) -> CostError:
    """Return the error about a cost that a bucket cannot have."""
    return (CostError if type(cost) is int else CostTypeError)(cost, limit, index)


class LayoutMismatchError(StoreError):
    """The segment of that name is not the table that this configuration describes."""

    fields = ("name", "difference", "remedy")

    def __init__(self, name: str, difference: str, remedy: str) -> None:
        super().__init__(f"segment {shown(name)} does not match: {difference}; {remedy}")
        self.name = name
        self.difference = difference
        self.remedy = remedy


class TableFullError(StoreError):
    """No slot that the key may use can be given up: overrides never are, and live buckets not under on_full='deny'."""

    fields = ("name", "slots")
    # Clients with many requests in flight fill a set.
    is_failure = False

    def __init__(self, name: str, slots: int) -> None:
        super().__init__(
            f"segment {shown(name)}: none of the {slots} slots of the key's set can be given up, as overrides and what "
            "processes have in flight are not; reset overrides, or create the segment with a larger initial_size"
        )
        self.name = name
        self.slots = slots


class NoRoomError(StoreError):
    """A table of these sizes has no room for all slots of a dump; nothing was made.

    Attributes:
        name: The segment.
        slots: Slots of the dump.
        dropped: Slots for which there is no room.
    """

    fields = ("name", "slots", "dropped")
    is_failure = False

    def __init__(self, name: str, slots: int, dropped: int) -> None:
        super().__init__(
            f"segment {shown(name)}: there is no room for {dropped:,} of {slots:,} slots; give a larger "
            "initial_size, or drop_excess=True to leave out those that would be idle soonest"
        )
        self.name = name
        self.slots = slots
        self.dropped = dropped


class StripeTimeoutError(StoreError, TimeoutError):
    """A stripe stayed taken, for the lock timeout or for ten if its holder is not stopped; no dead process held it.

    Attributes:
        name: The segment.
        stripe: The stripe.
        timeout_ns: How long the operation waited; time in which its own process did not run does not count.
        holders: The processes that may have held the stripe in the end.
        seen: A text: which of them were stopped, how often the operation tried, and the load of the host.
    """

    fields = ("name", "stripe", "timeout_ns", "holders", "seen")

    def __init__(self, name: str, stripe: int, timeout_ns: int, holders: tuple[int, ...], seen: str = "") -> None:
        held = f"by process {', '.join(map(str, holders))}" if holders else "by a process not seen"
        super().__init__(
            f"segment {shown(name)}: stripe {stripe} stayed taken for {timeout_ns / 1e9:g} s {held}"
            f"{seen and f' ({seen})'}; end or continue a stopped process; if none is, the host needs more processors, "
            "or a longer lock_timeout"
        )
        self.name = name
        self.stripe = stripe
        self.timeout_ns = timeout_ns
        self.holders = holders
        self.seen = seen

    @property
    def timeout(self) -> float:
        """Seconds that the operation waited."""
        return self.timeout_ns / 1e9


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


class SeatsExhaustedError(StoreError):
    """Every seat of the segment belongs to a living process."""

    fields = ("name", "seats")

    def __init__(self, name: str, seats: int) -> None:
        super().__init__(
            f"segment {shown(name)}: all {seats} seats belong to living processes; run fewer processes or threads on it"
        )
        self.name = name
        self.seats = seats


class BackendError(StoreError):
    """The operating system refused what the store needs."""

    fields = ("name", "operation", "reason", "remedy")

    def __init__(self, name: str, operation: str, reason: str, remedy: str) -> None:
        super().__init__(f"segment {shown(name)}: {operation} failed: {reason}; {remedy}")
        self.name = name
        self.operation = operation
        self.reason = reason
        self.remedy = remedy


class UnsupportedPlatformError(StoreError):
    """This platform cannot keep a table in shared memory."""

    fields = ("platform", "reason", "remedy")
    is_failure = False

    def __init__(self, platform: str, reason: str, remedy: str) -> None:
        super().__init__(f"shared memory cannot be used on {platform}: {reason}; {remedy}")
        self.platform = platform
        self.reason = reason
        self.remedy = remedy


class OwnershipError(StoreError, PermissionError):
    """The table, or a part of it, belongs to a user that this process does not trust, or must not open it.

    Attributes:
        name: The segment's name.
        owner: The uid of the owner of the file.
        user: The effective uid of this process.
        remedy: What to do about it.
        reason: The fault of the file.
    """

    fields = ("name", "owner", "user", "remedy", "reason")
    is_failure = False

    def __init__(
        self, name: str, owner: int, user: int, remedy: str, reason: str = "it belongs to a user that is not trusted"
    ) -> None:
        super().__init__(
            f"segment {shown(name)}: {reason}: its owner is uid {owner}, and this process runs as uid {user}; {remedy}"
        )
        self.name = name
        self.owner = owner
        self.user = user
        self.remedy = remedy
        self.reason = reason


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
