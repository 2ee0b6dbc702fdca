"""What policies demand of the store: a middleware refuses what the store cannot keep when it is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import falcon
import pytest
from falcon.routing import DefaultRouter

from shm_store import Concurrency, ConfigurationError, Quota, RateLimiter, ShmStore, limited
from shm_store.asgi import RateLimitMiddleware as AsgiMiddleware
from shm_store.core.front import Front
from shm_store.falcon import FALCON, RateLimitMiddleware, RequestLimiter, limit
from shm_store.policy import Policy, RunningPolicies
from shm_store.redis import RedisStore
from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseConfig, LeaseStore
from shm_store.wsgi import RateLimitMiddleware as WsgiMiddleware
from tests.http.service import Routed

#: Nothing listens there.
NOWHERE = "redis://127.0.0.1:1"
#: A limit that a server cannot count by, and how the error begins.
IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"quota": Quota(2, "1000000001ns")}, "interval is 1.000000001: give whole microseconds"),
    ({"quota": f"{2**52}/s"}, f"limit is {2**52}: give {2**52 - 1} at most"),
    ({"quota": "1000000000/s", "algorithm": "gcra", "burst": 2**52}, f"burst is {2**52}: give {2**52 - 1} at most"),
    ({"concurrency": 2**52}, f"limit is {2**52}: give {2**52 - 1} at most"),
    ({"quota": "1/1000001ns", "mode": "shadow"}, "interval is 0.001000001: give whole microseconds"),
    ({"quota": "1/1001us"}, ""),
    ({"quota": f"{2**52 - 1}/s"}, ""),
    ({"concurrency": 2**52 - 1}, ""),
]

Middleware = Callable[[RateLimiter, Any], object]

MIDDLEWARE: list[Middleware] = [
    lambda store, policies: RateLimitMiddleware(store, policies=policies),
    lambda store, policies: RateLimitMiddleware(store, router=DefaultRouter(), policies=policies),
    lambda store, policies: WsgiMiddleware(lambda *_: [], store, policies=policies),
    lambda store, policies: AsgiMiddleware(_no_app, store, policies=policies),
    lambda store, policies: RequestLimiter(store, FALCON, policies=policies),
]


async def _no_app(*_: object) -> None: ...


@pytest.fixture(params=["redis", "bookkeeping", "fallback", "leases", "leases with fallback"])
def remote(request: pytest.FixtureRequest, store: ShmStore) -> Iterator[RateLimiter]:
    """Each store on a server, of which none is contacted."""
    with ExitStack() as stack:
        shared = stack.enter_context(RedisStore.open(NOWHERE))
        made: dict[str, Callable[[], Any]] = {
            "redis": lambda: shared,
            "bookkeeping": lambda: BookkeepingStore(shared, store),
            "fallback": lambda: FallbackStore(shared, store, 3),
            "leases": lambda: LeaseStore(shared, store, LeaseConfig(hosts=3)),
            "leases with fallback": lambda: LeaseStore(
                shared, store, LeaseConfig(hosts=3), otherwise=FallbackStore(shared, store, 3)
            ),
        }
        yield stack.enter_context(made[request.param]())


@pytest.mark.parametrize("make", MIDDLEWARE, ids=["falcon", "router", "wsgi", "asgi", "limiter"])
@pytest.mark.parametrize(("fields", "error"), IMPOSSIBLE, ids=lambda value: str(value)[:40])
def test_policy_that_the_server_cannot_count_by_is_refused(
    remote: RateLimiter, make: Middleware, fields: dict[str, Any], error: str
) -> None:
    """Each request would be an error, which `on_error` lets through; the error names the policy and what to give."""
    policies = [Policy(name="good", quota="1/s"), Policy(name="bad", **fields)]
    if not error:
        make(remote, policies)
        return
    with pytest.raises(ConfigurationError) as caught:
        make(remote, policies)
    assert str(caught.value).startswith(f"policy 'bad': {error}")


@pytest.mark.parametrize(("fields", "error"), IMPOSSIBLE[:2], ids=["interval", "limit"])
def test_policy_of_a_middleware_without_policies_is_asked_about(
    remote: RateLimiter, fields: dict[str, Any], error: str
) -> None:
    """The quota of its arguments is a policy like any other."""
    quota = Policy(name="bad", **fields).limit
    assert isinstance(quota, Quota)
    with pytest.raises(ConfigurationError, match="policy 'default': ") as caught:
        RateLimitMiddleware(remote, quota=quota)
    assert error in str(caught.value)


def test_table_counts_by_every_limit(store: ShmStore) -> None:
    """Limits that a server refuses are no errors on a table."""
    RateLimitMiddleware(store, policies=[Policy(name=f"p{at}", **fields) for at, (fields, _) in enumerate(IMPOSSIBLE)])
    store.check(Concurrency(2**63 - 1))
    limited(Quota(2, "1000000001ns"), key="k", store=store)


def test_limit_of_a_responder_is_asked_about(remote: RateLimiter) -> None:
    """The middleware knows the responders that are marked before it is made."""

    @limit(Quota(2, "1000000001ns"), name="marked")
    def on_get(_self: object, _req: falcon.Request, _resp: falcon.Response) -> None: ...

    with pytest.raises(ConfigurationError, match="policy 'marked': interval is"):
        RateLimitMiddleware(remote, router=DefaultRouter())
    # Without the router it enforces no limit of a responder.
    RateLimitMiddleware(remote)


def test_limit_of_a_responder_that_is_marked_later_is_answered_503(
    remote: RateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a request shows it: the request is not served without its limit, and the log names the policy."""
    router = DefaultRouter()
    app = Routed("wsgi", RateLimitMiddleware(remote, router=router), router=router)

    class Late:
        @limit(Quota(2, "1000000001ns"), name="marked")
        def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...

    app.app.add_route("/late", Late())
    with caplog.at_level(logging.ERROR):
        assert app.statuses(2, "/late") == [503, 503]
    (line,) = [record.getMessage() for record in caplog.records if "503" in record.getMessage()]
    assert "policy 'marked': interval is 1.000000001" in line


