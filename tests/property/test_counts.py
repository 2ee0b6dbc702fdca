"""The counters of requests and of policies add up, for any policies and any requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import falcon
import falcon.testing
import pytest
from falcon.routing import DefaultRouter
from hypothesis import given, settings
from hypothesis import strategies as st

from shm_store import Config, ShmStore
from shm_store.errors import StoreClosedError
from shm_store.falcon import RateLimitMiddleware
from shm_store.policy import Policy
from tests.segments import new_segment_name

ROUTES: Final = ("/a", "/b")
METHODS: Final = ("GET", "POST")


def _fail(_request: object) -> str:
    raise StoreClosedError("of a key")


class _Resource:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = 404

    on_post = on_get


def _covers(policy: Policy, method: str, path: str) -> bool:
    return (not policy.methods or method in policy.methods) and (not policy.routes or path in policy.routes)


def _is_routed(answer: falcon.testing.Result, covering: list[Policy]) -> bool:
    """Return whether a middleware without the router has let a request through to its route."""
    early = [policy for policy in covering if not policy.routes]
    if answer.status_code == 429:
        return not {policy.name for policy in early} & set(answer.json["violated-policies"])
    failing = (policy.key == (_fail,) and policy.on_error == "deny" and policy.mode == "enforce" for policy in early)
    return answer.status_code == 404 or not any(failing)


@st.composite
def _policies(draw: st.DrawFn) -> list[Policy]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        covers: dict[str, Any] = {
            "methods": draw(st.sampled_from([[], ["POST"]])),
            "routes": draw(st.sampled_from([[], ["/a"], ["/b"]])),
        }
        how: dict[str, Any] = {
            "key": draw(st.sampled_from([["client"], ["global", "method"], [_fail]])),
            "mode": draw(st.sampled_from(["enforce", "enforce", "shadow"])),
            "on_error": draw(st.sampled_from(["allow", "allow", "deny"])),
        }
        if draw(st.booleans()):
            how |= {"quota": f"{draw(st.integers(1, 4))}/h", "refund": draw(st.sampled_from([None, ["4xx"]]))}
        else:
            how["concurrency"] = draw(st.integers(1, 2))
        made.append(Policy(name=f"p{number}", **covers, **how))
    return made


@pytest.fixture(scope="module")
def store() -> Iterator[ShmStore]:
    opened = ShmStore.open(Config(limit=3, initial_size=256, stripes=1, name=new_segment_name()))
    try:
        yield opened
    finally:
        opened.unlink()
        opened.close()


@settings(max_examples=150)
@given(
    policies=_policies(),
    asked=st.lists(st.tuples(st.sampled_from(METHODS), st.sampled_from((*ROUTES, "/c"))), max_size=8),
    has_router=st.booleans(),
)
def test_counters_add_up(
    store: ShmStore, policies: list[Policy], asked: list[tuple[str, str]], *, has_router: bool
) -> None:
    """What became of requests is what clients were told; each policy has one outcome for each request it covers."""
    store.reset_all()
    router = DefaultRouter() if has_router else None
    middleware = RateLimitMiddleware(store, router=router, policies=policies)
    app = falcon.App(router=router, middleware=[middleware])
    for path in ROUTES:
        app.add_route(path, _Resource())
    client = falcon.testing.TestClient(app)
    policies_before, before = middleware.counts, Counter(middleware.requests)
    told, covered = Counter[int](), Counter[str]()
    for method, path in asked:
        answer = client.simulate_request(method, path, remote_addr="203.0.113.7")
        covering = [policy for policy in policies if _covers(policy, method, path)]
        told[answer.status_code] += bool(covering)
        covered.update(
            policy.name for policy in covering if has_router or not policy.routes or _is_routed(answer, covering)
        )
    now = {name: count - before[name] for name, count in middleware.requests.items()}
    assert now["allowed"] + now["unlimited"] == told[404]
    assert (now["denied"], now["failed"]) == (told[429], told[503])
    counts = {
        name: {kind: value - policies_before[name][kind] for kind, value in outcomes.items()}
        for name, outcomes in middleware.counts.items()
    }
    for policy in policies:
        assert sum(counts[policy.name].values()) == covered[policy.name], policy
        assert counts[policy.name]["allowed"] <= told[404]
