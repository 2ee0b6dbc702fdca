"""Header fields: what is written of a decision, and that an independent parser reads the same from it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from shm_store import Concurrency, Quota, RateInfo, ShmStore
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import ConfigurationError
from shm_store.falcon import Headers, RateLimitMiddleware
from shm_store.http.responses.headers import HeaderWriter, Labels, label
from shm_store.quota import LIMIT_MAX
from tests.http.exchange import INTEGER_MAX, exchange, members
from tests.http.service import CLIENT
from tests.ids import shown

YEARS_100_NS: Final = 100 * 365 * 86_400 * NS_PER_SECOND
BOTH: Final = Headers(legacy=True)
SECRET: Final = "nobody else knows"  # noqa: S105 - of no use outside the tests
AMPLE: Final = Quota(1_000, "1min")
QUOTA: Final = Quota(3, "1min")
LABELS: Final = Labels.of((label("default", QUOTA),))


def allowed(*, remaining: int = 2, reset_after_ns: int = 0) -> RateInfo:
    return RateInfo(True, 3, remaining, reset_after_ns)


def denied(*, reset_after_ns: int = 0, retry_after_ns: int = 0) -> RateInfo:
    return RateInfo(False, 3, 0, reset_after_ns, retry_after_ns)


ROUNDED = [
    (0, 0),
    (1, 1),
    (NS_PER_SECOND - 1, 1),
    (NS_PER_SECOND, 1),
    (NS_PER_SECOND + 1, 2),
    (59 * NS_PER_SECOND + NS_PER_SECOND // 2, 60),
    (YEARS_100_NS - 1, 100 * 365 * 86_400),
    (YEARS_100_NS, 100 * 365 * 86_400),
]


# A take leaves a bucket that needs time to refill, so that its reset is never 0.
@pytest.mark.parametrize(("ns", "seconds"), ROUNDED[1:])
def test_reset_rounds_up(ns: int, seconds: int) -> None:
    """The reset is rounded up to whole seconds, exactly even for 100 years."""
    fields = HeaderWriter(BOTH).allowed(LABELS, [allowed(reset_after_ns=ns)])
    assert fields["x-ratelimit-reset"] == str(seconds)
    assert members(fields["ratelimit"]) == [("default", {"r": 2, "t": seconds})]


@pytest.mark.parametrize(("ns", "seconds"), ROUNDED)
def test_retry_after_rounds_up_and_is_never_zero(ns: int, seconds: int) -> None:
    """Retry-After is rounded up to whole seconds, is at least 1, and equals the reset."""
    info = denied(retry_after_ns=ns, reset_after_ns=YEARS_100_NS)
    writer = HeaderWriter(BOTH)
    assert writer.retry_s([info]) == max(1, seconds)
    fields = writer.denied(LABELS, [info], writer.retry_s([info]))
    assert fields["retry-after"] == fields["x-ratelimit-reset"] == str(max(1, seconds))
    assert members(fields["ratelimit"]) == [("default", {"r": 0, "t": seconds} if ns else {"r": 0})]


def test_allowed_fields_hold_no_retry_after() -> None:
    """An allowed request is told its limit and nothing else; a number too large for the draft's syntax is cut."""
    quota = Quota(LIMIT_MAX, "1s")
    info = RateInfo(True, LIMIT_MAX, LIMIT_MAX - 1, 1)
    assert HeaderWriter(BOTH).allowed(Labels.of((label("p", quota),)), [info]) == {
        "ratelimit-policy": f'"p";q={INTEGER_MAX};w=1',
        "ratelimit": f'"p";r={INTEGER_MAX};t=1',
        "x-ratelimit-limit": "9223372036854775807",
        "x-ratelimit-remaining": "9223372036854775806",
        "x-ratelimit-reset": "1",
    }


def test_denied_fields_forbid_storing() -> None:
    """A denial must not come out of a cache later, whichever fields are chosen."""
    for headers in (Headers(), BOTH, Headers(version=None), Headers(partition_key=SECRET, retry_jitter="1h")):
        fields = HeaderWriter(headers).denied(LABELS, [denied()], 1)
        assert fields["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("limit", "policy"),
    [
        (Quota(100, "1min"), '"p";q=100;w=60'),
        (Quota(1, "100000h"), '"p";q=1;w=360000000'),
        (Quota(5, "500ms"), '"p";q=5'),
        (Quota(5, "1500ms"), '"p";q=5'),
        (Quota(5, "1ms"), '"p";q=5'),
        (Quota(7, "86400s", algorithm="fixed-window"), '"p";q=7;w=86400'),
        (Quota(7, "10s", algorithm="sliding-window"), '"p";q=7;w=10'),
        # The burst comes back in twice, one and a half times, half, and a third of the interval.
        (Quota(20, "1s", burst=40, algorithm="gcra"), '"p";q=40;w=2'),
        (Quota(20, "1s", burst=30, algorithm="gcra"), '"p";q=30'),
        (Quota(20, "1s", burst=10, algorithm="gcra"), '"p";q=10'),
        (Quota(9, "3s", burst=3, algorithm="gcra"), '"p";q=3;w=1'),
        (Quota(9, "500ms", burst=18, algorithm="gcra"), '"p";q=18;w=1'),
        (Quota(INTEGER_MAX, "1s"), f'"p";q={INTEGER_MAX};w=1'),
        (Quota(INTEGER_MAX + 1, "1s"), f'"p";q={INTEGER_MAX};w=1'),
        (Concurrency(4), '"p";q=4;qu="concurrent-requests"'),
        (Concurrency(LIMIT_MAX), f'"p";q={INTEGER_MAX};qu="concurrent-requests"'),
    ],
    ids=shown,
)
def test_policy_says_the_window_in_which_the_most_units_come_back(limit: Quota | Concurrency, policy: str) -> None:
    """The quota is the most units at once; the window is left out unless it is a whole number of seconds."""
    assert label("p", limit).policy == policy


