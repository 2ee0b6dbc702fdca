"""Header fields made from a RateInfo."""

from __future__ import annotations

import pytest

from shm_store.durations import NS_PER_SECOND
from shm_store.http.headers import UNAVAILABLE_HEADERS, denial_headers, limit_headers
from shm_store.rate_info import RateInfo

YEARS_100_NS = 100 * 365 * 86_400 * NS_PER_SECOND


def denied(*, reset_after_ns: int = 0, retry_after_ns: int = 0) -> RateInfo:
    return RateInfo(allowed=False, limit=3, remaining=0, reset_after_ns=reset_after_ns, retry_after_ns=retry_after_ns)


@pytest.mark.parametrize(
    ("ns", "seconds"),
    [
        (0, "0"),
        (1, "1"),
        (NS_PER_SECOND - 1, "1"),
        (NS_PER_SECOND, "1"),
        (NS_PER_SECOND + 1, "2"),
        (59 * NS_PER_SECOND + NS_PER_SECOND // 2, "60"),
        (YEARS_100_NS - 1, str(100 * 365 * 86_400)),
    ],
)
def test_reset_rounds_up(ns: int, seconds: str) -> None:
    """X-RateLimit-Reset is a whole number of seconds and never earlier than the reset, exact even for 100 years."""
    info = RateInfo(allowed=True, limit=3, remaining=2, reset_after_ns=ns)
    assert dict(limit_headers(info))["x-ratelimit-reset"] == seconds
    assert dict(denial_headers(info))["x-ratelimit-reset"] == seconds


@pytest.mark.parametrize(
    ("ns", "seconds"), [(0, "1"), (1, "1"), (NS_PER_SECOND, "1"), (NS_PER_SECOND + 1, "2"), (60 * NS_PER_SECOND, "60")]
)
def test_retry_after_rounds_up_and_is_never_zero(ns: int, seconds: str) -> None:
    """Retry-After is a whole number of seconds, at least 1, and never earlier than the retry."""
    assert dict(denial_headers(denied(retry_after_ns=ns)))["retry-after"] == seconds


def test_limit_headers_hold_no_retry_after() -> None:
    """An allowed request is told its limit and nothing else."""
    info = RateInfo(allowed=True, limit=2**63 - 1, remaining=5, reset_after_ns=1)
    assert limit_headers(info) == (
        ("x-ratelimit-limit", "9223372036854775807"),
        ("x-ratelimit-remaining", "5"),
        ("x-ratelimit-reset", "1"),
    )


def test_denial_headers_forbid_storing() -> None:
    """A denial, and an answer given for want of a store, must not come out of a cache later."""
    assert dict(denial_headers(denied()))["cache-control"] == "no-store"
    assert dict(UNAVAILABLE_HEADERS)["cache-control"] == "no-store"


def test_header_names_appear_once() -> None:
    """No field is sent twice, whatever the answer."""
    for fields in (limit_headers(denied()), denial_headers(denied()), UNAVAILABLE_HEADERS):
        assert len(dict(fields)) == len(fields)
