"""A quota: how many units per interval, and by which algorithm they are counted."""

from __future__ import annotations

from typing import Final

import msgspec

from shm_store.durations import NS_PER_SECOND, Duration, to_ns
from shm_store.errors import ConfigurationError

ALGORITHMS: Final = ("token-bucket",)
LIMIT_MAX: Final = 2**63 - 1
INTERVAL_MIN_NS: Final = 1_000_000
INTERVAL_MAX_NS: Final = 100 * 365 * 86_400 * NS_PER_SECOND


class Quota(msgspec.Struct, frozen=True):
    """`limit` units per `interval`.

    Attributes:
        limit: Units per interval, 1 to 2**63 - 1.
        interval: 1 ms to 100 years, in any form `shm_store.durations.to_ns` reads; seconds once constructed.
        burst: Reserved for algorithms that have one; `token-bucket` has none.
        algorithm: One of `ALGORITHMS`.

    Raises:
        ConfigurationError: A value is out of range.

    >>> Quota(100, "1min") == Quota.parse("100/minute")
    True
    """

    limit: int
    interval: Duration
    burst: int | None = None
    algorithm: str = "token-bucket"

    def __post_init__(self) -> None:
        """Validate, and store the interval as seconds so that equal quotas compare equal."""
        require_integer("limit", self.limit, 1, LIMIT_MAX)
        interval_ns = to_ns("interval", self.interval, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)
        if self.algorithm not in ALGORITHMS:
            raise ConfigurationError("algorithm", self.algorithm, f"choose one of {', '.join(ALGORITHMS)}")
        if self.burst is not None:
            raise ConfigurationError("burst", self.burst, f"leave it out: {self.algorithm} has no burst")
        msgspec.structs.force_setattr(self, "interval", interval_ns / NS_PER_SECOND)

    @property
    def interval_ns(self) -> int:
        """The interval in nanoseconds."""
        # A float of seconds holds every whole second, and every nanosecond up to 26 days, exactly.
        return round(float(self.interval) * NS_PER_SECOND)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, text: str) -> Quota:
        """Return the quota written as `limit/interval`, for example `100/minute`, `5/500ms` or `1000/12h`.

        Raises:
            ConfigurationError: The text is not of that form, or a value in it is out of range.
        """
        limit, slash, interval = text.partition("/")
        if not slash or not limit.strip().isdecimal():
            raise ConfigurationError("quota", text, "write 'limit/interval', for example '100/minute'")
        return cls(int(limit), interval)


def require_integer(setting: str, value: object, minimum: int, maximum: int) -> None:
    """Raise ConfigurationError unless `value` is an `int` (not a `bool`) in the closed range."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise ConfigurationError(setting, value, f"give an integer from {minimum} to {maximum}")
