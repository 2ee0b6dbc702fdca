"""The policies that the service is shipped with, for WSGI and ASGI."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import falcon.testing
import msgspec
import pytest

from service.app.conf import SettingError, Settings, load
from service.app.construct import asgi, wsgi
from tests.segments import attached

URL = "https://example.org/"
ADDRESS = "203.0.113.7"
HERE = f"client:{ADDRESS}"


@pytest.fixture(params=[wsgi, asgi], ids=["wsgi", "asgi"])
def client(request: pytest.FixtureRequest, segment_name: str, tmp_path: Path) -> falcon.testing.TestClient:
    settings = Settings(
        store=f"shm://{segment_name}", initial_size=128, limit=1000, database=str(tmp_path / "links.sqlite3")
    )
    _, *policies = load({}, {}).policies
    return falcon.testing.TestClient(request.param(msgspec.json.encode(settings).decode(), policies))


@pytest.fixture
def buckets(client: falcon.testing.TestClient, segment_name: str) -> Callable[[str], int]:  # noqa: ARG001 - makes them
    """How many units a bucket misses."""

    def spent(key: str) -> int:
        with attached(segment_name) as store:
            limit, remaining = store.get(key)
        return limit - remaining

    return spent


def test_ping_is_charged_to_the_default_policy_alone(
    client: falcon.testing.TestClient, buckets: Callable[[str], int], segment_name: str
) -> None:
    """The limit of the settings is all there is for the cheapest request."""
    assert client.simulate_get("/v1/ping", remote_addr=ADDRESS).headers["x-ratelimit-limit"] == "1000"
    assert buckets(f"default:{HERE}") == 1
    with attached(segment_name) as store:
        assert store.stats().occupied == 1


def test_links_are_made_thirty_a_minute(client: falcon.testing.TestClient, buckets: Callable[[str], int]) -> None:
    """The one too many is denied by `create`, and charged to no other policy."""
    results = [client.simulate_post("/v1/links", json={"url": URL}, remote_addr=ADDRESS) for _ in range(31)]
    assert [result.status_code for result in results] == [201] * 30 + [429]
    assert results[-1].json["violated-policies"] == ["create"]
    assert (buckets(f"default:{HERE}"), buckets(f"writes:{HERE}")) == (30, 30)


def test_links_are_followed_in_bursts_of_forty(
    client: falcon.testing.TestClient, buckets: Callable[[str], int]
) -> None:
    """A client may follow forty at once."""
    first = client.simulate_get("/r/none", remote_addr=ADDRESS)
    assert (first.status_code, first.headers["x-ratelimit-limit"]) == (404, "40")
    assert {client.simulate_get("/r/none", remote_addr=ADDRESS).status_code for _ in range(39)} == {404}
    assert buckets(f"default:{HERE}") == 40


def test_writes_in_shadow_mode_deny_nobody(client: falcon.testing.TestClient, segment_name: str) -> None:
    """A client that has used up `writes` is served as before."""
    with attached(segment_name) as store:
        store.set("writes:header:x-api-key:me", 1, "1h")
    results = [client.simulate_delete("/v1/links/none", headers={"X-Api-Key": "me"}) for _ in range(3)]
    assert [result.status_code for result in results] == [404] * 3


def test_file_has_settings_and_policies(tmp_path: Path) -> None:
    """Both are read from one file; the policy of the settings comes first."""
    path = tmp_path / "service.toml"
    path.write_text('limit = 7\nkey_header = "X-Api-Key"\n[[policy]]\nname = "more"\nquota = "5/s"\n')
    loaded = load({"config": str(path)}, {})
    assert [policy.name for policy in loaded.policies] == ["default", "more"]
    assert loaded.policies[0].key == ("header:X-Api-Key", "client")
    assert (loaded.settings.limit, loaded.file) == (7, str(path))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[[policy]]\nname = "p"\nquota = "fast"\n', r"policy 'p': quota is 'fast' \(file .*service.toml\)"),
        ('[[policy]]\nname = "default"\nquota = "5/s"\n', "policy of limit and interval"),
        ("policy = 5\n", r"\[\[policy\]\]"),
        ("[[polcy]]\n", "did you mean policy"),
    ],
)
def test_bad_policy_is_named_with_its_file(tmp_path: Path, text: str, part: str) -> None:
    """A bad policy stops the start as a bad setting does, with one line."""
    path = tmp_path / "service.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=part) as caught:
        load({"config": str(path)}, {})
    assert "\n" not in str(caught.value)


def test_named_file_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    """The shipped policies hold only where no file is named."""
    path = tmp_path / "service.toml"
    path.touch()
    assert [policy.name for policy in load({}, {"SERVICE_CONFIG": str(path)}).policies] == ["default"]
    assert len(load({}, {}).policies) == 5


def test_command_line_shows_the_policies() -> None:
    """`config` tells of every policy, for people and for programs."""
    shown = [
        subprocess.run(
            [sys.executable, "-m", "service", "config", *more], capture_output=True, text=True, check=True
        ).stdout
        for more in ([], ["--json"])
    ]
    assert "10 in flight" in shown[0]
    assert [policy["name"] for policy in json.loads(shown[1])["policies"]] == [
        "default",
        "burst",
        "create",
        "writes",
        "in-flight",
    ]
