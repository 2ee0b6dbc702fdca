"""The settings of leases."""

from __future__ import annotations

import msgspec

from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import unusable
from shm_store.quota import require_integer


class LeaseConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How units are issued: `remaining * share / hosts` of them, 1 at least and `most` at most.

    Attributes:
        hosts: How many hosts share the limits, 1 to 2**20; all of them are told the same.
        share: The part of what is left that all hosts together may have at once, above 0 and at most 1.
        most: Most units of one lease, 1 to 2**32.
        lifetime: How long a lease lasts at most, 1 ms to 1 h, and at most a tenth of the interval.

    Raises:
        ConfigurationError: A value is of the wrong type or out of range.
    """

    hosts: int
    share: float = 0.5
    most: int = 1_000
    lifetime: Duration = "1min"

    def __post_init__(self) -> None:
        """Validate every field, and store the duration as seconds."""
        require_integer("hosts", self.hosts, 1, 2**20)
        require_integer("most", self.most, 1, 2**32)
        if not isinstance(self.share, float | int) or isinstance(self.share, bool) or not 0 < self.share <= 1:
            raise unusable("share", self.share, "give a number above 0 and at most 1", int, float)
        ns = to_ns("lifetime", self.lifetime, minimum_ns=1_000_000, maximum_ns=3_600 * NS_PER_SECOND)
        msgspec.structs.force_setattr(self, "lifetime", ns / NS_PER_SECOND)

    @property
    def lifetime_ns(self) -> int:
        """How long a lease lasts at most."""
        return to_ns("lifetime", self.lifetime, minimum_ns=0, maximum_ns=3_600 * NS_PER_SECOND)
