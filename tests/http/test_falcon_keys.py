"""Which bucket a request is charged to, and what its sender can do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import falcon
import falcon.testing
import pytest

from shm_store import Quota, ShmStore
from shm_store.falcon import RateLimitMiddleware
from shm_store.falcon.requests import FALCON
from shm_store.policy import Policy
from shm_store.policy.policy import Absent
from tests.http.service import CLIENT, Service

Serve = Callable[..., Service]

SPENT = (3, 2)
UNTOUCHED = (0, 0)
# A request is charged by its API key, or by its client's address if it has none.
API_KEY = ("header:X-Api-Key", "client")


@pytest.mark.parametrize("kind", ["set", "block"])
@pytest.mark.parametrize("own", [None, "default", "client", "header", "key", "global"])
def test_key_begins_with_the_policy_that_headers_name(
    store: ShmStore, serve: Serve, own: str | None, kind: str
) -> None:
    """An override or block under the policy's name in the header applies to its client; the name may be `default`."""
    middleware = RateLimitMiddleware(store, policies=None if own is None else [Policy(name=own, quota="3/min")])
    service = serve(middleware)
    (name,) = middleware.counts
    assert name == (own or "default")
    assert service.ask().headers["ratelimit-policy"] == f'"{name}";q=3;w=60'
    assert store.inspect().policies()[name].allowed == 1
    if kind == "set":
        store.set(f"{name}:client:{CLIENT}", 1, "1h")
        assert [service.ask().status_code for _ in range(2)] == [200, 429]
    else:
        store.block(f"{name}:client:{CLIENT}", "1h")
        assert service.ask().status_code == 429


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "198.51.100.1"},
        {"X-Forwarded-For": "198.51.100.1, 203.0.113.8"},
        {"X-Real-IP": "198.51.100.1"},
        {"Forwarded": "for=198.51.100.1"},
        {"Forwarded": 'for="198.51.100.1:not-a-port"'},
        {"Forwarded": 'for="[::1]:x";;=,'},
        {"Client-IP": "198.51.100.1", "True-Client-IP": "198.51.100.1", "Remote-Addr": "198.51.100.1"},
    ],
)
def test_client_is_the_socket_peer(store: ShmStore, serve: Serve, headers: dict[str, str]) -> None:
    """No header moves a request to another bucket, and a malformed one breaks nothing."""
    assert serve(RateLimitMiddleware(store)).ask(headers=headers).status_code == 200
    assert store.get(f"default:client:{CLIENT}") == SPENT
    assert store.get("default:client:198.51.100.1") == UNTOUCHED


def test_client_may_be_readable_only_once() -> None:
    """An ASGI `client` that can be read only once, which the specification allows, stays readable for the others."""
    req = falcon.testing.create_asgi_req(remote_addr=CLIENT)
    assert [FALCON.peer(req), req.remote_addr, FALCON.peer(req)] == [CLIENT] * 3


def test_header_key_names_the_bucket(store: ShmStore, serve: Serve) -> None:
    """Each value of the header has a bucket of its own, whatever address it comes from."""
    service = serve(RateLimitMiddleware(store, key=API_KEY))
    for address in ("203.0.113.7", "203.0.113.8", "203.0.113.9"):
        assert service.ask(headers={"x-api-key": "alpha"}, address=address).status_code == 200
    assert service.ask(headers={"X-API-KEY": "alpha"}).status_code == 429
    assert service.ask(headers={"X-Api-Key": "beta"}).status_code == 200
    assert store.get("default:header:x-api-key:beta") == SPENT


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": ""}])
def test_header_key_falls_back_to_the_address(store: ShmStore, serve: Serve, headers: dict[str, str]) -> None:
    """Without the header, or with an empty one, the address is charged; there is no bucket of the empty name."""
    serve(RateLimitMiddleware(store, key=API_KEY)).ask(headers=headers)
    assert store.get(f"default:client:{CLIENT}") == SPENT
    assert store.get("default:header:x-api-key:") == UNTOUCHED


@pytest.mark.parametrize(
    "value",
    [
        f"client:{CLIENT}",
        f"\tclient:{CLIENT}",
        f":client:{CLIENT}",
        f"default:client:{CLIENT}",
        CLIENT,
        f"{CLIENT},{CLIENT}",
        "header:x-other:alpha",
        "\xff\xfe\xa0",
        "a" * 65_536,
        "%00%0d%0aX-RateLimit-Limit: 9",
        "'; DROP TABLE buckets; --",
    ],
)
def test_header_key_forges_no_other_bucket(store: ShmStore, serve: Serve, value: str) -> None:
    """Any value is charged to a bucket of its own header, never to one of a client or another header."""
    result = serve(RateLimitMiddleware(store, key=API_KEY)).ask(headers={"X-Api-Key": value})
    assert (result.status_code, result.headers["ratelimit-policy"]) == (200, '"default";q=3;w=60')
    assert store.get(f"default:client:{CLIENT}") == UNTOUCHED
    assert store.get("default:header:x-other:alpha") == UNTOUCHED
    assert store.stats().occupied == 1


