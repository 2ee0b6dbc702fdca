"""Requests whose keys lie in several slots of a cluster: refused at the start, or else decided slot by slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIEnvironment

import falcon
import falcon.testing
import msgspec
import pytest
from falcon.routing import DefaultRouter

from service.app.conf import Settings
from service.app.construct import wsgi
from shm_store import Concurrency, Config, ConfigurationError, Quota, RateLimiter, ShmStore
from shm_store.falcon import FALCON, RateLimitMiddleware, RequestLimiter, limit, marks
from shm_store.falcon.marks import Marks
from shm_store.policy import Policy, RunningPolicies, load
from shm_store.policy.policy import OnError
from shm_store.redis import RedisConfig, RedisStore
from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseConfig, LeaseStore
from shm_store.wsgi import RateLimitMiddleware as WsgiMiddleware
from tests.engine.cluster import Cluster
from tests.engine.conftest import OpenStore
from tests.http.service import CLIENT, Routed
from tests.http.test_wsgi import ask, pong
from tests.segments import new_segment_name

#: Nothing listens there.
NOWHERE = "redis+cluster://127.0.0.1:1"
ME = f"client:{CLIENT}"
KEYED = ("header:X-Api-Key", "client")

IP = Policy(name="ip", quota="3/hour")
API = Policy(name="api", quota="5/hour", key=KEYED)


@pytest.fixture
def prefix() -> str:
    return new_segment_name()


@pytest.fixture
def table() -> Iterator[ShmStore]:
    with ShmStore.open(Config(name=new_segment_name(), initial_size=256)) as opened:
        yield opened
        opened.unlink()


@pytest.fixture(params=["redis", "bookkeeping", "fallback", "leases"])
def store(request: pytest.FixtureRequest, whole_cluster: Cluster, prefix: str, table: ShmStore) -> Iterator[Any]:
    """Each store over a cluster."""
    with ExitStack() as stack:
        config = RedisConfig(prefix=prefix, timeout="20s")
        shared = stack.enter_context(RedisStore.open(whole_cluster.url, config))
        made: dict[str, Callable[[], Any]] = {
            "redis": lambda: shared,
            "bookkeeping": lambda: BookkeepingStore(shared, table),
            "fallback": lambda: FallbackStore(shared, table, 2),
            "leases": lambda: LeaseStore(
                shared, table, LeaseConfig(hosts=2), otherwise=FallbackStore(shared, table, 2)
            ),
        }
        yield stack.enter_context(made[request.param]())


@pytest.fixture
def shared(whole_cluster: Cluster, open_store: OpenStore, prefix: str) -> RedisStore:
    return open_store(whole_cluster.url, prefix=prefix, timeout="20s")


def keys(count: int) -> list[str]:
    """Values of a header whose slots are spread over the cluster."""
    return [f"key-{number}" for number in range(count)]


# --- refused at the start

APART: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"key": ["client"]}, {"key": ["header:X-Api-Key"], "mode": "shadow"}),
    ({"key": ["client"]}, {"key": ["global"]}),
    ({"key": ["header:X-A"]}, {"key": ["client"]}),
    ({"key": ["header:X-A"], "absent": "skip"}, {"key": ["header:X-B"], "absent": "skip"}),
    ({"key": ["client", "route"]}, {"key": ["global", "method"]}),
    ({"methods": ["GET", "POST"]}, {"key": ["global"], "methods": ["POST"]}),
    ({"paths": ["/v1/*"]}, {"key": ["global"], "paths": ["/v1/login"]}),
    ({"paths": ["/v1/*"]}, {"key": ["global"], "routes": ["/v1/{id}"]}),
    ({"routes": ["/a", "/b"]}, {"key": ["global"], "routes": ["/b"]}),
    ({"exempt": ["/login"]}, {"key": ["global"], "paths": ["/login", "/logout"]}),
    # As a request for `/v1`, and one for `/LOGIN`, is covered by both.
    ({"paths": ["/v1/*"]}, {"key": ["global"], "paths": ["/v2/*", "/v1"]}),
    ({"paths": ["/login/"]}, {"key": ["global"], "paths": ["/login"]}),
    ({"paths": ["/LOGIN"]}, {"key": ["global"], "paths": ["/login"], "ignore_case": True}),
    ({"routes": ["/V1/{id}"]}, {"key": ["global"], "paths": ["/v1/*"], "ignore_case": True}),
]
TOGETHER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"key": ["client"]}, {"key": KEYED}),
    ({"key": ["header:X-A", "client"]}, {"key": ["header:x-a"]}),
    ({"key": ["global"]}, {"key": ["global", "route"]}),
    ({"methods": ["GET"]}, {"key": ["global"], "methods": ["HEAD", "POST"]}),
    ({"paths": ["/v1/*"]}, {"key": ["global"], "paths": ["/v2/*", "/v10", "/v"]}),
    ({"paths": ["/LOGIN"]}, {"key": ["global"], "paths": ["/login"]}),
    ({"paths": ["/v1/*"]}, {"key": ["global"], "routes": ["/v2/{id}"]}),
    ({"paths": ["/v1"]}, {"key": ["global"], "routes": ["/v1/{id}"]}),
    ({"routes": ["/a"]}, {"key": ["global"], "routes": ["/b", "/{a}"]}),
    ({"exempt": ["/log*"]}, {"key": ["global"], "paths": ["/login", "/logout"]}),
]


def _named(one: dict[str, Any], other: dict[str, Any]) -> list[Policy]:
    fields = Policy.__struct_fields__
    kept = [{name: value for name, value in each.items() if name in fields} for each in (one, other)]
    return [Policy(name=name, quota="3/hour", **each) for name, each in zip(("one", "other"), kept, strict=True)]


@pytest.mark.parametrize("order", [1, -1], ids=["", "reversed"])
@pytest.mark.parametrize("pair", APART, ids=str)
def test_policies_that_can_never_share_a_slot_are_refused(
    open_store: OpenStore, pair: tuple[dict[str, Any], dict[str, Any]], order: int
) -> None:
    """In either order, with what to do; on a single server they are taken in one step."""
    policies = _named(*pair)[::order]
    with pytest.raises(
        ConfigurationError, match=rf"policy '{policies[1].name}': key is .*: add .*'{policies[0].name}'"
    ):
        RequestLimiter(open_store(NOWHERE), FALCON, policies=policies)
    RequestLimiter(open_store("redis://127.0.0.1:1"), FALCON, policies=policies)


@pytest.mark.parametrize("pair", TOGETHER, ids=str)
def test_policies_that_can_share_a_slot_or_never_meet_are_not_refused(
    open_store: OpenStore, pair: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """A source in common is enough; so is that no request is covered by both."""
    RequestLimiter(open_store(NOWHERE), FALCON, policies=_named(*pair))


def test_store_of_two_tiers_is_asked_about_its_server(store: RateLimiter) -> None:
    """The table beside it takes any keys together, but does not decide."""
    with pytest.raises(ConfigurationError, match="policy 'api': key is"):
        WsgiMiddleware(pong, store, policies=[IP, Policy(name="api", quota="1/s", key=["header:X-Api-Key"])])


def test_reload_of_policies_that_can_never_share_a_slot_changes_nothing(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The policies that run stay, and the log names the pair."""
    running = RunningPolicies([IP])
    limiter = RequestLimiter(open_store(NOWHERE), FALCON, policies=running)
    running.replace([IP, Policy(name="all", quota="9/s", key=["global"])])
    assert [rule.name for rule in limiter._running.current().early.rules] == ["ip"]
    assert "policies stay as they were: policy 'all': key is ['global']: add 'client'" in caplog.text