def test_reload_of_a_policy_that_the_server_cannot_count_by_changes_nothing(
    remote: RateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """The policies that run stay, and the log says why."""
    running = RunningPolicies([Policy(name="p", quota="3/min")])
    limiter = RequestLimiter(remote, FALCON, policies=running)
    running.replace([Policy(name="q", quota=Quota(2, "1000000001ns"))])
    with caplog.at_level(logging.ERROR):
        names = {rule.name for rule in limiter._running.current().early.rules}
    assert names == {"p"}
    (line,) = [record.getMessage() for record in caplog.records if "stay" in record.getMessage()]
    assert line.startswith("policies stay as they were: policy 'q': interval is 1.000000001: give whole microseconds")


@pytest.mark.parametrize("edits", [1, 3])
def test_worker_that_starts_after_such_a_reload_keeps_the_policies_that_ran(
    remote: RateLimiter, caplog: pytest.LogCaptureFixture, edits: int
) -> None:
    """A server ends when its workers fail to boot; a fork gives them the policies that the master has read."""
    running = RunningPolicies()
    running.replace([Policy(name="p", quota="3/min")])
    for _ in range(edits):
        running.replace([Policy(name="q", quota=Quota(2, "1000000001ns"))])
    limiter = RequestLimiter(remote, FALCON, policies=running)
    assert [rule.name for rule in limiter._running.current().early.rules] == ["p"]
    assert "policies stay as they were: policy 'q': interval is" in caplog.text
    running.replace([Policy(name="r", quota="3/min")])
    assert [rule.name for rule in limiter._running.current().early.rules] == ["r"]


def test_first_policies_that_the_server_cannot_count_by_stop_the_start(remote: RateLimiter) -> None:
    """There are none before them: an empty set would be no limit at all."""
    running = RunningPolicies()
    running.replace([Policy(name="q", quota=Quota(2, "1000000001ns"))])
    with pytest.raises(ConfigurationError, match="policy 'q'"):
        RequestLimiter(remote, FALCON, policies=running)


@pytest.mark.parametrize(("fields", "error"), IMPOSSIBLE[:3], ids=["interval", "limit", "burst"])
def test_limited_refuses_a_quota_that_its_store_cannot_count_by(
    remote: Front[str], fields: dict[str, Any], error: str
) -> None:
    """When it decorates, not at each call."""
    quota = Policy(name="bad", **fields).limit
    assert isinstance(quota, Quota)
    with pytest.raises(ConfigurationError) as caught:
        limited(quota, key="k", store=remote)
    assert str(caught.value).startswith(error)
