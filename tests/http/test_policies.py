"""Several policies for one request: which cover it, all or none of which are charged, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import falcon
import falcon.testing
import pytest
from falcon.routing import DefaultRouter

from shm_store import ConfigurationError, Quota, RateInfo, ShmStore, StoreClosedError
from shm_store.falcon import Clients, Headers, Outcome, RateLimitMiddleware
from shm_store.http.client.clients import Unknown
from shm_store.policy import Policy, PolicyFile, RunningPolicies
from shm_store.policy.policy import Mode
from shm_store.testing import FakeClock
from tests.http.counts import outcomes
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT, Routed

Route = Callable[..., Routed]

ME = f"client:{CLIENT}"
UNTOUCHED = (0, 0)


def limited(store: ShmStore, *policies: Policy) -> RateLimitMiddleware:
    return RateLimitMiddleware(store, policies=policies, headers=Headers(legacy=True))


def test_one_policy_is_kept_as_a_limit_is(store: ShmStore, route: Route) -> None:
    """A policy for everything limits every path, and its key begins with its name."""
    app = route(limited(store, Policy(name="all", quota="2/min")))
    assert [*app.statuses(1), *app.statuses(2, "/nowhere")] == [200, 404, 429]
    assert store.get(f"all:{ME}") == (2, 0)
    denied = app.ask()
    assert denied.json["violated-policies"] == ["all"]
    assert denied.headers["x-ratelimit-limit"] == "2"


def test_denied_request_is_charged_to_no_policy(store: ShmStore, route: Route) -> None:
    """What one policy denies costs nothing under the others, whichever comes first."""
    app = route(
        limited(store, Policy(name="wide", quota="9/min"), Policy(name="narrow", quota="2/min", key=["global"]))
    )
    assert app.statuses(5) == [200, 200, 429, 429, 429]
    assert store.get(f"wide:{ME}") == (9, 7)
    assert store.get("narrow:global") == (2, 0)


def test_denial_by_route_gives_back_what_was_taken_before(store: ShmStore, route: Route) -> None:
    """Policies that are decided before and after routing are charged together or not at all."""
    app = route(
        limited(store, Policy(name="all", quota="9/min"), Policy(name="item", quota="2/min", routes=["/links/{code}"]))
    )
    assert app.statuses(5, "/links/a") == [200, 200, 429, 429, 429]
    assert store.get(f"all:{ME}") == (9, 7)
    assert app.statuses(2, "/links/b/c") == [404, 404]
    assert store.get(f"all:{ME}") == (9, 5)


def test_denial_before_routing_is_not_charged_by_route(store: ShmStore, route: Route) -> None:
    """A request that never gets to its route costs nothing there."""
    app = route(
        limited(store, Policy(name="all", quota="1/min"), Policy(name="item", quota="9/min", routes=["/links"]))
    )
    assert app.statuses(3) == [200, 429, 429]
    assert store.get(f"item:{ME}") == (9, 8)


def test_policy_covers_its_routes_and_methods(store: ShmStore, route: Route) -> None:
    """Routes are templates, methods are exact, exempt paths are paths; what is not covered has no fields."""
    app = route(
        limited(store, Policy(name="p", quota="1/min", routes=["/links/{code}"], methods=["POST"], exempt=["/links/x"]))
    )
    assert app.statuses(3, "/links/a") == [200, 200, 200]
    assert app.statuses(3, "/links", method="POST") == [200, 200, 200]
    assert app.statuses(3, "/links/x", method="POST") == [200, 200, 200]
    assert not [name for name in app.ask("/links/a").headers if "ratelimit" in name.lower()]
    assert [app.ask(path, method="POST").status_code for path in ("/links/a", "/links/b")] == [200, 429]


def test_exempt_of_the_middleware_is_exempt_from_all(store: ShmStore, route: Route) -> None:
    """A path that the middleware exempts is not decided on, before or after routing."""
    policies = [Policy(name="all", quota="1/min"), Policy(name="late", quota="1/min", routes=["/export"])]
    app = route(RateLimitMiddleware(store, policies=policies, exempt=["/export"]))
    assert app.statuses(3, "/export") == [200, 200, 200]
    assert store.stats().occupied == 0


def test_route_and_method_split_a_limit(store: ShmStore, route: Route) -> None:
    """Each route and method has a bucket of its own, by the template and not by the path."""
    app = route(limited(store, Policy(name="p", quota="1/min", key=["client", "method", "route"])))
    assert [app.ask(path).status_code for path in ("/links/a", "/links/b", "/links", "/export")] == [200, 429, 200, 200]
    assert app.ask("/links/a", method="POST").status_code == 200
    assert store.get(f"p:route=/links/{{code}}:method=GET:{ME}") == (1, 0)


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_invented_methods_share_a_bucket(store: ShmStore, route: Route) -> None:
    """A client gets no new bucket for a method that no application knows."""
    app = route(limited(store, Policy(name="p", quota="1/min", key=["client", "method"])))
    assert [app.ask(method=method).status_code for method in ("FOO", "BAR", "GET")] == [400, 429, 200]


def test_policy_without_its_header_is_charged_together(store: ShmStore, route: Route) -> None:
    """A key that has no other source has one bucket for all requests without it, or with an empty one."""
    app = route(limited(store, Policy(name="keys", quota="1/min", key=["header:X-Api-Key"])))
    assert app.statuses(3) == [200, 429, 429]
    assert app.statuses(2, X_Api_Key="") == [429, 429]
    assert store.get("keys:absent") == (1, 0)
    assert app.statuses(2, X_Api_Key="a") == [200, 429]


def test_policy_without_its_header_does_not_apply_if_it_skips(store: ShmStore, route: Route) -> None:
    """With absent="skip" it leaves requests without it, or with an empty one, alone; others still count."""
    skipping = Policy(name="keys", quota="1/min", key=["header:X-Api-Key"], absent="skip")
    app = route(limited(store, skipping, Policy(name="all", quota="9/min")))
    assert app.statuses(3) == [200, 200, 200]
    assert app.statuses(2, X_Api_Key="") == [200, 200]
    assert store.get(f"all:{ME}") == (9, 4)
    assert app.statuses(2, X_Api_Key="a") == [200, 429]
    assert app.statuses(1, X_Api_Key="b") == [200]


def test_sources_are_tried_in_turn(store: ShmStore, route: Route) -> None:
    """The first source that is present names the owner; a function of the application is a source like any other."""

    def tenant(req: falcon.Request) -> str | None:
        return req.get_header("X-Tenant")

    app = route(limited(store, Policy(name="p", quota="1/min", key=["header:X-Api-Key", tenant, "client"])))
    app.ask(X_Api_Key="a", X_Tenant="t")
    app.ask(X_Tenant="t")
    app.ask()
    assert [store.get(key) for key in ("p:header:x-api-key:a", "p:key:t", f"p:{ME}")] == [(1, 0)] * 3


def test_tightest_policy_is_what_the_fields_say(store: ShmStore, route: Route) -> None:
    """Of allowed requests the legacy fields say the limit with the smallest share left, the draft's every one."""
    app = route(
        limited(
            store,
            Policy(name="large", quota="100/h"),
            Policy(name="small", quota="5/min"),
            Policy(name="late", quota="2/s", routes=["/export"]),
        )
    )
    seen: list[RateInfo] = []
    app.handler.act = lambda req, _resp: seen.append(req.context.rate_limit.info)
    results = [app.ask(path) for path in ("/links", "/export")]
    limits = [result.headers["x-ratelimit-limit"] for result in results]
    assert limits == [str(info.limit) for info in seen] == ["5", "2"]
    assert [result.headers["ratelimit-policy"] for result in results] == [
        '"large";q=100;w=3600, "small";q=5;w=60',
        '"large";q=100;w=3600, "small";q=5;w=60, "late";q=2;w=1',
    ]
    assert results[1].headers["ratelimit"] == '"large";r=98;t=3600, "small";r=3;t=60, "late";r=1;t=1'


