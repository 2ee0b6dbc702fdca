"""Render a RateInfo as response header fields, names in lower case and times in whole seconds."""

from __future__ import annotations

from typing import Final, TypeAlias

from shm_store.durations import NS_PER_SECOND
from shm_store.http.problems import PROBLEM_JSON
from shm_store.rate_info import RateInfo

Headers: TypeAlias = tuple[tuple[str, str], ...]

# Nobody knows when a failed store is back; long enough not to add a retry storm to the failure.
UNAVAILABLE_RETRY_AFTER_S: Final = 5

UNAVAILABLE_HEADERS: Final[Headers] = (
    ("retry-after", str(UNAVAILABLE_RETRY_AFTER_S)),
    ("cache-control", "no-store"),
    ("content-type", PROBLEM_JSON),
)


def limit_headers(info: RateInfo) -> Headers:
    """Return the `X-RateLimit-*` fields of an allowed request; the reset is in seconds from now, rounded up."""
    return (
        ("x-ratelimit-limit", str(info.limit)),
        ("x-ratelimit-remaining", str(info.remaining)),
        # -(-a // b) rounds up in integers: a client that waits this long never comes too early.
        ("x-ratelimit-reset", str(-(-info.reset_after_ns // NS_PER_SECOND))),
    )


def denial_headers(info: RateInfo) -> Headers:
    """Return every field of a denied request: the limit, `Retry-After`, no caching, and the type of the body.

    `Retry-After` is at least 1 (RFC 9110 section 10.2.3 has whole seconds only, and 0 would invite a busy loop); a 429
    must not be stored by a cache (RFC 6585 section 4).
    """
    return (
        *limit_headers(info),
        ("retry-after", str(-(-info.retry_after_ns // NS_PER_SECOND) or 1)),
        ("cache-control", "no-store"),
        ("content-type", PROBLEM_JSON),
    )
