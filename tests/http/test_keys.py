"""Keys: no two that should differ are alike, whatever a client sends."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm_store.errors import ConfigurationError
from shm_store.http.client.clients import Clients
from shm_store.http.client.remembering import BYTES_MAX
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.framework import REPEATED, Framework
from shm_store.http.planning.keys import MakeKey, Values, key_function, options_key_function
from shm_store.policy import Policy
from shm_store.policy.key_specification import Source, header_prefix
from shm_store.policy.policy import Absent
from shm_store.redis.names import tagged
from tests.ids import shown


class Asking(NamedTuple):
    """The parts of a request that keys are made of."""

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
LOG = ErrorLog(logging.getLogger("shm_store.test"))
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
    "absent",
    "key-invalid",
    "a",
    "p:",
    "client:",
)
VALUES = st.lists(st.sampled_from(PIECES) | st.text(":%=/a\xff", max_size=2), max_size=4).map("".join)
SHARED = ("global", "absent", "key-invalid")
CLIENT = "client:203.0.113.7"
ATTACKS = (CLIENT, *SHARED, "header:a:v", "key:v", "v", f"method=GET:{CLIENT}", f"preflight:{CLIENT}")


def _own(request: Asking) -> str:
    return request.headers.get("a", "")


WHO: list[tuple[Source, ...]] = [("client",), ("global",), (_own,), *((f"header:{name}", "client") for name in HEADERS)]
SPLITS: list[tuple[str, ...]] = [(), ("route",), ("method",), ("route", "method")]
SPECIFICATIONS: list[tuple[Source, ...]] = [(*who, *split) for who, split in itertools.product(WHO, SPLITS)]


def _made(name: str, specification: Sequence[Source]) -> MakeKey:
    return key_function(Policy(name=name, quota="5/s", key=specification), FRAMEWORK, Clients(), LOG)


def _made_for_options(name: str, specification: Sequence[Source], **fields: Any) -> MakeKey:  # noqa: ANN401 - of Policy
    policy = Policy(name=name, quota="5/s", key=specification, **fields)
    return options_key_function(_made(name, specification), policy, FRAMEWORK, Clients())


MAKE = {
    (name, specification): _made(name, specification)
    for name, specification in itertools.product(NAMES, SPECIFICATIONS)
}
MAKE_FOR_OPTIONS = {(name, specification): _made_for_options(name, specification) for name, specification in MAKE}


def _askings(values: list[str]) -> list[Asking]:
    headers = [{}, *({name: value} for name, value in itertools.product(HEADERS, values))]
    clients = [client.removesuffix("/64") for client in CLIENTS]
    return [Asking(*each) for each in itertools.product(clients, headers, ROUTES, ("GET", "POST"))]


def _key(name: str, specification: tuple[Source, ...], request: Asking) -> str | None:
    return MAKE[name, specification](request)


def _meaning(name: str, specification: tuple[Source, ...], request: Asking) -> tuple[object, ...]:
    """Return the meaning of a key, in parts."""
    split = (("route" in specification, request.route or ""), ("method" in specification, request.method))
    dimensions = tuple(value if has else None for has, value in split)
    for source in specification:
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
    return name, dimensions, "absent"


@settings(max_examples=20, deadline=None)
@given(st.lists(VALUES, max_size=3))
@example(list(ATTACKS))
def test_keys_are_alike_only_if_they_mean_the_same(values: list[str]) -> None:
    """No client can spell the key of another policy, specification, header, route or client."""
    charges = itertools.product(NAMES, SPECIFICATIONS, _askings(values))
    both = {(_key(*charge), _meaning(*charge)) for charge in charges}
    assert len({key for key, _ in both}) == len({meaning for _, meaning in both}) == len(both)


PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}


@settings(max_examples=20, deadline=None)
@given(st.lists(VALUES, max_size=3))
@example(list(ATTACKS))
def test_no_client_spells_the_key_of_a_preflight(values: list[str]) -> None:
    """No value that a client sends makes such a key, and no preflight makes another key."""
    charges = [*itertools.product(NAMES, SPECIFICATIONS, _askings(values))]
    keys = {_key(*charge) for charge in charges}
    preflights = {
        MAKE_FOR_OPTIONS[name, specification](request._replace(headers=request.headers | PREFLIGHT))
        for name, specification, request in charges
    }
    assert not keys & preflights
    clients = {f"client:{client}" for client in CLIENTS}
    assert {key.partition("preflight:")[2] for key in preflights if key is not None} == clients | {"global"}


@pytest.mark.parametrize(
    ("specification", "key"),
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
def test_key_of_a_preflight_is_of_the_address(specification: list[Source], key: str) -> None:
    """Browsers send none of the headers by which an application knows its users, and anybody could make them up."""
    request = Asking("203.0.113.7", {"a": "v"} | PREFLIGHT, "/x", "OPTIONS")
    assert _made_for_options("p", specification)(request) == key


@pytest.mark.parametrize(
    ("specification", "key"),
    [
        (["header:a"], None),
        (["header:a", "route"], None),
        (["header:a", "client"], "p:preflight:client:203.0.113.7"),
        (["global"], "p:preflight:global"),
    ],
    ids=shown,
)
def test_policy_that_skips_what_has_no_key_skips_preflights(specification: list[Source], key: str | None) -> None:
    """Unless its key is there for every request: a preflight has none of the headers that make a key."""
    request = Asking("203.0.113.7", {"a": "v"} | PREFLIGHT, "/x", "OPTIONS")
    assert _made_for_options("p", specification, absent="skip")(request) == key


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


@pytest.mark.parametrize("specification", SPECIFICATIONS, ids=shown)
def test_keys_begin_with_the_policy_and_end_with_who(specification: tuple[Source, ...]) -> None:
    """The policy's name comes first, and the charged client last, as it was sent."""
    for request in _askings(list(ATTACKS)):
        key, meaning = _key("p.q", specification, request), _meaning("p.q", specification, request)
        assert key is not None
        assert key.startswith("p.q:")
        assert key.endswith(str(meaning[-1]))