def test_header_keys_of_two_headers_never_meet(store: ShmStore, serve: Serve) -> None:
    """Equal values of two headers have two buckets, and no value can forge a key of the other header."""
    for name, value in (("X-A", "k"), ("X-B", "k"), ("X-A", "x-b:k"), ("X", "a:k")):
        assert serve(RateLimitMiddleware(store, key=[f"header:{name}"])).ask(headers={name: value}).status_code == 200
    assert store.stats().occupied == 4


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": ""}, {"X-Api-Key": " \t"}])
def test_header_key_alone_limits_requests_without_it(store: ShmStore, serve: Serve, headers: dict[str, str]) -> None:
    """A client that leaves the header out, or blank, shares a limit with all that do."""
    service = serve(RateLimitMiddleware(store, key=["header:X-Api-Key"]))
    asked = [service.ask(headers=headers, address=f"203.0.113.{number}") for number in range(4)]
    assert [result.status_code for result in asked] == [200, 200, 200, 429]
    assert asked[-1].headers["ratelimit-policy"] == '"default";q=3;w=60'
    assert service.ask(headers={"X-Api-Key": "alpha"}).status_code == 200
    assert store.get("default:absent") == (3, 0)


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": ""}])
def test_header_key_alone_leaves_others_alone_if_so_chosen(
    store: ShmStore, serve: Serve, headers: dict[str, str]
) -> None:
    """With absent="skip", requests without the header are not limited."""
    service = serve(RateLimitMiddleware(store, quota=Quota(1, "1min"), key=["header:X-Api-Key"], absent="skip"))
    results = [service.ask(headers=headers) for _ in range(3)]
    assert [result.status_code for result in results] == [200] * 3
    assert "ratelimit" not in results[0].headers
    assert store.stats().occupied == 0
    assert [service.ask(headers={"X-Api-Key": "alpha"}).status_code for _ in range(2)] == [200, 429]


def test_key_may_split_by_method(store: ShmStore, serve: Serve) -> None:
    """Each method has a bucket of its own; the key 'global' has one bucket for all requests."""
    serve(RateLimitMiddleware(store, key=["client", "method"])).ask(method="HEAD")
    serve(RateLimitMiddleware(store, key=["global"])).ask()
    assert store.get(f"default:method=HEAD:client:{CLIENT}") == SPENT
    assert store.get("default:global") == SPENT


def test_key_may_be_any_function_of_the_request(store: ShmStore, serve: Serve) -> None:
    """The function's result names the bucket, after `key:`, so that it never meets the limiter's own keys."""
    serve(RateLimitMiddleware(store, key=lambda req: f"tenant:{req.get_param('tenant')}")).ask("/v1/ping?tenant=7")
    assert store.get("default:key:tenant:7") == SPENT


@pytest.mark.parametrize("nobody", ["", None])
@pytest.mark.parametrize("absent", get_args(Absent))
def test_key_may_be_none(store: ShmStore, serve: Serve, nobody: str | None, absent: Absent) -> None:
    """Requests for which the function returns no key share a limit, or have none with absent='skip'."""
    service = serve(RateLimitMiddleware(store, key=lambda _: nobody, on_error="deny", absent=absent))
    shared = absent == "share"
    assert [service.ask().status_code for _ in range(5)] == ([200] * 3 + [429] * 2 if shared else [200] * 5)
    assert ("ratelimit" in service.ask().headers) is shared
    assert store.get("default:absent") == ((3, 0) if shared else UNTOUCHED)


@pytest.mark.parametrize("address", ["2001:db8:0:1::7", "2001:DB8:0:1:ffff::8", "2001:db8:0:1::"])
def test_client_of_ipv6_is_a_network(store: ShmStore, serve: Serve, address: str) -> None:
    """All addresses of a network of 64 bits are one client."""
    serve(RateLimitMiddleware(store)).ask(address=address)
    assert store.get("default:client:2001:db8:0:1::/64") == SPENT


def test_key_may_refuse_a_request(store: ShmStore, serve: Serve) -> None:
    """An HTTPError raised while making the key is the application's answer, not a failure of the limiter."""

    def key(req: falcon.Request) -> str:
        raise falcon.HTTPUnauthorized(title=f"no key for {req.path}")

    middleware = RateLimitMiddleware(store, key=key)
    assert serve(middleware).ask().status_code == 401
    assert middleware.errors == {}
