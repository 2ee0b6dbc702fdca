"""Quotas: how many units per interval, by which algorithm they are counted; or how many at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from shm_store.core.algorithms import ALGORITHMS, LONGEST_NS, Algorithm, zero
from shm_store.durations import NS_PER_SECOND, Duration, to_ns, to_text
from shm_store.errors import ConfigurationError, ConfigurationTypeError, unusable

__all__ = ["Concurrency", "Quota"]

LIMIT_MAX: Final = 2**63 - 1
# More than any limit has; Python refuses to read thousands of them, with an error of its own.
_DIGITS_MAX: Final = 100
INTERVAL_MIN_NS: Final = 1_000_000
INTERVAL_MAX_NS: Final = LONGEST_NS


class Quota(msgspec.Struct, frozen=True, dict=True):
    """`limit` units per `interval`.

    Attributes:
        limit: Units per interval, 1 to 2**63 - 1.
        interval: 1 ms to 100 years, in any form `shm_store.durations.to_ns` reads; seconds once constructed.
        burst: Most units at once, 1 to 2**63 - 1, if the algorithm has a burst; the limit if None. At the quota's rate
            they may take 100 years at most to come back.
        algorithm: One of `shm_store.core.algorithms.ALGORITHMS`.

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
        require_choice("algorithm", self.algorithm, tuple(ALGORITHMS))
        self._check_burst(interval_ns)
        # Beside the fields: a float of seconds holds every nanosecond only up to 26 days.
        self.__dict__["interval_ns"] = interval_ns
        msgspec.structs.force_setattr(self, "interval", interval_ns / NS_PER_SECOND)

    @property
    def interval_ns(self) -> int:
        """The interval in nanoseconds."""
        # No cached_property: it has a lock, which an exception of a signal handler would leave taken for ever. A copy
        # may come without what the constructor has computed.
        interval_ns: int | None = self.__dict__.get("interval_ns")
        if interval_ns is None:
            interval_ns = to_ns("interval", self.interval, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)
        return interval_ns

    @property
    def most(self) -> int:
        """Most units at once: the burst, or else the limit."""
        return self.limit if self.burst is None else self.burst

    def algorithm_for(self, epoch: Callable[[], int] = zero) -> Algorithm:
        """Return a new instance of the quota's algorithm, which decides on its takes.

        Args:
            epoch: Returns the instant of UTC's zero on the clock that the takes go by.
        """
        return ALGORITHMS[self.algorithm](self.limit, self.interval_ns, self.most, epoch)

    @classmethod
    def parse(cls, text: str, *, algorithm: str | None = None, burst: int | None = None) -> Quota:
        """Return the quota written as `limit/interval`, for example `100/minute`, `5/500ms` or `1000/12h`.

        Args:
            text: The limit and the interval.
            algorithm: As of a Quota; its default if None.
            burst: As of a Quota.

        Raises:
            ConfigurationError: The text is not of that form, or a value is out of range.
        """
        limit, slash, interval = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not slash or not limit.strip().isdecimal() or len(limit) > _DIGITS_MAX:
            raise unusable("quota", text, "write 'limit/interval', for example '100/minute'", str)
        named = {} if algorithm is None else {"algorithm": algorithm}
        return cls(int(limit), interval, burst, **named)

    def __reduce__(self) -> tuple[object, ...]:
        # The interval as seconds would lose nanoseconds.
        return Quota, (self.limit, f"{self.interval_ns}ns", self.burst, self.algorithm)

    def _check_burst(self, interval_ns: int) -> None:
        if self.burst is None:
            return
        if not ALGORITHMS[self.algorithm].has_burst:
            bursty = " or ".join(name for name, algorithm in ALGORITHMS.items() if algorithm.has_burst)
            raise ConfigurationError("burst", self.burst, f"leave it out: {self.algorithm} has no burst, {bursty} has")
        require_integer("burst", self.burst, 1, LIMIT_MAX)
        if self.burst > most_burst(self.limit, interval_ns):
            longest = to_text(INTERVAL_MAX_NS)
            raise ConfigurationError("burst", self.burst, f"lower it: it would take more than {longest} to come back")


def quota_of(quota: object, algorithm: str | None, burst: int | None) -> Quota:
    """Return a quota that may be given as text, and then with an algorithm and a burst beside it.

    Raises:
        ConfigurationError: The text or a value cannot be used, or a Quota has an algorithm or a burst beside it.
    """
    if isinstance(quota, str):
        return Quota.parse(quota, algorithm=algorithm, burst=burst)
    if not isinstance(quota, Quota):
        raise ConfigurationTypeError("quota", quota, "give a text such as '20/second', or a Quota")
    for setting, value in (("algorithm", algorithm), ("burst", burst)):
        if value is not None:
            raise ConfigurationError(setting, value, "leave it out: the Quota has its own")
    return quota


def most_burst(limit: int, interval_ns: int) -> int:
    """Return the largest burst of a quota: it comes back within the longest interval."""
    return INTERVAL_MAX_NS * limit // interval_ns


def resized(algorithm: Algorithm, limit: int, interval_ns: int) -> Algorithm:
    """Return `algorithm` with another limit and interval.

    A burst that equals its limit follows the new one. Another burst stays, up to the largest that a quota may have.
    """
    burst = limit if algorithm.burst == algorithm.limit else min(algorithm.burst, most_burst(limit, interval_ns))
    return type(algorithm)(limit, interval_ns, burst, algorithm.epoch)


class Concurrency(msgspec.Struct, frozen=True):
    """At most `limit` units in flight: taken by `reserve`, and free again when it ends, or its process does.

    Attributes:
        limit: 1 to 2**63 - 1. They may be in flight in as many processes as a set of the table has slots, 128 at most.

    Raises:
        ConfigurationError: The limit is out of range.
    """

    limit: int

    def __post_init__(self) -> None:
        """Validate."""
        require_integer("limit", self.limit, 1, LIMIT_MAX)


def require_integer(setting: str, value: object, minimum: int, maximum: int) -> None:
    """Raise ConfigurationError unless `value` is an `int` (not a `bool`) in the closed range."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise unusable(setting, value, f"give an integer from {minimum} to {maximum}", int)


def require_choice(setting: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ConfigurationError unless `value` is one of the texts `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise unusable(setting, value, f"choose one of {', '.join(choices)}", str)
