"""The middleware's answers while its store works, on a real table, for WSGI and ASGI."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import falcon.testing
import pytest

from shm_store import Quota, RateInfo, ShmStore
from shm_store.falcon import Headers, Outcome, RateLimitMiddleware
from shm_store.testing import FakeClock
from tests.http.service import CLIENT, Service

Serve = Callable[..., Service]

DRAFT_FIELDS = ("ratelimit-policy", "ratelimit")
LEGACY_FIELDS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
LEGACY = Headers(legacy=True)


def limit_fields(result: falcon.testing.Result) -> set[str]:
    """The fields of a response that tell of a limit."""
    return {*DRAFT_FIELDS, *LEGACY_FIELDS, "retry-after"} & {name.lower() for name in result.headers}


class Witness:
    """Middleware that counts which of its methods were reached."""

    def __init__(self) -> None:
        self.requests = 0
        self.responses = 0

    def process_request(self, *_: object) -> None:
        self.requests += 1

    async def process_request_async(self, *_: object) -> None:
        self.requests += 1

    def process_response(self, *_: object) -> None:
        self.responses += 1

    async def process_response_async(self, *_: object) -> None:
        self.responses += 1


def test_allowed_response_carries_the_limit(store: ShmStore, serve: Serve) -> None:
    """An allowed request is served as before, and told its policy, what remains, and seconds to the reset."""
    result = serve(RateLimitMiddleware(store)).ask()
    assert (result.status_code, result.text) == (200, "pong")
    assert [result.headers[name] for name in DRAFT_FIELDS] == ['"default";q=3;w=60', '"default";r=2;t=60']
    assert limit_fields(result) == set(DRAFT_FIELDS)


def test_legacy_fields_are_sent_when_asked_for(store: ShmStore, serve: Serve) -> None:
    """Beside the draft's fields, or without them, a client is told limit, remaining and reset as plain integers."""
    result = serve(RateLimitMiddleware(store, headers=LEGACY)).ask()
    assert [result.headers[name] for name in LEGACY_FIELDS] == ["3", "2", "60"]
    assert limit_fields(result) == {*DRAFT_FIELDS, *LEGACY_FIELDS}
    result = serve(RateLimitMiddleware(store, headers=Headers(version=None, legacy=True))).ask()
    assert [result.headers[name] for name in LEGACY_FIELDS] == ["3", "1", "60"]
    assert limit_fields(result) == set(LEGACY_FIELDS)


def test_fields_may_be_left_out(store: ShmStore, serve: Serve) -> None:
    """With neither kind chosen nothing tells of the limit, except when to come back after a denial."""
    service = serve(RateLimitMiddleware(store, headers=Headers(version=None)))
    results = [service.ask() for _ in range(4)]
    assert [limit_fields(result) for result in results] == [set(), set(), set(), {"retry-after"}]
    assert results[-1].headers["cache-control"] == "no-store"


def test_exactly_the_limit_is_served(store: ShmStore, serve: Serve) -> None:
    """Of any number of requests, the first `limit` are served and every other one is a 429 that no resource saw."""
    service = serve(RateLimitMiddleware(store))
    assert [service.ask().status_code for _ in range(7)] == [200] * 3 + [429] * 4
    assert service.visits.count == 3