def test_denial_names_all_violated_and_the_longest_wait(store: ShmStore, route: Route) -> None:
    """A client that waits for Retry-After is not denied by another policy that was violated, too."""
    app = route(
        limited(
            store,
            Policy(name="second", quota="1/s"),
            Policy(name="free", quota="9/min"),
            Policy(name="hour", quota="1/h"),
        )
    )
    app.ask()
    denied = app.ask()
    assert denied.json["violated-policies"] == ["second", "hour"]
    assert denied.headers["retry-after"] == denied.headers["x-ratelimit-reset"] == "3600"
    assert denied.headers["ratelimit"] == '"second";r=0;t=1, "free";r=8;t=60, "hour";r=0;t=3600'


def test_context_has_every_decision(store: ShmStore, route: Route) -> None:
    """A handler finds the answer of each policy by its name, those in shadow mode included."""
    seen: list[dict[str, RateInfo]] = []
    app = route(
        limited(
            store,
            Policy(name="all", quota="9/min"),
            Policy(name="watched", quota="5/min", mode="shadow"),
            Policy(name="late", quota="7/min", routes=["/links"]),
        )
    )
    app.handler.act = lambda req, _resp: seen.append(req.context.rate_limit.infos)
    app.ask()
    assert {name: (info.limit, info.remaining) for name, info in seen[0].items()} == {
        "all": (9, 8),
        "watched": (5, 4),
        "late": (7, 6),
    }