@pytest.mark.parametrize("operation", ["take_all", "reserve"])
@pytest.mark.parametrize("server", ["up", "down"])
def test_keys_of_several_slots_are_an_error_of_every_store(
    whole_cluster: Cluster, open_store: OpenStore, table: ShmStore, operation: str, server: str
) -> None:
    """All or nothing is what the calls promise; also while the table decides in the server's place."""
    shared = open_store(NOWHERE if server == "down" else whole_cluster.url, backoff="1h")
    fallback = FallbackStore(shared, table, 2)
    stores = [shared, fallback, LeaseStore(shared, table, LeaseConfig(hosts=2), otherwise=fallback)]
    if server == "down":
        assert fallback.take("k").allowed
    takes = [(key, Quota(5, "1h"), 1) for key in whole_cluster.one_key_each()]
    for each in stores:
        with pytest.raises(ConfigurationError, match="only the keys of one client"):
            getattr(each, operation)(takes)


# --- decided slot by slot


def statuses(app: WsgiMiddleware, values: list[str], **environ: str) -> list[str]:
    return [ask(app, HTTP_X_API_KEY=value, **environ).status[:3] for value in values]


def test_client_that_was_denied_stays_so_whatever_header_it_adds(store: Any) -> None:  # noqa: ANN401 - several stores
    """A header moves the key of one policy to another slot, and makes no limit disappear."""
    app = WsgiMiddleware(pong, store, policies=[IP, API, Policy(name="m", quota="9/hour", key=KEYED, mode="shadow")])
    assert statuses(app, keys(3)) == ["200"] * 3
    denied = ask(app, HTTP_X_API_KEY="key-1")
    assert (denied.status[:3], denied.headers["ratelimit-policy"]) == ("429", '"ip";q=3;w=3600, "api";q=5;w=3600')
    assert denied.headers["ratelimit"].startswith('"ip";r=0;t=')
    assert '"api";r=4;t=' in denied.headers["ratelimit"]
    assert statuses(app, keys(20)) == ["429"] * 20
    assert ask(app).status[:3] == "429"
    assert app.errors == {}
    # Another client is not charged for what was denied.
    assert statuses(app, ["key-1"] * 3, REMOTE_ADDR="198.51.100.7") == ["200"] * 3
    assert {name: counts["denied"] for name, counts in app.counts.items()} == {"ip": 22, "api": 0, "m": 0}


