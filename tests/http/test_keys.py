"""Keys: no two that should differ are alike, whatever a client sends."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm_store.errors import ConfigurationError
from shm_store.http.clients import Clients
from shm_store.http.framework import Framework
from shm_store.http.keys import MakeKey, _Remembered, key_function, options_key_function
from shm_store.policy import Policy, recipe
from shm_store.policy.recipe import Source, header_prefix
from tests.ids import shown


class Asking(NamedTuple):
    """A request as far as keys go."""

    client: str
    headers: dict[str, str]
    route: str | None
    method: str


FRAMEWORK = Framework(
    "test",
    lambda request: request.client,
    lambda request, name: request.headers.get(name),
    lambda request, name: request.headers.get(name),
    lambda request: (request.headers.get("accept"), ""),
    lambda _request: (),
    lambda request: request.method,
    lambda request: request.route,
)
CLIENTS = ("203.0.113.7", "2001:db8:0:7::/64")
HEADERS = ("a", "x-key")
ROUTES = (None, "/x", "/x:method=GET", "/x%3Amethod=GET", "/x:header:x-key", "/x/{a:int}")
NAMES = ("p", "p.q", "client", "header", "key", "global")
# Pieces of keys, so that what hypothesis puts together looks like one.
PIECES = (
    ":",
    "%",
    "%3A",
    "=",
    "route=/x:",
    "method=GET:",
    "preflight:",
    "client:203.0.113.7",
    "header:",
    "key:",
    "global",
    "a",
    "p:",
    "client:",
)
VALUES = st.lists(st.sampled_from(PIECES) | st.text(":%=/a\xff", max_size=2), max_size=4).map("".join)
ATTACKS = (
    "client:203.0.113.7",
    "global",
    "header:a:v",
    "key:v",
    "v",
    "method=GET:client:203.0.113.7",
    "preflight:client:203.0.113.7",
)


def _own(request: Asking) -> str:
    return request.headers.get("a", "")


WHO: list[tuple[Source, ...]] = [("client",), ("global",), (_own,), *((f"header:{name}", "client") for name in HEADERS)]
SPLITS: list[tuple[str, ...]] = [(), ("route",), ("method",), ("route", "method")]
RECIPES: list[tuple[Source, ...]] = [(*who, *split) for who, split in itertools.product(WHO, SPLITS)]


def _made(name: str, recipe: Sequence[Source]) -> MakeKey:
    read = Policy(name=name, quota="5/s", key=recipe).recipe
    return key_function(read, FRAMEWORK, Clients(), f"{name}:")


def _made_for_options(name: str, recipe: Sequence[Source]) -> MakeKey:
    read = Policy(name=name, quota="5/s", key=recipe).recipe
    return options_key_function(_made(name, recipe), read, FRAMEWORK, Clients(), f"{name}:")


MAKE = {(name, recipe): _made(name, recipe) for name, recipe in itertools.product(NAMES, RECIPES)}
MAKE_FOR_OPTIONS = {(name, recipe): _made_for_options(name, recipe) for name, recipe in MAKE}


def _askings(values: list[str]) -> list[Asking]:
    headers = [{}, *({name: value} for name, value in itertools.product(HEADERS, values))]
    clients = [client.removesuffix("/64") for client in CLIENTS]
    return [Asking(*each) for each in itertools.product(clients, headers, ROUTES, ("GET", "POST"))]


def _key(name: str, recipe: tuple[Source, ...], request: Asking) -> str | None:
    return MAKE[name, recipe](request)


def _meaning(name: str, recipe: tuple[Source, ...], request: Asking) -> tuple[object, ...] | None:
    """What a key stands for, in parts."""
    split = (("route" in recipe, request.route or ""), ("method" in recipe, request.method))
    dimensions = tuple(value if has else None for has, value in split)
    for source in recipe:
        if source == "client":
            return name, dimensions, "client", next(each for each in CLIENTS if each.startswith(request.client))
        if source == "global":
            return name, dimensions, "global"
        if callable(source) and source(request):
            return name, dimensions, "key", source(request)
        if isinstance(source, str) and source.startswith("header:"):
            header = source.removeprefix("header:")
            if value := request.headers.get(header):
                return name, dimensions, header, value
    return None


@settings(max_examples=20, deadline=None)
@given(st.lists(VALUES, max_size=3))
@example(list(ATTACKS))
def test_keys_are_alike_only_if_they_mean_the_same(values: list[str]) -> None:
    """No client can spell the key of another policy, recipe, header, route or client."""
    charges = itertools.product(NAMES, RECIPES, _askings(values))
    both = {(_key(*charge), _meaning(*charge)) for charge in charges}
    assert len({key for key, _ in both}) == len({meaning for _, meaning in both}) == len(both)


PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}


@settings(max_examples=20, deadline=None)
@given(st.lists(VALUES, max_size=3))
@example(list(ATTACKS))
def test_no_client_spells_the_key_of_a_preflight(values: list[str]) -> None:
    """No value that a client sends makes such a key, and no preflight makes another key."""
    charges = [*itertools.product(NAMES, RECIPES, _askings(values))]
    keys = {_key(*charge) for charge in charges}
    preflights = {
        MAKE_FOR_OPTIONS[name, recipe](request._replace(headers=request.headers | PREFLIGHT))
        for name, recipe, request in charges
    }
    assert not keys & preflights
    clients = {f"client:{client}" for client in CLIENTS}
    assert {key.partition("preflight:")[2] for key in preflights if key is not None} == clients | {"global"}


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        (["client"], "p:preflight:client:203.0.113.7"),
        (["header:a"], "p:preflight:client:203.0.113.7"),
        (["header:a", "client", "method"], "p:method=OPTIONS:preflight:client:203.0.113.7"),
        (["client", "route", "method"], "p:route=/x:method=OPTIONS:preflight:client:203.0.113.7"),
        ([lambda _: pytest.fail("a preflight is nobody's")], "p:preflight:client:203.0.113.7"),
        (["global"], "p:preflight:global"),
    ],
    ids=shown,
)
def test_key_of_a_preflight_is_of_the_address(recipe: list[Source], key: str) -> None:
    """Browsers send none of the headers by which an application knows its users, and anybody could make them up."""
    request = Asking("203.0.113.7", {"a": "v"} | PREFLIGHT, "/x", "OPTIONS")
    assert _made_for_options("p", recipe)(request) == key


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://a.example"},
        {"Access-Control-Request-Method": "GET"},
        PREFLIGHT | {"Origin": ""},
        PREFLIGHT | {"Access-Control-Request-Method": ""},
        PREFLIGHT | {"Authorization": "Bearer guess"},
    ],
    ids=shown,
)
def test_key_of_another_options_request_is_the_usual_one(headers: dict[str, str]) -> None:
    """It lacks what browsers send, or has credentials, which they do not send."""
    assert _made_for_options("p", ["client"])(Asking("203.0.113.7", headers, None, "OPTIONS")) == "p:client:203.0.113.7"


@pytest.mark.parametrize("recipe", RECIPES, ids=shown)
def test_keys_begin_with_the_policy_and_end_with_who(recipe: tuple[Source, ...]) -> None:
    """The policy's name comes first, and last who is charged, as it was sent."""
    for request in _askings(list(ATTACKS)):
        key, meaning = _key("p.q", recipe, request), _meaning("p.q", recipe, request)
        assert (key is None) == (meaning is None)
        if key is not None and meaning is not None:
            assert key.startswith("p.q:")
            assert key.endswith(str(meaning[-1]))