def test_keys_do_not_depend_on_the_order_of_what_splits() -> None:
    """A specification that is written in another order has the same buckets."""
    request = Asking("203.0.113.7", {}, "/x", "GET")
    keys = {
        _made("p", specification)(request) for specification in itertools.permutations(("client", "route", "method"))
    }
    assert keys == {"p:route=/x:method=GET:client:203.0.113.7"}


class Shouting(str):
    """A text that is another one wherever it is added or formatted, as markupsafe's is."""

    __slots__ = ()

    def __radd__(self, other: str) -> str:
        return f"{other}{self.upper()}"

    def __str__(self) -> str:
        return "!"


class Number(IntEnum):
    SEVEN = 7

    def __repr__(self) -> str:
        return "seven"


@pytest.mark.parametrize(
    ("value", "who"),
    [
        *((nothing, "absent") for nothing in (None, "", Shouting(""))),
        *(("bob", "key:bob"), (" ", "key: "), (Shouting("bob"), "key:bob"), ("absent", "key:absent")),
        *((0, "key:0"), (-7, "key:-7"), (2**70, f"key:{2**70}"), (Number.SEVEN, "key:7")),
        *((value, "key-invalid") for value in (True, False, 1.5, b"k", ["bob", "bob"], [], {}, {"a": 1}, ("a",))),
        *((value, "key-invalid") for value in (object(), set(), Ellipsis, str, iter("a"))),
        # More digits than Python writes.
        pytest.param(10**5_000, "key-invalid", id="huge"),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_key_function_charges_whatever_it_returns(value: Any, who: str, caplog: pytest.LogCaptureFixture) -> None:  # noqa: ANN401 - what it may not return, too
    """A text or an integer names a bucket, nothing is absent, and all other values share one, told by their type."""
    log = ErrorLog(logging.getLogger("shm_store.test"))
    for key, prefix in ([], "p:"), (["method"], "p:method=GET:"):
        policy = Policy(name="p", quota="5/s", key=[lambda _: value, *key])
        made = key_function(policy, FRAMEWORK, Clients(), log)
        said = made(Asking("203.0.113.7", {}, None, "GET"))
        assert said == prefix + who
        assert type(said) is str
    if who == "key-invalid":
        (message,) = caplog.messages
        assert f"policy 'p': key is '<{type(value).__name__}>': return a str or an int" in message
        assert "bob" not in message
    else:
        assert not caplog.messages


def test_key_function_comes_before_the_next_source_unless_it_cannot_tell() -> None:
    """Every value but None and the empty text is charged, and keeps the next source from being asked."""
    client = "client:203.0.113.7"
    for value, who in (("bob", "key:bob"), ([], "key-invalid"), (None, client), ("", client)):
        made = _made("p", [lambda _, value=value: value, "client"])  # type: ignore[misc]
        assert made(Asking("203.0.113.7", {}, None, "GET")) == f"p:{who}"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_key_function_that_is_to_be_awaited_is_an_error() -> None:
    """One that returns a coroutine each time can never work; it is not left to be complained about."""

    async def coroutine() -> str:
        return "never"

    with pytest.raises(ConfigurationError, match="give a plain function") as caught:
        _made("p", [lambda _: coroutine()])(Asking("203.0.113.7", {}, None, "GET"))  # type: ignore[list-item, return-value]
    assert (caught.value.setting, caught.value.value) == ("policy 'p': key", "<coroutine>")


@pytest.mark.parametrize("value", [None, "", " ", "\t \t", "\xa0", "\x85"])
@pytest.mark.parametrize(("absent", "key"), [("share", "p:absent"), ("skip", None)])
def test_header_that_is_blank_is_absent(value: str | None, absent: Absent, key: str | None) -> None:
    """Without a value it names no one: all such requests share a bucket, unless the policy does not apply to them."""
    headers = {} if value is None else {"a": value}
    policy = Policy(name="p", quota="5/s", key=["header:a"], absent=absent)
    made = key_function(policy, FRAMEWORK, Clients(), LOG)
    assert made(Asking("203.0.113.7", headers, None, "GET")) == key
    split = Policy(name="p", quota="5/s", key=["header:a", lambda _: None, "method", "route"], absent=absent)
    made = key_function(split, FRAMEWORK, Clients(), LOG)
    assert made(Asking("203.0.113.7", headers, "/x", "GET")) == (key and "p:route=/x:method=GET:absent")


def test_header_is_read_without_the_spaces_around_it() -> None:
    """A client has one bucket however many spaces it writes, which applications ignore."""
    made = _made("p", ["header:a"])
    keys = {made(Asking("203.0.113.7", {"a": value}, None, "GET")) for value in ("k", " k", "k\t", "\xa0k ")}
    assert keys == {"p:header:a:k"}


def test_header_that_came_several_times_has_a_bucket_of_its_own() -> None:
    """No line of it counts; it is present all the same, so a policy with absent="skip" applies."""
    for absent in get_args(Absent):
        policy = Policy(name="p", quota="5/s", key=["header:a"], absent=absent)
        made = key_function(policy, FRAMEWORK, Clients(), LOG)
        assert made(Asking("203.0.113.7", {"a": REPEATED}, None, "GET")) == "p:header:a:"


@pytest.mark.parametrize(
    "peer", [b"203.0.113.7", 7, True, 1.5, ("203.0.113.7",), ["203.0.113.7"], {}, object()], ids=shown
)
@pytest.mark.parametrize("clients", [Clients(), Clients(hops=1), Clients(trusted=["unix"])], ids=shown)
def test_peer_that_is_no_text_is_charged(peer: Any, clients: Clients) -> None:  # noqa: ANN401 - what servers make of it
    """A value that is no text raises nothing and is charged to the shared bucket."""
    made = key_function(Policy(name="p", quota="5/s"), FRAMEWORK, clients, LOG)
    for _ in range(2):
        assert made(Asking(peer, {}, None, "GET")) == "p:client:unknown"


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
    made = key_function(Policy(name="p", quota="5/s"), FRAMEWORK, Clients(**behind), LOG)  # type: ignore[arg-type]
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

    remembered = Values(make)
    for number in range(10_000):
        assert remembered[str(number)] == f"key of {number}"
        assert str(number) in remembered
    assert sum(sys.getsizeof(text) for pair in remembered.items() for text in pair) < BYTES_MAX
    assert remembered["9999"] == "key of 9999"
    assert len(made) == 10_000
    before = dict(remembered)
    assert remembered["x" * 257] == f"key of {'x' * 257}"
    assert remembered == before


def test_key_on_a_server_has_its_owner_for_a_hash_tag() -> None:
    """A cluster keeps all buckets of one owner in one slot: the names on a server know each form of an owner."""
    preflight = {"Origin": "https://example.org", "Access-Control-Request-Method": "PUT"}

    def listed(_request: Asking) -> Any:  # noqa: ANN401 - what it may not return
        return ["bob", "bob"]

    others: list[list[Source]] = [["header:b"], ["header:b", "route", "method"], [listed], [listed, "method"]]
    keys = [_made("p", other)(Asking("203.0.113.7", {}, "/", "GET")) for other in others]
    for specification in SPECIFICATIONS:
        keys += (_key("p", specification, asking) for asking in _askings(["v", "}p:global"]))
        keys.append(MAKE_FOR_OPTIONS["p", specification](Asking("203.0.113.7", preflight, "/", "OPTIONS")))
    assert {key.rpartition(":")[2] for key in keys[:4] if key} == {"absent", "key-invalid"}
    for key in keys:
        assert key is not None
        owner, _, rest = tagged(key).partition("}")
        assert rest.startswith("p:"), key
        assert key == rest + owner.replace("%7D", "}").replace("%25", "%")
