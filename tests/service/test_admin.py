"""The admin API: what it shows and changes, and the guard in front of it; for WSGI and ASGI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import quote

import falcon.testing
import pytest

from shm_store import ShmStore, StripeTimeoutError
from tests.service.conftest import TOKEN, MakeApp

CLIENT: Final = "203.0.113.7"
KEY: Final = f"default:client:{CLIENT}"
RIGHT: Final = f"Bearer {TOKEN}"
Ask: TypeAlias = Callable[..., falcon.testing.Result]


@pytest.fixture
def app(make_app: MakeApp) -> object:
    return make_app(limit=3, trusted_proxies="127.0.0.1")


@pytest.fixture
def ask(app: Any) -> Ask:  # noqa: ANN401 - whichever of Falcon's applications
    """Send a request with the right token, as the only client unless another is named."""
    return asking(app)


def asking(app: object) -> Ask:
    client = falcon.testing.TestClient(app)  # type: ignore[arg-type]  # its own type is not public

    def ask(method: str, path: str, *, token: str | None = RIGHT, client_is: str = CLIENT, **how: Any) -> Any:  # noqa: ANN401 - as simulate_request takes and gives it
        # Of ASGI, Falcon's test client names the peer in a form that no server does.
        headers = {"X-Forwarded-For": client_is} | ({} if token is None else {"Authorization": token})
        return client.simulate_request(
            method, path, headers=headers | how.pop("headers", {}), remote_addr="127.0.0.1", **how
        )

    return ask


@pytest.fixture
def store(app: object, segment_name: str) -> Iterator[ShmStore]:  # noqa: ARG001 - makes the table
    attached = ShmStore.attach(segment_name)
    assert attached is not None
    with attached:
        yield attached


def ping(ask: Ask, times: int = 1, client_is: str = CLIENT) -> list[int]:
    return [ask("GET", "/v1/ping", token=None, client_is=client_is).status_code for _ in range(times)]


def path_of(kind: str, key: str) -> str:
    # The test client decodes the path once, as a server does.
    return f"/admin/{kind}/{quote(key, safe='')}"


def listed(ask: Ask, **query: str) -> list[dict[str, Any]]:
    result = ask("GET", "/admin/limits", params=query)
    assert result.status_code == HTTPStatus.OK, result.json
    entries: list[dict[str, Any]] = result.json["entries"]
    return entries


@pytest.mark.parametrize("path", ["/admin", "/admin/limits", "/admin/status", "/admin/none", "/dashboard"])
def test_without_a_token_there_is_no_admin(make_app: MakeApp, path: str) -> None:
    """Unless a token is set nothing is there, whatever the request says; and asking counts as any request does."""
    ask = asking(make_app(admin_token=None, trusted_proxies="127.0.0.1", limit=2))
    assert [ask("GET", path).status_code for _ in range(3)] == [404, 404, 429]
    assert ask("GET", path, client_is="203.0.113.8").headers["content-type"] == "application/problem+json"


def test_limits_are_listed_with_the_most_denied_first(ask: Ask) -> None:
    """Each key has what it may, what it has left and how often it was denied; the total counts those left out too."""
    ping(ask, 5)
    ping(ask, 4, client_is="203.0.113.8")
    ping(ask, 1, client_is="203.0.113.9")
    result = ask("GET", "/admin/limits", params={"policy": "default", "limit": "2"}).json
    assert [(entry["key"], entry["allowed"], entry["denied"]) for entry in result["entries"]] == [
        (KEY, 3, 2),
        ("default:client:203.0.113.8", 3, 1),
    ]
    assert result["total"] == 3
    first = result["entries"][0]
    assert (first["limit"], first["remaining"], first["interval"], first["policy"]) == (3, 0, 60.0, "default")
    assert 0 < first["reset_after"] <= 60


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"key": KEY}, {KEY}),
        ({"key": "default:client:203.0.113.*"}, {KEY, "default:client:203.0.113.8"}),
        ({"policy": "other"}, {"other:x"}),
        ({"policy": "default", "denied": "true"}, {KEY}),
        ({"blocked": "true"}, {"blocked"}),
        ({"overrides": "true"}, {"other:x"}),
    ],
)
def test_limits_are_chosen(ask: Ask, store: ShmStore, query: dict[str, str], expected: set[str]) -> None:
    """By policy, by key or what it begins with, and by what has befallen it."""
    ping(ask, 4)
    ping(ask, 1, client_is="203.0.113.8")
    store.set("other:x", 5, "1min")
    store.block("blocked", "1h")
    assert {entry["key"] for entry in listed(ask, **query)} == expected


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("denied", ["b", "a", "c"]),
        ("allowed", ["c", "a", "b"]),
        ("key", ["a", "b", "c"]),
        ("remaining", ["b", "a", "c"]),
        ("reset", ["c", "b", "a"]),
    ],
)
def test_limits_are_sorted(ask: Ask, store: ShmStore, sort: str, expected: list[str]) -> None:
    """In each order that can be asked for."""
    for key, limit, interval, allowed, denied in (("a", 5, "1min", 4, 2), ("b", 1, "1h", 1, 4), ("c", 9, "2h", 7, 0)):
        store.set(key, limit, interval)
        for cost in [1] * allowed + [limit] * denied:
            store.take(key, cost)
    assert [entry["key"] for entry in listed(ask, sort=sort, overrides="true")] == expected


def test_hashed_limits_say_nothing_of_the_key(ask: Ask, store: ShmStore) -> None:
    """With `hash` no key is in the answer, and no order that tells of it; the digest is the one operators know."""
    ping(ask, 4)
    result = ask("GET", "/admin/limits", params={"hash": "true", "sort": "key"})
    assert CLIENT not in result.text
    assert {entry["key"] for entry in result.json["entries"]} == {None}
    with store.inspect() as inspection:
        digest = inspection.digest(KEY)
    assert result.json["entries"][0]["digest"] == digest


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"sort": "size"}, {"denied": "maybe"}, {"polcy": "x"}]
)
def test_bad_query_is_refused(ask: Ask, query: dict[str, str]) -> None:
    """With a problem document that says what is wrong."""
    result = ask("GET", "/admin/limits", params=query)
    assert (result.status_code, result.headers["content-type"]) == (400, "application/problem+json")


def test_status_tells_of_table_policies_and_processes(ask: Ask) -> None:
    """The counters of the table, how each policy has decided, and who uses the table."""
    ping(ask, 5)
    status = ask("GET", "/admin/status").json
    assert status["policies"]["default"] | {"near_limit": 0} == {
        "allowed": 3,
        "denied": 2,
        "shadow_denied": 0,
        "errors": 0,
        "near_limit": 0,
    }
    assert (status["stats"]["slots"], status["stats"]["label_size"]) == (1024, 64)
    assert status["stats"]["denied"] == 2
    assert [seat["alive"] for seat in status["seats"]] == [True]


def test_override_is_stored_seen_and_reset(ask: Ask) -> None:
    """A key gets a quota of its own, which holds at once and goes with a reset; a second reset finds nothing."""
    assert ping(ask, 4)[-1] == 429
    stored = ask("PUT", path_of("limits", KEY), json={"limit": 5, "interval": "1min"})
    assert stored.status_code == 200
    (entry,) = stored.json["entries"]
    assert (entry["key"], entry["limit"], entry["remaining"], entry["override"]) == (KEY, 5, 5, True)
    assert ping(ask, 6) == [200] * 5 + [429]
    assert ask("GET", path_of("limits", KEY)).json["entries"][0]["remaining"] == 0
    assert ask("DELETE", path_of("limits", KEY)).status_code == 204
    assert ping(ask, 4) == [200] * 3 + [429]
    assert [ask("DELETE", path_of("limits", KEY)).status_code for _ in range(2)] == [204, 404]
    assert ask("GET", path_of("limits", KEY)).status_code == 404


def test_block_denies_until_it_is_lifted(ask: Ask) -> None:
    """A blocked key is denied although it has units left; lifted, it goes on with them; there is one block to lift."""
    assert ping(ask) == [200]
    blocked = ask("PUT", path_of("blocks", KEY), json={"for": "1h"})
    assert blocked.status_code == 200
    (entry,) = blocked.json["entries"]
    assert 3500 < entry["blocked_for"] <= 3600
    assert ping(ask) == [429]
    assert [ask("DELETE", path_of("blocks", KEY)).status_code for _ in range(2)] == [204, 404]
    assert ping(ask, 3) == [200, 200, 429]


@pytest.mark.parametrize(
    "key",
    [
        "a/b",
        "/",
        "a//b/",
        "a%2Fb",
        "a b?c#d",
        "ä€😀",
        "%",
        "line\nfeed",
        "nul\0",
        "header:x-api-key:\"';<script>",
        "x" * 900,
    ],
)
def test_keys_may_have_any_character(ask: Ask, store: ShmStore, key: str) -> None:
    """Percent-encoded, every key can be named, and is found as it was written."""
    assert ask("PUT", path_of("limits", key), json={"limit": 7, "interval": 60}).status_code == 200
    assert store.get(key) == (7, 7)
    assert ask("GET", path_of("limits", key)).json["entries"][0]["key"] == key
    assert ask("PUT", path_of("blocks", key), json={"for": 5}).status_code == 200
    assert not store.peek(key).allowed
    assert ask("DELETE", path_of("blocks", key)).status_code == 204
    assert ask("DELETE", path_of("limits", key)).status_code == 204
    assert store.get(key) == (0, 0)


def test_key_that_json_cannot_hold_is_shown_with_escapes(ask: Ask, store: ShmStore) -> None:
    """Half of a surrogate pair in a key makes no answer fail."""
    store.set("half \ud83d", 5, "1min")
    assert [entry["key"] for entry in listed(ask, overrides="true")] == ["half \\ud83d"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/limits/x", {"limit": 0, "interval": "1min"}),
        ("/admin/limits/x", {"limit": 5, "interval": "soon"}),
        ("/admin/limits/x", {"limit": 5, "interval": "1min\n"}),
        ("/admin/limits/x", {"limit": "5", "interval": "1min"}),
        ("/admin/limits/x", {"limit": 5, "interval": "1min", "burst": 5}),
        ("/admin/limits/x", {"limit": 5}),
        ("/admin/blocks/x", {"for": "101 years"}),
        ("/admin/blocks/x", {"for": 0}),
        ("/admin/blocks/x", {}),
        ("/admin/blocks/x", []),
    ],
)
def test_bad_body_changes_nothing(ask: Ask, store: ShmStore, path: str, body: object) -> None:
    """It is answered 422 with a problem document."""
    result = ask("PUT", path, json=body)
    assert (result.status_code, result.headers["content-type"]) == (422, "application/problem+json")
    assert store.inspect().entry("x") == []


WRONG: Final = [
    None,
    "",
    "Bearer",
    "Bearer ",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN}x",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer ä€",
    f"{RIGHT}, {RIGHT}",
]


@pytest.mark.parametrize("token", WRONG)
def test_guard_answers_every_wrong_token_alike(ask: Ask, token: str | None) -> None:
    """401 with the challenge, a problem document, and nothing that a cache may keep."""
    sent = None if token is None else token.encode().decode("latin-1")
    result = ask("GET", "/admin/status", token=sent)
    assert (result.status_code, result.headers["www-authenticate"]) == (401, "Bearer")
    assert (result.json["status"], result.headers["content-type"]) == (401, "application/problem+json")
    assert result.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("token", [RIGHT, f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
def test_guard_takes_the_scheme_in_any_case(ask: Ask, token: str) -> None:
    """As RFC 9110 has it."""
    assert ask("GET", "/admin/status", token=token).status_code == 200


@pytest.mark.parametrize(
    "path", ["/admin", "/admin/", "/admin/none", "/admin/limits", "/admin/limits/x", "/admin/../v1"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE", "TRACE"])
def test_guard_tells_nothing_of_routes(ask: Ask, method: str, path: str) -> None:
    """Without the token each path and method is answered alike, one that is there as one that is not."""
    result = ask(method, path, token=None)
    assert result.status_code == 401
    assert "allow" not in result.headers


def test_guard_reads_no_body_without_the_token(ask: Ask) -> None:
    """Whoever has no token learns nothing of what a body must be."""
    for how in ({"body": "{"}, {"headers": {"Content-Length": "99999999"}}, {"json": {"limit": 1, "interval": 1}}):
        assert ask("PUT", "/admin/limits/x", token=None, **how).status_code == 401


def test_guard_bounds_guessing(ask: Ask) -> None:
    """After ten wrong tokens a client is answered 429 whatever it sends, and others are not."""
    assert [ask("GET", "/admin/status", token=WRONG[4]).status_code for _ in range(11)] == [401] * 10 + [429]
    denied = ask("GET", "/admin/status")
    assert (denied.status_code, denied.json["violated-policies"]) == (429, ["admin-failures"])
    assert 0 < int(denied.headers["retry-after"]) <= 60
    assert denied.headers["cache-control"] == "no-store"
    assert ask("PUT", path_of("limits", "x"), json={"limit": 1, "interval": 1}).status_code == 429
    other = ask("GET", "/admin/status", client_is="203.0.113.8")
    assert other.status_code == 200
    counts = other.json["policies"]["admin-failures"]
    assert (counts["allowed"], counts["denied"]) == (10, 3)


def test_guard_limits_the_right_token_too(ask: Ask, store: ShmStore) -> None:
    """Its requests are counted apart, by client; one too many is answered 429."""
    assert ask("GET", "/admin/status").headers["ratelimit-policy"] == '"admin";q=600;w=60'
    store.set(f"admin:client:{CLIENT}", 2, "1h")
    assert [ask("GET", "/admin/status").status_code for _ in range(3)] == [200, 200, 429]
    counts = store.inspect().policies()
    assert (counts["admin"].allowed, counts["admin"].denied) == (3, 1)
    assert "admin-failures" not in counts or counts["admin-failures"].allowed == 0


def test_right_tokens_spend_no_guesses(ask: Ask) -> None:
    """Twenty requests with the token leave ten wrong ones."""
    assert {ask("GET", "/admin/status").status_code for _ in range(20)} == {200}
    assert [ask("GET", "/admin/status", token=None).status_code for _ in range(11)] == [401] * 10 + [429]


def test_admin_answers_while_its_client_is_denied(ask: Ask) -> None:
    """The ordinary limits do not cover operators, and operators spend none of them."""
    assert ping(ask, 4) == [200] * 3 + [429]
    for path in ("/admin/status", "/dashboard"):
        assert ask("GET", path).status_code == 200
    assert listed(ask, policy="default")[0]["denied"] == 1


def test_guard_fails_closed(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store fails nobody is let in, with whatever token."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise StripeTimeoutError("shm-store", 0, 1, ())

    monkeypatch.setattr("shm_store.table.stripes.Stripes.run", fail)
    for token in (RIGHT, WRONG[0]):
        result = ask("GET", "/admin/status", token=token)
        assert (result.status_code, result.headers["cache-control"]) == (503, "no-store")


def test_admin_says_when_the_store_fails(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails behind the guard is answered 503, without a word of the machine."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise StripeTimeoutError("secret-name", 0, 1, ())

    monkeypatch.setattr(ShmStore, "set", fail)
    result = ask("PUT", path_of("limits", "x"), json={"limit": 5, "interval": "1min"})
    assert (result.status_code, result.headers["content-type"]) == (503, "application/problem+json")
    assert "secret-name" not in result.text


@pytest.mark.parametrize(
    ("unknown", "statuses"), [("error", [503] * 11), ("share", [401] * 10 + [429]), ("skip", [401] * 10 + [429])]
)
def test_clients_without_an_address_do_not_escape(make_app: MakeApp, unknown: str, statuses: list[int]) -> None:
    """They share their guesses, or are answered 503, and never go without a limit."""
    client = falcon.testing.TestClient(make_app(unknown_clients=unknown))
    results = [client.simulate_get("/admin/status", remote_addr="") for _ in range(11)]
    assert [result.status_code for result in results] == statuses