def test_denial_by_a_later_slot_charges_no_earlier_one(shared: RedisStore) -> None:
    """The slots before it are refunded, and the denial reports the units that they have."""
    app = WsgiMiddleware(pong, shared, policies=[Policy(name="ip", quota="9/hour"), API])
    assert statuses(app, ["k"] * 8) == ["200"] * 5 + ["429"] * 3
    denied = ask(app, HTTP_X_API_KEY="k")
    assert b'"violated-policies":["api"]' in denied.body
    assert '"ip";r=4;' in denied.headers["ratelimit"]
    assert shared.get(f"ip:{ME}") == (9, 4)
    assert shared.get("api:header:x-api-key:k") == (5, 0)
    assert app.counts["ip"]["denied"] == 0


def test_denial_names_the_violated_policies_of_every_slot(shared: RedisStore) -> None:
    """Though the first of them is enough for it."""
    app = WsgiMiddleware(pong, shared, policies=[IP, Policy(name="api", quota="3/hour", key=KEYED)])
    assert statuses(app, ["k"] * 4) == ["200"] * 3 + ["429"]
    assert b'"violated-policies":["ip","api"]' in ask(app, HTTP_X_API_KEY="k").body


@pytest.mark.parametrize("first", ["enforced", "shadow"])
def test_shadow_mode_denies_nobody_in_any_slot(shared: RedisStore, first: str) -> None:
    """Its units are taken if the enforced policies allow, whichever slot comes first."""
    watched = Policy(name="watched", quota="1/hour", key=KEYED, mode="shadow")
    app = WsgiMiddleware(pong, shared, policies=[IP, watched] if first == "enforced" else [watched, IP])
    assert statuses(app, ["k"] * 5) == ["200"] * 3 + ["429"] * 2
    assert shared.get("watched:header:x-api-key:k") == (1, 0)
    assert statuses(app, ["new"]) == ["429"]
    assert shared.get("watched:header:x-api-key:new") == (0, 0)
    assert app.counts["watched"]["shadow_denied"] == 4


def test_cost_above_an_override_in_any_slot(shared: RedisStore) -> None:
    """It denies, and no bucket is charged."""
    app = WsgiMiddleware(
        pong,
        shared,
        policies=[Policy(name="ip", quota="9/hour", cost=2), Policy(name="api", quota="9/hour", key=KEYED)],
    )
    shared.set(f"ip:{ME}", 1, "1h")
    denied = ask(app, HTTP_X_API_KEY="k")
    assert (denied.status[:3], denied.headers["ratelimit-policy"]) == ("429", '"ip";q=1, "api";q=9;w=3600')
    shared.reset(f"ip:{ME}")
    ask(app, HTTP_X_API_KEY="k")
    shared.set("api:header:x-api-key:k", 1, "1h")
    assert ask(app, HTTP_X_API_KEY="k").status[:3] == "200"
    assert ask(app, HTTP_X_API_KEY="k").status[:3] == "429"
    assert shared.get(f"ip:{ME}") == (9, 5)


