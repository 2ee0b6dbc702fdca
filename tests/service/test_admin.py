"""The admin API: what it shows of limits, and what it changes; for WSGI and ASGI."""

from __future__ import annotations

from typing import NoReturn

import pytest

from shm_store import ConfigurationError, ShmStore, StripeTimeoutError
from tests.segments import attached
from tests.service.asking import CLIENT, KEY, TOKEN, Ask, MakeApp, asking, listed, path_of, ping


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
        ("reset", ["a", "b", "c"]),
        ("limit", ["c", "a", "b"]),
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
    digests = [entry["digest"] for entry in result.json["entries"]]
    assert digest in digests
    assert digests == sorted(digests)


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"sort": "size"}, {"denied": "maybe"}, {"polcy": "x"}]
)
def test_bad_query_is_refused(ask: Ask, query: dict[str, str]) -> None:
    """The answer is a problem document."""
    result = ask("GET", "/admin/limits", params=query)
    assert (result.status_code, result.headers["content-type"]) == (400, "application/problem+json")


def test_status_tells_of_table_policies_and_processes(ask: Ask) -> None:
    """The counters of the table, the decisions of each policy, and the processes that use the table."""
    ping(ask, 5)
    status = ask("GET", "/admin/status").json
    assert status["policies"]["default"] | {"near_limit": 0} == {
        "allowed": 3,
        "denied": 2,
        "overruled": 0,
        "shadow_denied": 0,
        "errors": 0,
        "near_limit": 0,
    }
    assert (status["stats"]["slots"], status["stats"]["label_size"]) == (1024, 64)
    # Beside the clients' requests there is the one that asks.
    assert status["requests"] == {"allowed": 4, "denied": 2, "failed": 0, "unlimited": 0}
    assert status["stats"]["denied"] == 2
    assert [process["alive"] for process in status["processes"]] == [True]


def test_override_is_stored_seen_and_reset(ask: Ask) -> None:
    """A key gets a quota of its own, which holds at once and goes with a reset; a second reset finds nothing."""
    assert ping(ask, 4)[-1] == 429
    body = {"limit": 5, "interval": "1min"}
    for number, left in enumerate((2, 1, 0)):
        # The same one again changes nothing.
        stored = ask("PUT", path_of("limits", KEY), json=body if number else body | {"keep_spent": True})
        assert stored.status_code == 200
        (entry,) = stored.json["entries"]
        assert (entry["key"], entry["limit"], entry["remaining"], entry["override"]) == (KEY, 5, left, True)
        assert ping(ask, 1) == [200 if left else 429]
    full = ask("PUT", path_of("limits", KEY), json=body | {"keep_spent": False})
    assert full.json["entries"][0]["remaining"] == 5
    assert ping(ask, 6) == [200] * 5 + [429]
    assert ask("GET", path_of("limits", KEY)).json["entries"][0]["remaining"] == 0
    assert ask("DELETE", path_of("limits", KEY)).status_code == 204
    assert ping(ask, 4) == [200] * 3 + [429]
    assert [ask("DELETE", path_of("limits", KEY)).status_code for _ in range(2)] == [204, 404]
    assert ask("GET", path_of("limits", KEY)).status_code == 404


@pytest.mark.parametrize("limit", ["5.0", "5e0", "50E-1"])
def test_integer_may_be_written_as_any_number(ask: Ask, store: ShmStore, limit: str) -> None:
    """An integer of JSON Schema is one here."""
    body = f'{{"limit": {limit}, "interval": 0.5}}'
    stored = ask("PUT", path_of("limits", "x"), body=body, headers={"Content-Type": "application/json"})
    assert stored.status_code == 200
    assert store.get("x") == (5, 5)


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


@pytest.mark.parametrize("label_size", [0, 64])
def test_digest_names_a_key_wherever_its_text_does(make_app: MakeApp, segment_name: str, label_size: int) -> None:
    """A change by the digest that log and dashboard show holds for the key; nothing else is stored."""
    ask = asking(make_app(limit=3, trusted_proxies="127.0.0.1", label_size=label_size))
    assert ping(ask) == [200]
    with attached(segment_name) as store:
        digest = f"#{store.digest(KEY)}"
        changed = ask("PUT", path_of("limits", digest), json={"limit": 5, "interval": "1min"}).json
        (entry,) = changed["entries"]
        assert (f"#{entry['digest']}", entry["limit"], changed["exists"]) == (digest, 5, True)
        assert store.get(KEY)[0] == 5
        assert ask("PUT", path_of("blocks", digest), json={"for": "1h"}).status_code == 200
        assert ping(ask) == [429]
        assert ask("DELETE", path_of("blocks", digest)).status_code == 204
        assert ping(ask) == [200]
        assert ask("GET", path_of("limits", digest.upper())).json["entries"][0]["limit"] == 5
        assert [f"#{each['digest']}" for each in listed(ask, key=digest)] == [digest]
        assert ask("DELETE", path_of("limits", digest)).status_code == 204
        assert store.get(KEY) == (0, 0)


