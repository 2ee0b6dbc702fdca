"""Policies: what they refuse, what a TOML file of them may say, and which are running."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from shm_store import Concurrency, ConfigurationError, Quota
from shm_store.policy import Policy, RunningPolicies, from_file, load, loads
from tests.ids import shown


async def coroutine(req: object) -> str:
    return f"never awaited for {req}"


@pytest.mark.parametrize(
    ("fields", "field", "value"),
    [
        ({"quota": "fast"}, "quota", "fast"),
        ({"quota": "0/s"}, "limit", 0),
        ({"quota": "5/never"}, "interval", "never"),
        ({"quota": 5}, "quota", 5),
        ({"quota": None}, "quota", None),
        ({"concurrency": 5}, "quota", "5/s"),
        ({"quota": None, "concurrency": 0}, "concurrency", 0),
        ({"quota": None, "concurrency": True}, "concurrency", True),
        ({"quota": None, "concurrency": 2, "cost": 3}, "cost", 3),
        ({"quota": None, "concurrency": 2, "burst": 3}, "burst", 3),
        ({"quota": None, "concurrency": 2, "algorithm": "token-bucket"}, "algorithm", "token-bucket"),
        ({"quota": None, "concurrency": 2, "refund": ["5xx"]}, "refund", ["5xx"]),
        ({"algorithm": "magic"}, "algorithm", "magic"),
        ({"algorithm": ["token-bucket"]}, "algorithm", ["token-bucket"]),
        ({"burst": 3}, "burst", 3),
        ({"quota": Quota(5, 1), "algorithm": "token-bucket"}, "algorithm", "token-bucket"),
        ({"quota": Quota(5, 1), "burst": 5}, "burst", 5),
        ({"cost": 0}, "cost", 0),
        ({"cost": 6}, "cost", 6),
        ({"cost": "1"}, "cost", "1"),
        ({"methods": "GET"}, "methods", "GET"),
        ({"methods": ["get"]}, "methods", "get"),
        ({"methods": [5]}, "methods", 5),
        ({"methods": 5}, "methods", 5),
        ({"routes": ["v1"]}, "routes", "v1"),
        ({"routes": "/v1"}, "routes", "/v1"),
        *(
            ({field: bad}, field, value)
            for field in ("paths", "exempt")
            for bad, value in (
                ("/a", "/a"),
                (b"/a", b"/a"),
                (None, None),
                (5, 5),
                (["/a", "healthz"], "healthz"),
                (["*"], "*"),
                ([""], ""),
                ([b"/a"], b"/a"),
                ([None], None),
            )
        ),
        ({"paths": ["/a//b"]}, "paths", "/a//b"),
        ({"exempt": ["/%41"]}, "exempt", "/%41"),
        ({"paths": ["/a"], "ignore_case": "yes"}, "ignore_case", "yes"),
        ({"ignore_case": True}, "ignore_case", True),
        ({"mode": "dry"}, "mode", "dry"),
        ({"mode": ["shadow"]}, "mode", ["shadow"]),
        ({"on_error": "ignore"}, "on_error", "ignore"),
        ({"refund": ["6xx"]}, "refund", "6xx"),
        ({"refund": [99]}, "refund", 99),
        ({"refund": [True]}, "refund", True),
        ({"refund": "2xx"}, "refund", "2xx"),
        ({"refund": 200}, "refund", 200),
        ({"key": "client"}, "key", "client"),
        *(({"absent": value}, "absent", value) for value in ("deny", "", None, True, 1, ["skip"])),
        ({"key": None}, "key", None),
        ({"key": []}, "key", []),
        ({"key": ["route"]}, "key", ["route"]),
        ({"key": ["client", "header:X-Api-Key"]}, "key", ["client", "header:X-Api-Key"]),
        ({"key": ["global", "client"]}, "key", ["global", "client"]),
        ({"key": ["global", "header:X-Api-Key"]}, "key", ["global", "header:X-Api-Key"]),
        ({"key": ["client", "client"]}, "key", ["client", "client"]),
        ({"key": ["header:"]}, "key", "header:"),
        ({"key": ["header:X Key"]}, "key", "header:X Key"),
        ({"key": ["ip"]}, "key", "ip"),
        ({"key": [5]}, "key", 5),
        ({"key": [["client"]]}, "key", ["client"]),
        ({"key": [coroutine]}, "key", coroutine),
    ],
    ids=shown,
)
def test_policy_refuses_a_bad_value(fields: dict[str, Any], field: str, value: object) -> None:
    """The error is one line that names the policy, the field, the value and a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        Policy(**{"name": "burst", "quota": "5/s", **fields})
    assert (caught.value.setting, caught.value.value) == (f"policy 'burst': {field}", value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["", "a:b", "a b", "é", "a\n", "x" * 65, 5, None])
def test_policy_refuses_a_bad_name(name: object) -> None:
    """A name can begin a key and stand in a header field."""
    with pytest.raises(ConfigurationError) as caught:
        Policy(name=name, quota="5/s")  # type: ignore[arg-type]
    assert (caught.value.setting, caught.value.value) == ("policy: name", name)


def test_policy_is_one_value_however_it_is_written() -> None:
    """Text and Quota, list and tuple make equal policies."""
    text = Policy(name="p", quota="20/second", key=["client", "route"], methods=["GET"], refund=["5xx", 404])
    made = Policy(name="p", quota=Quota(20, 1), key=("client", "route"), methods=("GET",), refund=("5xx", 404))
    assert text == made
    covering = Policy(name="p", quota="5/s", paths=["/a", "/b/*"], exempt=["/b/c"])
    assert covering == Policy(name="p", quota="5/s", paths=("/a", "/b/*"), exempt=("/b/c",))
    assert text.limit == Quota(20, 1)
    assert Policy(name="p", concurrency=3).limit == Concurrency(3)


