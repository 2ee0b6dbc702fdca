"""Peers, header values and key functions of any kind: in every framework, no client is served beyond its limit."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shm_store import ShmStore
from shm_store.policy import Policy
from tests.http import applications
from tests.http.applications import Send

LIMIT: Final = 3
KEY: Final = "X-Api-Key"
APPLICATIONS: Final[dict[str, Callable[..., Send]]] = {
    "falcon": applications.falcon_app,
    "falcon, asgi": applications.falcon_asgi_app,
    "flask": applications.flask_app,
    "django": applications.django_app,
    "django, asgi": applications.django_asgi_app,
    "starlette": applications.starlette_app,
}
ASGI: Final = ("falcon, asgi", "django, asgi", "starlette")
examples: Final = settings(
    max_examples=int(os.environ.get("EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_numbers: Final = itertools.count()

addresses: Final = st.ip_addresses()
# As servers, proxies and ProxyFix write them, and as they do not.
written: Final = st.one_of(
    addresses.map(str),
    addresses.map("[{}]".format),
    st.builds("{}:{}".format, addresses, st.integers(-1, 70_000)),
    st.builds("[{}]:{}".format, addresses, st.integers(-1, 70_000)),
    st.builds("{}%{}".format, addresses, st.text("a0%.:", max_size=3)),
    st.builds(" {}\t".format, addresses),
    st.builds("{}, {}".format, addresses, addresses),
)
NO_ADDRESS: Final = [
    *("", " ", "unknown", "_hidden", "localhost", "@", "unix:", "unix:/run/x.sock", "/run/x.sock", "\0abstract", "-"),
    *(
        "203.0.113.7, 10.0.0.1",
        "203.0.113.007",
        "203.0.113.7:65536",
        "[203.0.113.7]",
        "203.0.113.7/32",
        "::1::2",
        "a:b",
    ),
    *("203.0.113.7\0", "\uff12\uff10\uff13.0.113.7", "\ud800", "2001:db8::1:443:", "[2001:db8::1", "0xcb007107", "1"),
    *(None, b"", b"203.0.113.7", 0, 7, True, 1.5, (), [], ["203.0.113.7"], {}, {"a": 1}),
]
peers: Final = st.one_of(
    written, st.text(), st.sampled_from(NO_ADDRESS), st.binary(), st.integers(), st.lists(st.text())
)
values: Final = st.one_of(
    st.text(max_size=40),
    st.text(st.sampled_from(":%=\0 \t,\xa0\ud800é"), max_size=8),
    st.sampled_from(
        ["client:203.0.113.7", "absent", "key-invalid", "global", "x" * 300, "é" * 5_000, "default:absent"]
    ),
)
blanks: Final = st.none() | st.text(" \t", max_size=4)
returned: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=4,
)

no_text: Final = returned.filter(lambda value: isinstance(value, bool) or not isinstance(value, str | int | None))


@pytest.fixture(params=APPLICATIONS)
def make(request: pytest.FixtureRequest, store: ShmStore) -> Iterator[Callable[..., Send]]:
    """Build an application of each framework with one policy of its own, of three requests."""

    def build(**fields: Any) -> Send:  # noqa: ANN401 - of a policy
        policy = Policy(name=f"p{next(_numbers)}", quota=f"{LIMIT}/hour", **fields)
        return APPLICATIONS[request.param](store, policies=[policy])

    yield build
    applications.ran.clear()


@pytest.fixture
def is_asgi(request: pytest.FixtureRequest) -> bool:
    return request.node.callspec.params["make"] in ASGI


def _statuses(requests: Iterable[Callable[[], int]]) -> list[int]:
    return [request() for request in requests]


def _peer(said: object, *, is_asgi: bool) -> object:
    return (said, 4711) if is_asgi else said


@examples
@given(peer=peers)
@example(peer="203.0.113.7:4711")
@example(peer="[2001:db8::1]:443")
@example(peer="2001:db8::1%eth0")
def test_peer_is_limited_however_it_is_written(make: Callable[..., Send], peer: object, *, is_asgi: bool) -> None:
    """The same peer is served as often as its limit allows, and no request ends in an error."""
    send = make()
    asked = _statuses([lambda: send("/login", peer=_peer(peer, is_asgi=is_asgi))] * (LIMIT + 2))
    assert asked == [200] * LIMIT + [429] * 2


@examples
@given(said=st.lists(st.sampled_from(NO_ADDRESS), min_size=LIMIT + 1, max_size=12))
@example(said=NO_ADDRESS)
def test_peers_without_an_address_share_a_limit(
    make: Callable[..., Send], said: list[object], *, is_asgi: bool
) -> None:
    """A client gains nothing by a peer of another form, as long as none is an address."""
    send = make()
    asked = [send("/login", peer=_peer(peer, is_asgi=is_asgi)) for peer in said]
    assert asked == [200] * LIMIT + [429] * (len(said) - LIMIT)


@pytest.mark.parametrize("client", [None, (), [], ("", 0), ["/run/x.sock", None], (None, None), {}, 5, "203.0.113.7"])
def test_asgi_client_of_any_form_is_limited(store: ShmStore, client: object) -> None:
    """Of ASGI the whole of `client` may be something else, which Django itself does not survive."""
    for name in ("falcon, asgi", "starlette"):
        send = APPLICATIONS[name](store, policies=[Policy(name=f"p{next(_numbers)}", quota="3/hour")])
        assert [send("/login", peer=client) for _ in range(4)] == [200, 200, 200, 429]


@examples
@given(values, st.lists(st.text(" \t", max_size=2), min_size=LIMIT + 2, max_size=LIMIT + 2))
@example("key", ["", " ", "\t", "  ", " \t"])
def test_value_of_a_header_is_limited(make: Callable[..., Send], value: str, spaces: list[str]) -> None:
    """Each value has one bucket, however many spaces are around it."""
    send = make(key=[f"header:{KEY}"])
    asked = [send("/login", headers={KEY: f"{space}{value}{space}"}) for space in spaces]
    assert asked == [200] * LIMIT + [429] * 2


@examples
@given(st.lists(blanks, min_size=LIMIT + 1, max_size=8))
@example([None, "", " ", "\t", None])
def test_requests_without_a_header_share_a_limit(make: Callable[..., Send], sent: list[str | None]) -> None:
    """A client gains nothing by leaving the header out, or by sending it blank, in any turn."""
    send = make(key=[f"header:{KEY}"])
    asked = [send("/login", headers={} if value is None else {KEY: value}) for value in sent]
    assert asked == [200] * LIMIT + [429] * (len(sent) - LIMIT)


@examples
@given(
    others=st.lists(values, min_size=LIMIT + 1, max_size=6),
    is_first=st.booleans(),
    absent=st.sampled_from(["share", "skip"]),
)
@example(others=["a", "b", "c", "d"], is_first=True, absent="skip")
def test_header_that_comes_several_times_is_limited(
    store: ShmStore, others: list[str], *, is_first: bool, absent: str
) -> None:
    """A client gets no new bucket by a further line of the header, which the framework may not read."""
    for name in ("django, asgi", "starlette"):
        policy = Policy(name=f"p{next(_numbers)}", quota="3/hour", key=[f"header:{KEY}"], absent=absent)  # type: ignore[arg-type]
        send = APPLICATIONS[name](store, policies=[policy])
        lines = [[(KEY, "good"), (KEY, other)] for other in others]
        asked = [send("/login", headers=both if is_first else both[::-1]) for both in lines]
        assert asked == [200] * LIMIT + [429] * (len(others) - LIMIT)


@examples
@given(returned)
@example(["bob", "bob"])
@example({"user": "bob"})
@example(float("nan"))
def test_key_function_of_any_value_is_limited(make: Callable[..., Send], value: object) -> None:
    """Each value that it may return is charged to a bucket."""
    send = make(key=[lambda _: value])
    assert _statuses([lambda: send("/login")] * (LIMIT + 2)) == [200] * LIMIT + [429] * 2


@examples
@given(st.lists(no_text, min_size=LIMIT + 1, max_size=8))
def test_values_that_are_no_text_share_a_limit(make: Callable[..., Send], found: list[object]) -> None:
    """A client gains nothing by having the key function return another list."""
    rest = iter(found)
    send = make(key=[lambda _: next(rest)])
    asked = [send("/login") for _ in found]
    assert asked == [200] * LIMIT + [429] * (len(found) - LIMIT)