def test_keys_do_not_depend_on_the_order_of_what_splits() -> None:
    """A recipe that is written in another order has the same buckets."""
    request = Asking("203.0.113.7", {}, "/x", "GET")
    keys = {_made("p", recipe)(request) for recipe in itertools.permutations(("client", "route", "method"))}
    assert keys == {"p:route=/x:method=GET:client:203.0.113.7"}


@pytest.mark.parametrize("value", [5, b"k", ["k"], True, 0, 1.5])
def test_keys_are_texts(value: object) -> None:
    """What an application's own source returns is a text or nothing; the error says so."""
    with pytest.raises(ConfigurationError, match="return a str") as caught:
        _made("p", [lambda _: value])(Asking("203.0.113.7", {}, None, "GET"))  # type: ignore[list-item, return-value]
    # Not the value, which may be a secret.
    assert (caught.value.setting, caught.value.value) == ("key", f"<{type(value).__name__}>")


def test_header_prefix_ignores_case() -> None:
    """Header names are compared without case, so their keys are too."""
    assert header_prefix("X-Api-Key") == header_prefix("x-API-key") == "header:x-api-key:"


@pytest.mark.parametrize("name", ["", "X Api Key", "X-Api-Key:", "X-Api\r\n", "Clé", "a:b", "x-api-key\n", None])
def test_header_prefix_refuses_what_is_no_name(name: str) -> None:
    """A name that could carry a colon, and so reach into another header's keys, is refused."""
    with pytest.raises(ConfigurationError, match="header name"):
        header_prefix(name)


@pytest.mark.parametrize("part", ["peer", "header"])
@pytest.mark.parametrize(("length", "is_kept"), [(40, True), (5_000, False)])
def test_keys_remember_nothing_long(part: str, length: int, *, is_kept: bool) -> None:
    """Of what a client may write as long as it likes nothing is kept once its request is over."""
    behind = {"hops": 1} if part == "header" else {}
    made = key_function(recipe.read(["client"]), FRAMEWORK, Clients(unknown="share", **behind), "p:")  # type: ignore[arg-type]
    text = "z" * length
    references = sys.getrefcount(text)
    if part == "peer":
        made(Asking(text, {}, None, "GET"))
    else:
        made(Asking("203.0.113.7", {"X-Forwarded-For": text}, None, "GET"))
    assert (sys.getrefcount(text) > references) == is_kept


def test_keys_remembered_are_bounded() -> None:
    """However many clients come, and whatever they are called, few are remembered, each with its own key."""
    made: list[str] = []

    def make(said: str) -> str:
        made.append(said)
        return f"key of {said}"

    remembered = _Remembered(make, len)
    for number in range(10_000):
        assert remembered[str(number)] == f"key of {number}"
        assert 1 <= len(remembered) <= 4_096
    assert remembered["9999"] == "key of 9999"
    assert len(made) == 10_000
    before = dict(remembered)
    assert remembered["x" * 257] == f"key of {'x' * 257}"
    assert remembered == before