def test_shadow_mode_counts_and_denies_nobody(store: ShmStore, route: Route) -> None:
    """The decisions of a policy in shadow mode are counted, and neither status nor fields show them."""
    middleware = limited(store, Policy(name="watched", quota="2/min", mode="shadow"), Policy(name="all", quota="9/min"))
    app = route(middleware)
    results = [app.ask() for _ in range(5)]
    assert {result.status_code for result in results} == {200}
    assert results[-1].headers["x-ratelimit-limit"] == "9"
    assert results[-1].headers["ratelimit"] == '"all";r=4;t=60'
    assert middleware.counts == {
        "watched": outcomes(allowed=2, shadow_denied=3),
        "all": outcomes(allowed=5),
    }
    assert store.get(f"watched:{ME}") == (2, 0)


def test_shadow_mode_alone_says_nothing(store: ShmStore, route: Route) -> None:
    """With nothing enforced there is no limit to tell of."""
    seen: list[Outcome] = []
    middleware = limited(store, Policy(name="watched", quota="1/min", mode="shadow"))
    app = route(middleware)
    app.handler.act = lambda req, _resp: seen.append(req.context.rate_limit)
    results = [app.ask() for _ in range(2)]
    assert [result.status_code for result in results] == [200, 200]
    assert not [name for name in results[1].headers if "ratelimit" in name.lower()]
    assert [(outcome.info, outcome.infos["watched"].allowed) for outcome in seen] == [(None, True), (None, False)]
    assert middleware.counts["watched"] == outcomes(allowed=1, shadow_denied=1)
    assert (store.stats().denied, store.stats().shadow_denied) == (0, 1)


def test_counts_are_those_of_enforced_denials(store: ShmStore, route: Route) -> None:
    """A middleware without policies counts under the name that its denials give."""
    middleware = RateLimitMiddleware(store, quota=Quota.parse("1/min"))
    app = route(middleware)
    app.statuses(3)
    assert middleware.counts == {"default": outcomes(allowed=1, denied=2)}


@pytest.mark.parametrize("router", [None, DefaultRouter], ids=["late", "at once"])
def test_cost_above_an_override_is_denied_by_its_policy(
    store: ShmStore, route: Route, clock: FakeClock, router: type[DefaultRouter] | None
) -> None:
    """A bucket without room for the cost denies; the fields list all policies, and none of the others is charged."""
    found = router() if router else None
    policies = [
        Policy(name="other", quota="9/min", algorithm="gcra"),
        Policy(name="p", quota="9/min", cost=2),
        Policy(name="watched", quota="9/min", mode="shadow"),
        Policy(name="in-flight", concurrency=4),
        Policy(name="spent", quota="1/10s", key=["global"]),
    ]
    late = Policy(name="late", quota="9/min", routes=["/links"])
    middleware = RateLimitMiddleware(store, router=found, policies=[*policies, late], headers=Headers(legacy=True))
    app = route(middleware, router=found)
    assert app.statuses(1) == [200]
    store.set(f"p:{ME}", 1, "1h")
    clock.advance(1)
    denied = app.ask()
    assert (denied.status_code, denied.json["violated-policies"]) == (429, ["p", "spent"])
    named = ['"other";q=9;w=60', '"p";q=1', '"in-flight";q=4;qu="concurrent-requests"', '"spent";q=1;w=10']
    said = ['"other";r=8;t=6', '"p";r=0', '"in-flight";r=4', '"spent";r=0;t=9']
    if found is not None:
        named.append('"late";q=9;w=60')
        said.append('"late";r=8;t=59')
    assert denied.headers["ratelimit-policy"] == ", ".join(named)
    assert denied.headers["ratelimit"] == ", ".join(said)
    assert denied.headers["x-ratelimit-limit"] == "1"
    assert not {"retry-after", "x-ratelimit-reset"} & set(denied.headers)
    assert [store.get(f"{name}:{ME}") for name in ("other", "watched", "late")] == [(9, 8)] * 3
    assert (store.stats().denied, store.stats().shadow_denied) == (2, 0)
    assert {name: counts["denied"] for name, counts in middleware.counts.items() if counts["denied"]} == {
        "p": 1,
        "spent": 1,
    }