def test_policy_refund_names_classes_and_single_statuses() -> None:
    """`5xx` is every status from 500 to 599."""
    assert Policy(name="p", quota="5/s", refund=["5xx", 404]).refunded == {404, *range(500, 600)}
    assert Policy(name="p", quota="5/s").refunded == frozenset()


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, False),
        ({"paths": ["/a", "/b/*"]}, False),
        ({"methods": ["GET"]}, False),
        ({"routes": ["/"]}, True),
        ({"key": ["client", "route"]}, True),
    ],
)
def test_policy_knows_whether_it_needs_the_route(fields: dict[str, Any], needs: bool) -> None:  # noqa: FBT001 - a table
    """Only its routes and a key with the route make it wait for the router."""
    assert Policy(**{"name": "p", "quota": "5/s", **fields}).needs_route is needs


def test_loads_reads_every_field() -> None:
    """A table says all that the constructor takes."""
    (policy,) = loads(
        textwrap.dedent("""
        [[policy]]
        name = "log-in"
        quota = "5/minute"
        algorithm = "token-bucket"
        key = ["header:X-User", "client", "route", "method"]
        absent = "skip"
        cost = 2
        methods = ["POST"]
        routes = ["/v1/login"]
        paths = ["/v1/login", "/v2/*"]
        exempt = ["/v1/login", "/v2/static/*"]
        mode = "shadow"
        on_error = "deny"
        refund = ["2xx", 302]
        """)
    )
    assert policy == Policy(
        name="log-in",
        quota="5/minute",
        key=["header:X-User", "client", "route", "method"],
        absent="skip",
        cost=2,
        methods=["POST"],
        routes=["/v1/login"],
        paths=["/v1/login", "/v2/*"],
        exempt=["/v1/login", "/v2/static/*"],
        mode="shadow",
        on_error="deny",
        refund=["2xx", 302],
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[[policies]]\n", ["policies", "did you mean policy"]),
        ("limit = 5\n", ["limit is 5", "choose one of policy"]),
        ('[policy]\nname = "a"\n', ["policy is", "[[policy]]"]),
        ("policy = 5\n", ["policy is 5", "[[policy]]"]),
        ("policy = [1]\n", ["policy is [1]", "[[policy]]"]),
        ('[[policy]]\nquota = "5/s"\n', ["policy 1: name", "None"]),
        ('[[policy]]\nname = "a"\nquotta = "5/s"\n', ["policy 'a': quotta is '5/s'", "did you mean quota"]),
        ('[[policy]]\nname = "a"\nquota = "5/s"\ncost = "2"\n', ["policy 'a': cost is '2'", "integer"]),
        ('[[policy]]\nname = 7\nquota = "5/s"\n', ["name is 7"]),
        (2 * '[[policy]]\nname = "a"\nquota = "5/s"\n', ["policy 'a': name", "two"]),
    ],
)
def test_loads_refuses_a_bad_document(text: str, parts: list[str]) -> None:
    """A misspelt key, a wrong type, a missing or a second name is one line that says where and what."""
    with pytest.raises(ConfigurationError) as caught:
        loads(text)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"), [(b"[[policy", "not TOML"), (b"\xff", "not TOML in UTF-8"), (None, "No such file")]
)
def test_load_refuses_a_bad_file(tmp_path: Path, content: bytes | None, part: str) -> None:
    """A file that is not there, or no TOML, is one line with its path."""
    path = tmp_path / "limits.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=part) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def _write(path: Path, *names: str) -> None:
    path.write_text("".join(f'[[policy]]\nname = "{name}"\nquota = "5/s"\n' for name in names))


def _names(policies: RunningPolicies) -> list[str]:
    return [policy.name for policy in policies.current]


def test_from_file_reads_once_and_reloads_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited file changes nothing until `reload`, even for a second caller with another spelling of the path."""
    path = tmp_path / "limits.toml"
    _write(path, "one")
    policies = from_file(path)
    _write(path, "two")
    monkeypatch.chdir(tmp_path)
    assert from_file("limits.toml") is policies
    assert _names(policies) == ["one"]
    policies.reload()
    assert _names(policies) == ["two"]


def test_reload_of_a_bad_file_keeps_what_runs(tmp_path: Path) -> None:
    """A file with one bad policy replaces none."""
    path = tmp_path / "limits.toml"
    _write(path, "one")
    policies = from_file(path)
    before = policies.current
    _write(path, "two", "b a d")
    with pytest.raises(ConfigurationError):
        policies.reload()
    assert policies.current is before


def test_running_policies_refuse_two_of_one_name() -> None:
    """They would share their buckets."""
    policy = Policy(name="p", quota="5/s")
    running = RunningPolicies([policy])
    with pytest.raises(ConfigurationError, match="two"):
        running.replace([policy, policy])
    assert running.current == (policy,)


@pytest.mark.parametrize("policies", ["p", 5, [5], Policy(name="p", quota="5/s")])
def test_running_policies_refuse_what_is_none(policies: Any) -> None:  # noqa: ANN401 - anything but policies
    """Only a collection of policies can run."""
    with pytest.raises(ConfigurationError, match="Policy"):
        RunningPolicies(policies)
