"""The short-link API on a real SQLite file, for WSGI and ASGI."""

from __future__ import annotations

from pathlib import Path

import falcon.testing
import msgspec
import pytest

from service.app.conf import Settings
from service.app.construct import asgi, wsgi

URL = "https://example.org/page?q=1#top"


@pytest.fixture(params=["wsgi", "asgi"])
def client(request: pytest.FixtureRequest, segment_name: str, tmp_path: Path) -> falcon.testing.TestClient:
    settings = Settings(
        store=f"shm://{segment_name}",
        initial_size=128,
        limit=50,
        key_header="X-Api-Key",
        database=str(tmp_path / "links.sqlite3"),
    )
    build = wsgi if request.param == "wsgi" else asgi
    return falcon.testing.TestClient(build(msgspec.json.encode(settings).decode()), headers={"X-Api-Key": "me"})


def _problem(result: falcon.testing.Result) -> str:
    assert result.headers["content-type"] == "application/problem+json"
    assert result.json["status"] == result.status_code
    return str(result.json["detail"])


def test_link_lives_from_creation_to_deletion(client: falcon.testing.TestClient) -> None:
    """A link is created, described, listed, followed with its hits counted, and deleted."""
    made = client.simulate_post("/v1/links", json={"url": URL})
    assert made.status_code == 201
    where, code = made.headers["location"], made.json["code"]
    assert client.simulate_get(where).json == made.json
    assert client.simulate_get("/v1/links").json == {"links": [made.json], "next": None}
    for _ in range(2):
        followed = client.simulate_get(f"/r/{code}")
        assert (followed.status_code, followed.headers["location"]) == (302, URL)
    assert client.simulate_get(where).json["hits"] == 2
    assert client.simulate_delete(where).status_code == 204
    for gone in (client.simulate_get(where), client.simulate_delete(where), client.simulate_get(f"/r/{code}")):
        assert gone.status_code == 404
        assert code in _problem(gone)


def test_list_is_paged(client: falcon.testing.TestClient) -> None:
    """A page says where the next one begins."""
    for code in ("aaa", "bbb", "ccc"):
        assert client.simulate_post("/v1/links", json={"url": URL, "code": code}).status_code == 201
    first = client.simulate_get("/v1/links", params={"limit": 2}).json
    second = client.simulate_get("/v1/links", params={"limit": 2, "after": first["next"]}).json
    assert [link["code"] for link in first["links"] + second["links"]] == ["aaa", "bbb", "ccc"]
    assert second["next"] is None


def test_code_is_taken_once(client: falcon.testing.TestClient) -> None:
    """A code that exists is a conflict, and its link stays."""
    assert client.simulate_post("/v1/links", json={"url": URL, "code": "mine"}).status_code == 201
    again = client.simulate_post("/v1/links", json={"url": "https://other.example", "code": "mine"})
    assert again.status_code == 409
    assert "mine" in _problem(again)
    assert client.simulate_get("/v1/links/mine").json["url"] == URL


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "ftp://example.org"},
        {"url": "javascript:alert(1)"},
        {"url": "https://example.org/\r\nX: y"},
        {"url": "https://example.org/" + "x" * 2048},
        {"url": URL, "code": "a"},
        {"url": URL, "code": "a/b"},
        {"url": URL, "extra": 1},
        [],
        "https://example.org",
    ],
)
def test_bad_link_is_refused(client: falcon.testing.TestClient, body: object) -> None:
    """A body that is no new link is answered 422 with a problem document, and makes none."""
    refused = client.simulate_post("/v1/links", json=body)
    assert refused.status_code == 422
    assert _problem(refused)
    assert client.simulate_get("/v1/links").json["links"] == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("{", "application/json", 400),
        ("x", "text/plain", 415),
        ("[" * 16_000, "application/json", 400),
        ("1" * 20_000, "application/json", 413),
    ],
)
def test_bad_body_is_refused(client: falcon.testing.TestClient, body: str, kind: str, status: int) -> None:
    """Text that is no JSON, of another type, nested too deeply or too long is refused with a problem document."""
    refused = client.simulate_post("/v1/links", body=body, headers={"content-type": kind, "accept": "text/html"})
    assert refused.status_code == status
    assert _problem(refused)


@pytest.mark.parametrize(("headers", "status"), [({}, 400), ({"Transfer-Encoding": "chunked"}, 411)])
def test_body_must_be_there_and_say_its_length(
    client: falcon.testing.TestClient, headers: dict[str, str], status: int
) -> None:
    """None is answered 400, and one in chunks 411."""
    refused = client.simulate_post("/v1/links", headers=headers)
    assert refused.status_code == status
    assert _problem(refused)


def test_limit_covers_all_but_the_health_probe(client: falcon.testing.TestClient) -> None:
    """Past the limit every path is denied, one that is not there included; /healthz never is."""
    for _ in range(50):
        assert client.simulate_get("/v1/ping").status_code == 200
    for path in ("/v1/ping", "/v1/links", "/none"):
        denied = client.simulate_get(path)
        assert (denied.status_code, denied.json["violated-policies"]) == (429, ["default"])
        assert int(denied.headers["retry-after"]) > 0
    assert client.simulate_get("/healthz").status_code == 200
    assert client.simulate_get("/v1/ping", headers={"X-Api-Key": "you"}).status_code == 200