def test_cost_above_an_override_is_denied_when_the_request_is_routed(store: ShmStore, route: Route) -> None:
    """The policies that were decided before are in the fields too, and what they took is given back."""
    late = [Policy(name=name, quota="9/min", cost=2, routes=["/links"]) for name in ("late", "later")]
    app = route(limited(store, Policy(name="other", quota="9/min"), Policy(name="in-flight", concurrency=1), *late))
    store.set(f"late:{ME}", 1, "1h")
    for _ in range(2):
        denied = app.ask()
        assert (denied.status_code, denied.json["violated-policies"]) == (429, ["late"])
        assert denied.headers["ratelimit-policy"] == (
            '"other";q=9;w=60, "in-flight";q=1;qu="concurrent-requests", "late";q=1, "later";q=9;w=60'
        )
    assert store.get(f"other:{ME}") == (9, 9)
    assert store.get(f"later:{ME}") == UNTOUCHED


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_costs_above_several_overrides(store: ShmStore, route: Route, mode: Mode) -> None:
    """Each policy whose bucket is smaller than its cost denies, but for those in shadow mode."""
    app = route(
        limited(
            store,
            Policy(name="a", quota="9/min", cost=3),
            Policy(name="b", quota="9/min", cost=3, mode=mode),
            Policy(name="c", quota="9/min"),
        )
    )
    store.set(f"a:{ME}", 2, "1h")
    store.set(f"b:{ME}", 1, "1h")
    denied = app.ask()
    enforced = ["a", "b"] if mode == "enforce" else ["a"]
    limits = {"a": '"a";q=2', "b": '"b";q=1', "c": '"c";q=9;w=60'}
    assert (denied.status_code, denied.json["violated-policies"]) == (429, enforced)
    assert denied.headers["ratelimit-policy"] == ", ".join(limits[name] for name in [*enforced, "c"])
    assert store.get(f"c:{ME}") == UNTOUCHED