def test_denial_is_a_complete_problem_response(store: ShmStore, serve: Serve, clock: FakeClock) -> None:
    """A denial has a Retry-After field, is not cacheable, and has a problem document of the registered type."""
    service = serve(RateLimitMiddleware(store, headers=LEGACY))
    for _ in range(3):
        service.ask()
    clock.advance(0.5)
    result = service.ask()
    assert result.status == "429 Too Many Requests"
    assert [result.headers[name] for name in DRAFT_FIELDS] == ['"default";q=3;w=60', '"default";r=0;t=60']
    assert [result.headers[name] for name in LEGACY_FIELDS] == ["3", "0", "60"]
    assert result.headers["retry-after"] == "60"
    assert result.headers["cache-control"] == "no-store"
    assert result.headers["content-type"] == "application/problem+json"
    assert result.headers["content-length"] == str(len(result.content))
    assert result.json["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert (result.json["status"], result.json["violated-policies"]) == (429, ["default"])


def test_retry_after_is_kept_as_promised(store: ShmStore, serve: Serve, clock: FakeClock) -> None:
    """A client that waits for Retry-After is served, whatever fraction of a second it asked at."""
    service = serve(RateLimitMiddleware(store, headers=LEGACY))
    for _ in range(3):
        service.ask()
    clock.advance(17.25)
    denied = service.ask()
    assert denied.headers["retry-after"] == denied.headers["x-ratelimit-reset"] == "43"
    assert denied.headers["ratelimit"] == '"default";r=0;t=43'
    clock.advance(float(denied.headers["retry-after"]))
    assert service.ask().status_code == 200


def test_denied_head_has_no_body(store: ShmStore, serve: Serve) -> None:
    """HEAD is denied with the fields of a denied GET, its length included, and without the body."""
    service = serve(RateLimitMiddleware(store))
    for _ in range(3):
        assert service.ask(method="HEAD").status_code == 200
    head, get = service.ask(method="HEAD"), service.ask()
    assert (head.status_code, head.content) == (429, b"")
    assert dict(head.headers) == dict(get.headers)


def test_denial_reaches_no_later_process_request(store: ShmStore, serve: Serve) -> None:
    """Later middleware does no work for a denied request, but still sees the response, to log it or add to it."""
    witness = Witness()
    service = serve(RateLimitMiddleware(store), witness)
    for _ in range(4):
        service.ask()
    assert (witness.requests, witness.responses) == (3, 4)


def test_unknown_paths_count(store: ShmStore, serve: Serve) -> None:
    """A flood of 404s is limited like any other, and carries the fields."""
    service = serve(RateLimitMiddleware(store))
    results = [service.ask("/nowhere") for _ in range(4)]
    assert [result.status_code for result in results] == [404, 404, 404, 429]
    assert results[0].headers["ratelimit"] == '"default";r=2;t=60'


def test_exempt_paths_take_nothing(store: ShmStore, serve: Serve) -> None:
    """An exempt path is served without fields, with or without a query, and leaves the client's bucket alone."""
    service = serve(RateLimitMiddleware(store, exempt=["/healthz"]))
    results = [service.ask("/healthz?full=1") for _ in range(5)]
    assert {result.status_code for result in results} == {200}
    assert limit_fields(results[0]) == set()
    assert store.get(f"default:client:{CLIENT}") == (0, 0)


@pytest.mark.parametrize("path", ["/healthz/", "/HEALTHZ", "/healthz/../v1/ping", "//healthz", "/v1/ping?/healthz"])
def test_exempt_paths_match_exactly(store: ShmStore, serve: Serve, path: str) -> None:
    """What merely resembles an exempt path is limited, so that no spelling of another path slips through."""
    serve(RateLimitMiddleware(store, exempt=["/healthz"])).ask(path)
    assert store.get(f"default:client:{CLIENT}") == (3, 2)


@pytest.mark.parametrize(
    "path", ["/static/logo.svg", "/static/css/", "/static/a/b?c", "/static/.well-known", "/static/é", "/static/100%25"]
)
def test_exempt_paths_may_begin_alike(store: ShmStore, serve: Serve, path: str) -> None:
    """A pattern that ends with `*` exempts all that begin so."""
    serve(RateLimitMiddleware(store, exempt=["/static/*", "/other"])).ask(path)
    assert store.stats().occupied == 0


@pytest.mark.parametrize("path", ["/static", "/static/", "/STATIC/a", "/a/static/", "/other/", "//static/a"])
def test_exempt_paths_begin_exactly(store: ShmStore, serve: Serve, path: str) -> None:
    """What does not begin as the pattern says is limited, and a pattern without `*` is one path."""
    serve(RateLimitMiddleware(store, exempt=["/static/*", "/other"])).ask(path)
    assert store.get(f"default:client:{CLIENT}") == (3, 2)


def test_exempt_paths_are_compared_decoded(store: ShmStore, serve: Serve) -> None:
    """A path outside ASCII is written as it is read, not as it is encoded."""
    serve(RateLimitMiddleware(store, exempt=["/santé"])).ask("/sant%C3%A9")
    assert store.get(f"default:client:{CLIENT}") == (0, 0)


def test_clients_have_buckets_of_their_own(store: ShmStore, serve: Serve) -> None:
    """One client's flood costs another nothing."""
    service = serve(RateLimitMiddleware(store))
    for _ in range(4):
        service.ask(address="203.0.113.7")
    assert service.ask(address="203.0.113.8").status_code == 200
    assert service.ask(address="2001:db8::7").status_code == 200


def test_middlewares_of_one_store_share_its_buckets(store: ShmStore) -> None:
    """A WSGI and an ASGI application on one table enforce one limit."""
    services = [Service(kind, RateLimitMiddleware(store)) for kind in ("wsgi", "asgi")]
    assert [services[turn % 2].ask().status_code for turn in range(5)] == [200, 200, 200, 429, 429]


def test_quota_replaces_the_default(store: ShmStore, serve: Serve) -> None:
    """The middleware enforces its own quota, and the fields contain it."""
    service = serve(RateLimitMiddleware(store, quota=Quota.parse("2/10s")))
    results = [service.ask() for _ in range(3)]
    assert [result.status_code for result in results] == [200, 200, 429]
    assert [results[0].headers[name] for name in DRAFT_FIELDS] == ['"default";q=2;w=10', '"default";r=1;t=10']


def test_cost_is_what_each_request_takes(store: ShmStore, serve: Serve) -> None:
    """A request of cost 2 takes two units; a denied one takes none, and its field contains the remaining units."""
    service = serve(RateLimitMiddleware(store, cost=2))
    results = [service.ask() for _ in range(3)]
    assert [result.status_code for result in results] == [200, 429, 429]
    assert [result.headers["ratelimit"] for result in results] == ['"default";r=1;t=60'] * 3


def test_context_holds_the_decision(store: ShmStore, serve: Serve) -> None:
    """A resource can read the decision; on an exempt path there is none, and reading it is no error."""
    service = serve(RateLimitMiddleware(store, exempt=["/healthz"]))
    service.ask()
    outcome = service.visits.rate_limit
    assert isinstance(outcome, Outcome)
    assert outcome.info == RateInfo(True, 3, 2, 60_000_000_000)
    assert outcome.infos == {"default": outcome.info}
    assert outcome.reservation is None
    service.ask("/healthz")
    exempt = service.visits.rate_limit
    assert isinstance(exempt, Outcome)
    assert (exempt.info, exempt.infos, exempt.reservation) == (None, {}, None)


def test_legacy_fields_are_well_formed(store: ShmStore, serve: Serve) -> None:
    """Every legacy field, and Retry-After, is a non-negative integer without sign, fraction or space."""
    service = serve(RateLimitMiddleware(store, headers=LEGACY))
    results = [service.ask() for _ in range(4)]
    fields: list[Any] = [result.headers[name] for result in results for name in LEGACY_FIELDS]
    assert all(re.fullmatch("0|[1-9][0-9]*", value) for value in [*fields, results[-1].headers["retry-after"]])
