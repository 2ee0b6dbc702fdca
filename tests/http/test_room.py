"""A request limiter's look at what is left, which charges nothing."""

from __future__ import annotations

import falcon.testing
import pytest

from shm_store import RateLimiter, ShmStore, StoreError
from shm_store.falcon import FALCON, RequestLimiter
from shm_store.policy import Policy
from tests.http.failing_store import FailingStore

KEY = "a:client:127.0.0.1"


def _policy(**fields: object) -> Policy:
    return Policy(**({"name": "a", "quota": "2/hour", "key": ["client"]} | fields))  # type: ignore[arg-type]


def _has_room(store: RateLimiter, *policies: Policy, method: str = "GET", path: str = "/", **options: object) -> bool:
    limiter = RequestLimiter(store, FALCON, policies=policies, **options)  # type: ignore[arg-type]
    request = falcon.testing.create_req(method=method, path=path, remote_addr="127.0.0.1")
    return limiter.has_room(request, method, path)


def test_room_is_what_is_left(store: ShmStore) -> None:
    """There is room as long as the bucket has units, however often the caller looks."""
    for left in (2, 1):
        assert all(_has_room(store, _policy()) for _ in range(9))
        assert store.take(KEY, quota=_policy().limit).remaining == left - 1  # type: ignore[arg-type]
    assert not _has_room(store, _policy())
    assert store.inspect().policies()["a"].denied == 0


@pytest.mark.parametrize(
    "fields",
    [{"mode": "shadow"}, {"methods": ["POST"]}, {"paths": ["/else"]}, {"exempt": ["/"]}, {"routes": ["/"]}],
    ids=str,
)
def test_room_is_there_for_what_a_policy_does_not_deny(store: ShmStore, fields: dict[str, object]) -> None:
    """A spent policy leaves room if it is in shadow mode or does not cover the request."""
    store.take(KEY, 2, _policy().limit)  # type: ignore[arg-type]
    assert not _has_room(store, _policy())
    assert _has_room(store, _policy(**fields))


def test_room_is_there_for_exempt_requests(store: ShmStore) -> None:
    """A request may be exempt by its method or by its path."""
    store.take(KEY, 2, _policy().limit)  # type: ignore[arg-type]
    assert _has_room(store, _policy(), method="OPTIONS", exempt_methods=["OPTIONS"])
    assert _has_room(store, _policy(), path="/free", exempt=["/free"])


def test_room_of_a_preflight_is_in_its_own_bucket(store: ShmStore) -> None:
    """A preflight has room if its own bucket has units, whatever the client's other bucket has left."""
    limiter = RequestLimiter(store, FALCON, policies=[_policy()])
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    preflight = falcon.testing.create_req(method="OPTIONS", headers=headers, remote_addr="127.0.0.1")
    store.take(KEY, 2, _policy().limit)  # type: ignore[arg-type]
    assert limiter.has_room(preflight, "OPTIONS", "/")
    store.take("a:preflight:client:127.0.0.1", 2, _policy().limit)  # type: ignore[arg-type]
    assert not limiter.has_room(preflight, "OPTIONS", "/")


def test_room_is_wanted_of_every_policy(store: ShmStore) -> None:
    """There is no room if one policy would deny; concurrency limits are left out."""
    store.take(KEY, 2, _policy().limit)  # type: ignore[arg-type]
    other, in_flight = _policy(name="b"), Policy(name="c", concurrency=1, key=["client"])
    assert _has_room(store, other, in_flight)
    assert not _has_room(store, other, _policy(), in_flight)


def test_room_is_not_there_for_a_cost_above_the_limit(store: ShmStore) -> None:
    """An override may be below the cost of a policy: then there is no room, even with all units left."""
    store.set(KEY, 1, "1h")
    assert not _has_room(store, _policy(cost=2))


def test_room_cannot_be_told_while_the_store_fails() -> None:
    """The error reaches the caller, which decides about the request."""
    with pytest.raises(StoreError):
        _has_room(FailingStore(StoreError()), _policy())