@pytest.mark.parametrize(("digest", "status"), [("#0123456789abcdef", 404), ("#0123", 422), ("#", 422), ("#x", 422)])
def test_digest_that_names_no_key_changes_nothing(ask: Ask, store: ShmStore, digest: str, status: int) -> None:
    """404 if no key has it, 422 if it is none; no key is made of it."""
    asked = [
        ask("GET", path_of("limits", digest)),
        ask("PUT", path_of("limits", digest), json={"limit": 5, "interval": "1min"}),
        ask("DELETE", path_of("limits", digest)),
        ask("PUT", path_of("blocks", digest), json={"for": "1h"}),
        ask("DELETE", path_of("blocks", digest)),
    ]
    assert [result.status_code for result in asked] == [status] * 5
    assert all(digest in result.json["detail"] for result in asked)
    assert not [entry for entry in store.inspect().entries() if entry.override or entry.blocked_for]


def test_key_that_begins_with_a_hash_is_written_with_two(ask: Ask, store: ShmStore) -> None:
    """So that no digest is taken for it."""
    assert ask("PUT", path_of("limits", "##1"), json={"limit": 7, "interval": 60}).json["entries"][0]["key"] == "#1"
    assert store.get("#1") == (7, 7)
    assert [entry["key"] for entry in listed(ask, key="##*")] == ["#1"]


def test_change_tells_that_no_request_has_met_the_key(ask: Ask) -> None:
    """It is done, and the answer names what may be wrong and the key that was perhaps meant."""
    ping(ask)
    for kind, body in (("limits", {"limit": 5, "interval": "1min"}), ("blocks", {"for": "1h"})):
        changed = ask("PUT", path_of(kind, f"defualt:client:{CLIENT}"), json=body)
        assert changed.status_code == 200
        assert (changed.json["exists"], changed.json["near"][0]) == (False, KEY)
        assert "no bucket of this key exists yet: check the spelling" in changed.json["note"]
        assert "no policy 'defualt', the nearest is default" in changed.json["note"]
        known = ask("PUT", path_of(kind, KEY), json=body).json
        assert (known["exists"], known["note"], known["near"]) == (True, None, [])


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
        ("/admin/limits/x", {"limit": 5, "interval": "1min", "keep_spent": "yes"}),
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


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (
            "limits/x",
            {"limit": 5, "interval": "forever"},
            "interval is 'forever': give seconds, or text such as `1min`",
        ),
        ("limits/x", {"limit": 0, "interval": 60}, "limit is 0: give an integer from 1 to 9223372036854775807"),
        ("limits/x", {"limit": "5", "interval": 60}, "limit is '5': give an integer from 1"),
        ("limits/x", {"limit": 5}, "interval is missing: give seconds, or text such as `1min`"),
        ("limits/x", {"limit": 5, "intervall": 60}, "intervall is 60: there is no such field; did you mean interval?"),
        ("limits/x", [], "this is []: give an object with limit and interval"),
        ("blocks/x", {"for": "1h30"}, "for is '1h30': give seconds, or text such as `90s`, `1h`"),
        ("blocks/x", {"for": None}, "for is None: give seconds"),
    ],
)
def test_bad_body_is_named_with_what_to_give(ask: Ask, path: str, body: object, detail: str) -> None:
    """The field, its value and what to send in its place; no pattern and no type of Python's."""
    result = ask("PUT", f"/admin/{path}", json=body)
    assert (result.status_code, result.json["detail"].startswith(detail)) == (422, True), result.json["detail"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"limit": "0"}, "Query: limit is '0': give an integer from 1 to 1000"),
        ({"limit": "x"}, "Query: limit is 'x': give an integer from 1 to 1000"),
        ({"sort": "size"}, "Query: sort is 'size': give one of allowed, denied, key"),
        ({"denied": "maybe"}, "Query: denied is 'maybe': give true or false"),
        ({"polcy": "x"}, "Query: polcy is 'x': there is no such field; did you mean policy?"),
    ],
)
def test_bad_query_is_named_with_what_to_give(ask: Ask, query: dict[str, str], detail: str) -> None:
    """The parameter, its value and what to send in its place."""
    result = ask("GET", "/admin/limits", params=query)
    assert (result.status_code, result.json["detail"].startswith(detail)) == (400, True), result.json["detail"]


@pytest.mark.parametrize("duration", ["1h30m", "1d 12h", "90m30s"])
def test_duration_may_have_two_units(ask: Ask, duration: str) -> None:
    """As on the command line."""
    assert ask("PUT", path_of("blocks", KEY), json={"for": duration}).status_code == 200


def test_admin_says_when_the_store_fails(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails behind the guard is answered 503, without a word of the machine."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise StripeTimeoutError("secret-name", 0, 1, ())

    monkeypatch.setattr(ShmStore, "set", fail)
    result = ask("PUT", path_of("limits", "x"), json={"limit": 5, "interval": "1min"})
    assert (result.status_code, result.headers["content-type"]) == (503, "application/problem+json")
    assert "secret-name" not in result.text


def test_admin_says_what_the_store_does_not_take(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota that is described as good, and that the store refuses nevertheless, is answered 422 with its reason."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise ConfigurationError("limit", 5, "choose another")

    monkeypatch.setattr(ShmStore, "set", refuse)
    result = ask("PUT", path_of("limits", "x"), json={"limit": 5, "interval": "1min"})
    assert (result.status_code, result.json["detail"]) == (422, "limit is 5: choose another")


def test_dashboard_runs_nothing_but_itself(ask: Ask) -> None:
    """Without a token, as it has no secrets; with a policy that allows one script, one style and this service."""
    page = ask("GET", "/dashboard", token=None)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert TOKEN not in page.text