def test_units_in_flight_of_every_slot_end_with_the_request(shared: RedisStore) -> None:
    """And with a denial by another slot."""
    during: list[tuple[bool, bool]] = []
    both = (f"ip:{ME}", "api:header:x-api-key:k")

    def look(environ: WSGIEnvironment, start: Any) -> Any:  # noqa: ANN401 - passed on
        during.append((_is_free(shared, both[0]), _is_free(shared, both[1])))
        return pong(environ, start)

    policies = [
        Policy(name="ip", concurrency=1),
        Policy(name="api", concurrency=1, key=KEYED),
        Policy(name="few", quota="2/hour", key=KEYED),
    ]
    app = WsgiMiddleware(look, shared, policies=policies)
    assert statuses(app, ["k"] * 4) == ["200", "200", "429", "429"]
    assert during == [(False, False)] * 2
    assert [_is_free(shared, key) for key in both] == [True, True]


def _is_free(store: RedisStore, key: str) -> bool:
    with store.reserve(key, 1, Concurrency(1)) as reservation:
        return reservation.allowed


def test_refund_and_commit_reach_every_slot(shared: RedisStore) -> None:
    """Each by its own statuses, or by what the handler says."""
    said: list[int] = []

    def answer(environ: WSGIEnvironment, start: Any) -> Any:  # noqa: ANN401 - passed on
        reservation = environ["shm_store.rate_limit"].reservation
        for used in said:
            reservation.commit(used)
        return pong(environ, start)

    policies = [
        Policy(name="ip", quota="9/hour", refund=["2xx"]),
        Policy(name="api", quota="9/hour", key=KEYED, refund=["5xx"]),
    ]
    app = WsgiMiddleware(answer, shared, policies=policies)
    assert statuses(app, ["k"] * 2) == ["200"] * 2
    assert [shared.get(key) for key in (f"ip:{ME}", "api:header:x-api-key:k")] == [(9, 9), (9, 7)]
    said.append(3)
    assert statuses(app, ["k"]) == ["200"]
    assert [shared.get(key) for key in (f"ip:{ME}", "api:header:x-api-key:k")] == [(9, 6), (9, 4)]


@pytest.mark.parametrize("router", [None, DefaultRouter], ids=["late", "at once"])
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_policies_by_route_are_decided_slot_by_slot(
    shared: RedisStore, router: type[DefaultRouter] | None, kind: str
) -> None:
    """Also those that Falcon decides after the others."""
    found = router() if router else None
    policies = [
        Policy(name="ip", quota="9/hour"),
        API,
        Policy(name="late", quota="2/hour", key=KEYED, routes=["/links"]),
    ]
    app = Routed(kind, RateLimitMiddleware(shared, router=found, policies=policies), router=found)
    assert app.statuses(4, x_api_key="k") == [200, 200, 429, 429]
    assert [shared.get(key) for key in (f"ip:{ME}", "api:header:x-api-key:k")] == [(9, 7), (5, 3)]
    assert app.statuses(4, "/export", x_api_key="k") == [200, 200, 200, 429]
    assert shared.get(f"ip:{ME}") == (9, 4)


