"""The guard of the admin API: which requests pass, what the others learn, and how often a client may try."""

from __future__ import annotations

from typing import Final, NoReturn

import falcon.testing
import pytest

from shm_store import ShmStore, StripeTimeoutError
from shm_store.falcon import RequestLimiter
from tests.http.failing_store import fail_takes
from tests.service.asking import CLIENT, RIGHT, TOKEN, Ask, MakeApp, listed, path_of, ping

ERROR: Final = StripeTimeoutError("shm-store", 0, 1, ())
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
    "path",
    ["/admin", "/admin/", "/admin/none", "/admin/limits", "/admin/limits/x", "/admin/../v1", "/v1/../admin/status"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE", "TRACE"])
def test_guard_tells_nothing_of_routes(ask: Ask, method: str, path: str) -> None:
    """Without the token each path and method is answered alike, one that is there as one that is not."""
    result = ask(method, path, token=None)
    assert result.status_code == 401
    assert "allow" not in result.headers


@pytest.mark.parametrize("path", ["//admin/status", "///admin/limits", "/%2fadmin/status", "/%61dmin/status"])
def test_guard_knows_each_way_to_write_a_path(ask: Ask, path: str) -> None:
    """Every path that the router matches to /admin needs the token, and is answered with it."""
    assert ask("GET", path, token=None).status_code == 401
    assert ask("GET", path).status_code == 200


def test_guard_looks_at_routes_as_well(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route is guarded even if the guard does not recognize the spelling of its path."""
    monkeypatch.setattr("service.app.api.guard._is_guarded", lambda path: path == "/admin/limits/{key:path}")
    for method, how in (("GET", {}), ("PUT", {"json": {"limit": 5, "interval": "1min"}}), ("DELETE", {})):
        result = ask(method, "/admin/limits/x", **how)
        assert (result.status_code, result.headers["www-authenticate"]) == (401, "Bearer")


def test_guard_reads_no_body_without_the_token(ask: Ask) -> None:
    """A client without the token learns nothing about the form of a body."""
    for how in ({"body": "{"}, {"headers": {"Content-Length": "99999999"}}, {"json": {"limit": 1, "interval": 1}}):
        assert ask("PUT", "/admin/limits/x", token=None, **how).status_code == 401


def test_guard_bounds_guessing(ask: Ask) -> None:
    """After ten wrong tokens a client gets 429 for every request; other clients do not."""
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
    """Requests with the right token have a limit of their own, by client, and get 429 beyond it."""
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


@pytest.mark.parametrize("fails_to_peek", [True, False])
def test_guard_fails_closed(ask: Ask, monkeypatch: pytest.MonkeyPatch, *, fails_to_peek: bool) -> None:
    """While the store fails, or fails only to count, no token passes the guard."""
    fail_takes(monkeypatch, ERROR, peeks=fails_to_peek)
    for token in (RIGHT, WRONG[0]):
        result = ask("GET", "/admin/status", token=token)
        assert (result.status_code, result.headers["cache-control"]) == (503, "no-store")


def test_guard_takes_requests_for_guesses_while_it_cannot_tell(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the number of a client's guesses is unknown, even a request with the right token counts as one."""

    def fails(*_: object) -> NoReturn:
        raise ERROR

    monkeypatch.setattr(RequestLimiter, "has_room", fails)
    assert [ask("GET", "/admin/status").status_code for _ in range(11)] == [200] * 10 + [429]


def test_guard_has_no_method_that_is_free(ask: Ask) -> None:
    """OPTIONS requests count as guesses, since they would reveal a token as well."""
    assert [ask("OPTIONS", "/admin/status", token=None).status_code for _ in range(11)] == [401] * 10 + [429]


@pytest.mark.parametrize(
    ("unknown", "statuses"), [("error", [503] * 11), ("share", [401] * 10 + [429]), ("skip", [401] * 10 + [429])]
)
def test_clients_without_an_address_do_not_escape(make_app: MakeApp, unknown: str, statuses: list[int]) -> None:
    """They share their guesses, or are answered 503, and never go without a limit."""
    client = falcon.testing.TestClient(make_app(unknown_clients=unknown))
    results = [client.simulate_get("/admin/status", remote_addr="") for _ in range(11)]
    assert [result.status_code for result in results] == statuses