def test_cost_above_an_override_is_denied_while_the_store_fails(
    store: ShmStore, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that happens to the others makes room for it."""
    app = route(limited(store, Policy(name="p", quota="9/min", cost=2), Policy(name="other", quota="9/min")))
    store.set(f"p:{ME}", 1, "1h")
    monkeypatch.setattr(store, "reserve", FailingStore(StoreClosedError("s")).reserve)
    denied = app.ask()
    assert (denied.status_code, denied.headers["ratelimit-policy"]) == (429, '"p";q=1')


def test_cost_above_an_override_in_shadow_mode_denies_nobody(store: ShmStore, route: Route) -> None:
    """The enforced policies decide as if that one were not there."""
    middleware = limited(
        store, Policy(name="p", quota="9/min", cost=2, mode="shadow"), Policy(name="all", quota="1/min")
    )
    app = route(middleware)
    store.set(f"p:{ME}", 1, "1h")
    assert app.statuses(2) == [200, 429]
    assert middleware.counts["p"] == outcomes(shadow_denied=2)


@pytest.mark.parametrize(
    ("modes", "status"),
    [
        ([("allow", "enforce"), ("allow", "enforce")], 200),
        ([("allow", "enforce"), ("deny", "enforce")], 503),
        ([("allow", "enforce"), ("deny", "shadow")], 200),
    ],
)
def test_failing_store_is_answered_as_the_strictest_policy_says(
    route: Route, modes: list[tuple[str, str]], status: int
) -> None:
    """One enforced policy that must not fail open is enough for 503; one in shadow mode has no say."""
    error = StoreClosedError("s")
    policies = [
        Policy(name=f"p{index}", quota="9/min", on_error=on_error, mode=mode)  # type: ignore[arg-type]
        for index, (on_error, mode) in enumerate(modes)
    ]
    middleware = RateLimitMiddleware(FailingStore(error), policies=policies)
    assert route(middleware).ask().status_code == status
    assert middleware.errors == {"StoreClosedError": 1}


def test_failure_by_route_gives_back_what_was_taken_before(store: ShmStore, route: Route) -> None:
    """A request that gets 503 instead of an answer charges no bucket."""

    def fail(_req: falcon.Request) -> str:
        raise ConfigurationError("who", None, "say")

    app = route(
        limited(
            store,
            Policy(name="all", quota="9/min"),
            Policy(name="late", quota="9/min", key=[fail], routes=["/links"], on_error="deny"),
        )
    )
    assert app.ask().status_code == 503
    assert store.get(f"all:{ME}") == (9, 9)


@pytest.mark.parametrize(
    ("unknown", "mode", "statuses"),
    [
        (None, "enforce", [200, 200, 429]),
        ("error", "enforce", [503, 503, 503]),
        ("error", "shadow", [200, 200, 200]),
        ("skip", "enforce", [200, 200, 200]),
    ],
)
def test_policy_without_a_client_follows_what_was_chosen(
    store: ShmStore, route: Route, unknown: Unknown | None, mode: str, statuses: list[int]
) -> None:
    """Where the server names no address, only the policies that need one are concerned; the others still count."""
    by_client = Policy(name="by-client", quota="2/min", mode=mode)  # type: ignore[arg-type]
    policies = [by_client, Policy(name="all", quota="3/min", key=["global"])]
    app = route(RateLimitMiddleware(store, policies=policies, clients=Clients(unknown=unknown)))
    assert app.statuses(3, address="") == statuses
    assert app.statuses(1) == [429 if statuses == [200] * 3 else 200]


def test_live_policies_are_followed(store: ShmStore, route: Route) -> None:
    """Policies that are replaced hold from the next request on, and what is spent under their names stays spent."""
    running = RunningPolicies([Policy(name="p", quota="3/min")])
    middleware = RateLimitMiddleware(store, policies=running)
    app = route(middleware)
    assert app.statuses(2) == [200, 200]
    running.replace([Policy(name="p", quota="5/min"), Policy(name="late", quota="9/min", routes=["/links"])])
    assert app.statuses(4) == [200, 200, 200, 429]
    running.replace([])
    assert app.statuses(2) == [200, 200]
    assert middleware.counts["p"] == outcomes(allowed=5, denied=1)


def test_middleware_refuses_two_policies_of_one_name(store: ShmStore) -> None:
    """They would share their buckets."""
    with pytest.raises(ConfigurationError, match="two"):
        limited(store, Policy(name="p", quota="5/s"), Policy(name="p", quota="9/s"))


def test_retry_after_of_several_is_kept_as_promised(store: ShmStore, route: Route, clock: FakeClock) -> None:
    """A client that waits for Retry-After is served, however many policies denied it."""
    app = route(limited(store, Policy(name="a", quota="1/10s"), Policy(name="b", quota="1/20500ms")))
    assert app.statuses(1) == [200]
    clock.advance(0.25)
    denied = app.ask()
    clock.advance(float(denied.headers["retry-after"]) - 1)
    assert app.statuses(1) == [429]
    clock.advance(1)
    assert app.statuses(1) == [200]


@pytest.mark.parametrize(
    ("new", "left"),
    [
        ({"quota": "9/hour"}, 5),
        ({"quota": "3/hour"}, 0),
        ({"quota": "7/day"}, 3),
        ({"quota": "5/hour", "algorithm": "gcra", "burst": 6}, 2),
        ({"quota": "5/hour", "algorithm": "fixed-window"}, 1),
        ({"quota": "6/day", "algorithm": "sliding-window"}, 2),
    ],
)
@pytest.mark.parametrize("has_override", [False, True])
def test_reload_keeps_what_is_spent(  # noqa: PLR0917 - a row of the table
    store: ShmStore,
    route: Route,
    tmp_path: Path,
    new: dict[str, str | int],
    left: int,
    has_override: bool,  # noqa: FBT001
) -> None:
    """Another limit, interval or algorithm counts the four units of before; a key's own quota stays what it is."""
    path = tmp_path / "limits.toml"

    def write(fields: dict[str, str | int]) -> None:
        lines = (f"{field} = {json.dumps(value)}" for field, value in fields.items())
        path.write_text("\n".join(["[[policy]]", 'name = "p"', *lines]))

    write({"quota": "5/hour"})
    policies = PolicyFile(path)
    app = route(RateLimitMiddleware(store, policies=policies))
    assert app.statuses(4) == [200] * 4
    if has_override:
        store.set(f"p:{ME}", 6, "1h", keep_spent=True)
    for _ in range(2):
        write(new)
        policies.reload()
    assert app.statuses(9).count(200) == (2 if has_override else left)


def test_override_before_the_first_request_has_the_burst_of_the_policy(store: ShmStore, route: Route) -> None:
    """Its fields tell the limit that holds; the same policy without an override has its own."""
    policy = Policy(name="p", quota="2/hour", algorithm="gcra", burst=4)
    app = route(limited(store, policy))
    store.set(f"p:{ME}", 9, "1h")
    assert app.ask().headers["x-ratelimit-limit"] == "4"
    assert app.statuses(5).count(200) == 3
    assert (store.inspect().entry(f"p:{ME}")[0].algorithm, store.get(f"p:{ME}")) == ("gcra", (4, 0))