def test_limits_of_a_responder_are_decided_slot_by_slot(shared: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests that they meet are unknown at the start."""
    monkeypatch.setattr(Marks, "first", None)
    monkeypatch.setattr(marks, "_named", {})

    class Marked:
        @limit("4/hour", name="own", key=["global"])
        def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...

    router = DefaultRouter()
    app = Routed("wsgi", RateLimitMiddleware(shared, router=router, policies=[IP]), router=router)
    app.app.add_route("/marked", Marked())
    assert app.statuses(4, "/marked") == [200, 200, 200, 429]
    assert app.statuses(3, "/marked", address="198.51.100.7") == [200, 429, 429]
    assert shared.get("own:global") == (4, 0)


def _on_nodes(cluster: Cluster) -> tuple[str, str]:
    """A client whose slot the first node has, and a value of the header whose slot the second one has."""
    clients = [f"203.0.113.{number}" for number in range(256)]
    client = next(client for client in clients if cluster.owner(f"ip:client:{client}") == 0)
    return client, next(key for key in keys(99) if cluster.owner(f"api:header:x-api-key:{key}") == 1)


def test_node_that_fails_leaves_the_other_slots_enforced(cluster: Cluster, open_store: OpenStore) -> None:
    """The policy of its slot lets requests through, and the back-off keeps no call from the other nodes."""
    store = open_store(cluster.url, backoff="1h", timeout="5s")
    client, value = _on_nodes(cluster)
    policies = [Policy(name="ip", quota="9/hour"), Policy(name="api", quota="3/hour", key=KEYED)]
    app = WsgiMiddleware(pong, store, policies=policies)
    assert statuses(app, [value], REMOTE_ADDR=client) == ["200"]
    cluster.nodes[0].kill()
    assert statuses(app, [value] * 4, REMOTE_ADDR=client) == ["200", "200", "429", "429"]
    denied = ask(app, HTTP_X_API_KEY=value, REMOTE_ADDR=client)
    assert denied.headers["ratelimit-policy"] == '"api";q=3;w=3600'
    assert app.errors == {"EngineError": 5}
    assert store.is_failing


@pytest.mark.parametrize(("on_error", "status", "left"), [("allow", "200", 6), ("deny", "503", 8)])
def test_node_that_fails_for_a_policy_is_answered_as_the_policy_says(
    cluster: Cluster, open_store: OpenStore, on_error: OnError, status: str, left: int
) -> None:
    """A request that is refused because of one slot is charged in none."""
    store = open_store(cluster.url, backoff="1h", timeout="5s")
    client, value = _on_nodes(cluster)
    policies = [Policy(name="ip", quota="9/hour"), Policy(name="api", quota="3/hour", key=KEYED, on_error=on_error)]
    app = WsgiMiddleware(pong, store, policies=policies)
    assert statuses(app, [value], REMOTE_ADDR=client) == ["200"]
    cluster.nodes[1].kill()
    assert statuses(app, [value] * 2, REMOTE_ADDR=client) == [status] * 2
    assert store.get(f"ip:client:{client}") == (9, left)


def test_table_decides_for_the_slots_of_a_node_that_fails(
    cluster: Cluster, open_store: OpenStore, table: ShmStore, caplog: pytest.LogCaptureFixture
) -> None:
    """By the host's part of each limit; the other slots are the cluster's, and the log tells once of it."""
    shared = open_store(cluster.url, backoff="1h", timeout="5s")
    client, value = _on_nodes(cluster)
    policies = [Policy(name="ip", quota="6/hour"), Policy(name="api", quota="9/hour", key=KEYED)]
    app = WsgiMiddleware(pong, FallbackStore(shared, table, 3), policies=policies)
    assert statuses(app, [value], REMOTE_ADDR=client) == ["200"]
    cluster.nodes[0].kill()
    assert statuses(app, [value] * 4, REMOTE_ADDR=client) == ["200", "200", "429", "429"]
    assert shared.get(f"api:header:x-api-key:{value}") == (9, 6)
    told = [record.getMessage() for record in caplog.records if record.name == "shm_store.fallback"]
    assert len(told) == 1
    assert "this host's table decides, by 1/3 of each limit" in told[0]


@pytest.mark.usefixtures("closed_applications")
@pytest.mark.parametrize("scheme", ["", "lease+"])
def test_example_service_on_a_cluster_keeps_its_limits(
    whole_cluster: Cluster, tmp_path: Path, segment_name: str, scheme: str
) -> None:
    """With its own policies, of 60 POSTs in a minute 30 are served, whatever keys come with them."""
    settings = Settings(
        store=scheme + whole_cluster.url,
        segment=segment_name,
        database=str(tmp_path / "links.sqlite3"),
        redis_timeout="20s",
        initial_size=1024,
    )
    app = wsgi(msgspec.json.encode(settings).decode(), load("service.toml"))
    client = falcon.testing.TestClient(app)
    # The cluster has the limits of the other run.
    address = "203.0.113.8" if scheme else CLIENT
    found = [
        client.simulate_post(
            "/v1/links", json={"url": "https://example.org/"}, headers={"X-Api-Key": value}, remote_addr=address
        ).status_code
        for value in keys(60)
    ]
    assert found == [201] * 30 + [429] * 30
