"""Retry-After is a promise: a client that waits so long is served, and one that comes earlier is not."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from falcon.routing import DefaultRouter

from shm_store import Quota, ShmStore
from shm_store.core.algorithms import ALGORITHMS
from shm_store.durations import NS_PER_SECOND
from shm_store.falcon import Headers, RateLimitMiddleware
from shm_store.policy import Policy
from shm_store.testing import FakeClock
from tests.http.service import Routed, Seen

Route = Callable[..., Routed]

ROUNDS = int(os.environ.get("EXAMPLES", "60"))


class Client:
    """A client that is denied sooner or later, and keeps to what it is told."""

    def __init__(self, app: Routed, seen: Seen, clock: FakeClock, rng: random.Random) -> None:
        self._app, self._seen, self._clock, self._rng = app, seen, clock, rng

    def is_served(self) -> bool:
        return self._app.ask().status_code == 200

    def until_denied(self, pauses: tuple[float, ...]) -> int:
        """Ask, with random pauses, until a request is denied; return its Retry-After."""
        while (result := self._app.ask()).status_code == 200:
            self._clock.advance(self._rng.choice(pauses) * self._rng.random())
        return int(result.headers["retry-after"])

    def promised_ns(self) -> int:
        """After how many nanoseconds the last denial ends, by the policy that denies longest."""
        return max(info.retry_after_ns for info in self._seen.outcome.infos.values() if not info.allowed)

    def wait(self, ns: int) -> None:
        self._clock.advance(ns / NS_PER_SECOND)


def check_promise(client: Client, pauses: tuple[float, ...]) -> bool:
    """Be denied, come too early, come in time; return whether the wait was longer than a second."""
    retry_s, promised_ns = client.until_denied(pauses), client.promised_ns()
    early_ns = (retry_s - 1) * NS_PER_SECOND or promised_ns - 1
    client.wait(early_ns)
    assert not client.is_served()
    client.wait(retry_s * NS_PER_SECOND - early_ns)
    assert client.is_served()
    return retry_s > 1


def quota(rng: random.Random, algorithm: str) -> Quota:
    limit = rng.randint(1, 5)
    burst = rng.choice([None, 1, 7]) if algorithm == "gcra" else None
    return Quota(limit, f"{rng.choice([250, 1_000, 1_700, 7_350, 60_001])}ms", burst, algorithm)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_retry_after_is_kept_and_no_later_than_it_need_be(
    store: ShmStore, route: Route, clock: FakeClock, algorithm: str
) -> None:
    """By each algorithm and at any phase, a client that waits so many seconds is served; a second earlier none is."""
    rng = random.Random(f"seed {algorithm}")  # noqa: S311 - phases, no secret
    long = 0
    for turn in range(ROUNDS):
        seen = Seen()
        limit = quota(rng, algorithm)
        policy = Policy(name=f"p{turn}", quota=limit, cost=rng.randint(1, limit.most))
        client = Client(route(seen, RateLimitMiddleware(store, policies=[policy])), seen, clock, rng)
        for _ in range(2):
            clock.advance(rng.random())
            long += check_promise(client, (0, limit.interval_ns / NS_PER_SECOND / limit.limit))
    assert 0 < long < 2 * ROUNDS


def test_retry_after_is_kept_for_several_policies(store: ShmStore, route: Route, clock: FakeClock) -> None:
    """Whichever policies deny, and whenever each would serve again, the longest wait is the one that is said."""
    # A limiter without the router does not ask the policies of a route about what others have denied.
    rng = random.Random("several")  # noqa: S311 - phases, no secret
    violated = set()
    for turn in range(ROUNDS):
        seen = Seen()
        policies = []
        for algorithm in rng.sample(sorted(ALGORITHMS), 3):
            limit = quota(rng, algorithm)
            cost, routes = rng.randint(1, limit.most), rng.choice([[], ["/links"]])
            policies.append(Policy(name=f"{algorithm}-{turn}", quota=limit, cost=cost, routes=routes))
        router = DefaultRouter()
        middleware = RateLimitMiddleware(store, policies=policies, router=router)
        client = Client(route(seen, middleware, router=router), seen, clock, rng)
        for _ in range(2):
            clock.advance(rng.random())
            check_promise(client, (0, 0, 1))
            violated.add(len([info for info in seen.outcome.infos.values() if not info.allowed]))
            client.until_denied((0,))
            violated.add(len([info for info in seen.outcome.infos.values() if not info.allowed]))
    assert violated >= {1, 2}


@pytest.mark.parametrize("several", [False, True])
def test_retry_after_with_jitter_is_never_early(
    store: ShmStore, route: Route, clock: FakeClock, *, several: bool
) -> None:
    """Each denial is told the wait or up to the jitter more, chosen anew; what else is said has no jitter."""
    policies = [Policy(name="p", quota="1/7500ms"), *([Policy(name="q", quota="9/min")] if several else [])]
    headers = Headers(legacy=True, retry_jitter="2500ms")
    app = route(RateLimitMiddleware(store, policies=policies, headers=headers))
    assert app.ask().status_code == 200
    told = [app.ask().headers for _ in range(200)]
    assert {int(fields["retry-after"]) for fields in told} == {8, 9, 10, 11}
    assert {(fields["x-ratelimit-reset"], fields["ratelimit"].split(", ")[0]) for fields in told} == {
        ("8", '"p";r=0;t=8')
    }
    clock.advance(8)
    assert app.ask().status_code == 200


def test_retry_after_without_jitter_is_the_same_for_all(store: ShmStore, route: Route) -> None:
    """No answer asks for a longer wait than needed unless the application has chosen so."""
    app = route(RateLimitMiddleware(store, policies=[Policy(name="p", quota="1/7500ms")]))
    app.ask()
    assert {app.ask().headers["retry-after"] for _ in range(50)} == {"8"}