def test_override_is_said_without_a_window(store: ShmStore) -> None:
    """A bucket of its own limit is told that limit, and no window, which is another than the policy's."""
    store.set(f"default:client:{CLIENT}", 7, "1h")
    sent, outcome = exchange(RateLimitMiddleware(store))
    assert members(sent["ratelimit-policy"]) == [("default", {"q": 7})]
    assert outcome.info is not None
    assert outcome.info.limit == 7


def test_partition_key_tells_buckets_apart(store: ShmStore) -> None:
    """The same client has the same key and another one another; another secret makes other keys of them."""
    middleware = RateLimitMiddleware(store, headers=Headers(partition_key=SECRET))
    other = exchange(RateLimitMiddleware(store, quota=AMPLE, headers=Headers(partition_key="s" * 99)))[0]["ratelimit"]
    told, denied_to = [], []
    for address in (CLIENT, CLIENT, "203.0.113.8") * 4:
        sent, outcome = exchange(middleware, address)
        ((_, policy),), ((_, rate),) = members(sent["ratelimit-policy"]), members(sent["ratelimit"])
        assert policy["pk"] == rate["pk"]
        assert isinstance(policy["pk"], bytes)
        assert b"203" not in policy["pk"]
        told.append(policy["pk"])
        if outcome.answer is not None:
            denied_to.append(address)
    assert told[0] == told[1] != told[2]
    assert members(other)[0][1]["pk"] not in told
    assert told == told[:3] * 4
    assert len(set(denied_to)) == 2


def test_partition_key_is_of_the_draft_only(store: ShmStore) -> None:
    """Without the draft's fields there is nothing to tell it in."""
    chosen = Headers(version=None, legacy=True, partition_key=SECRET)
    assert "ratelimit" not in exchange(RateLimitMiddleware(store, headers=chosen))[0]


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        (Headers(), ["RateLimit-Policy", "RateLimit", "Retry-After"]),
        (Headers(version=None), ["Retry-After"]),
        (
            Headers(version=None, legacy=True),
            ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"],
        ),
        (
            BOTH,
            [
                "RateLimit-Policy",
                "RateLimit",
                "X-RateLimit-Limit",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
                "Retry-After",
            ],
        ),
    ],
)
def test_names_are_those_that_are_sent(store: ShmStore, headers: Headers, names: list[str]) -> None:
    """`names` holds each limit field of a denial, for an application that exposes them to other origins."""
    assert list(headers.names) == names
    middleware = RateLimitMiddleware(store, headers=headers)
    sent = [exchange(middleware)[0] for _ in range(4)][-1]
    assert {name for name in sent if "ratelimit" in name or name == "retry-after"} == set(map(str.lower, names))


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"version": "draft-3"}, "version"),
        ({"version": 11}, "version"),
        ({"version": ""}, "version"),
        ({"legacy": 1}, "legacy"),
        ({"legacy": None}, "legacy"),
        ({"partition_key": ""}, "partition_key"),
        ({"partition_key": True}, "partition_key"),
        ({"partition_key": b"secret"}, "partition_key"),
        ({"retry_jitter": -1}, "retry_jitter"),
        ({"retry_jitter": "soon"}, "retry_jitter"),
        ({"retry_jitter": None}, "retry_jitter"),
        ({"retry_jitter": True}, "retry_jitter"),
        ({"retry_jitter": float("nan")}, "retry_jitter"),
        ({"retry_jitter": "101000 weeks"}, "retry_jitter"),
    ],
    ids=shown,
)
def test_headers_refuse_a_bad_value(options: dict[str, Any], setting: str) -> None:
    """The error is one line that names the option, its value and a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        Headers(**options)
    assert caught.value.setting == f"headers: {setting}"
    # The type of what was to be a secret.
    assert caught.value.value is options[setting] or caught.value.value == type(options[setting]).__name__
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_headers_are_one_value_however_they_are_written() -> None:
    """A jitter as text or as a number makes equal values."""
    assert Headers(retry_jitter="1500ms") == Headers(retry_jitter=1.5)
    assert [Headers(retry_jitter=jitter).retry_jitter_s for jitter in (0, "1ms", 1, 1.5, "1min")] == [0, 1, 1, 2, 60]
