"""Errors about a segment: its file, its sizes, its stripes and seats, and what the operating system grants for it."""

from __future__ import annotations

from shm_store.core.quoting import shown
from shm_store.errors.arguments import StoreError


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
