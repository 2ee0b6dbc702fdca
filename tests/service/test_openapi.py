"""The description of the service, and that the service is as it says: schemathesis asks everything in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import falcon.testing
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from service.app.api.openapi import document
from service.app.api.openapi.operations import PATHS
from shm_store import ShmStore
from tests.segments import attached
from tests.service.asking import TOKEN, MakeApp

# The boundaries of each schema are worked out while tests are collected, which takes its time in every process.
_FULL: Final = "EXAMPLES" in os.environ
_EXAMPLES: Final = 20
_OPERATORS: Final = {"/dashboard", "/admin/status", "/admin/limits", "/admin/limits/{key}", "/admin/blocks/{key}"}
_SERVED: Final = sorted(PATHS)
_SCHEMA: Final = schemathesis.openapi.from_dict(
    document(_SERVED),
    config=SchemathesisConfig.from_dict(
        {
            "generation": {"deterministic": True, "max-examples": _EXAMPLES},
            "phases": {"coverage": {"enabled": _FULL}},
            "checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 404, 405, 413, 415, 422]}},
        }
    ),
)
# Schemathesis knows URIs of every kind; links lead to those of the web.
schemathesis.openapi.format(
    "uri", st.from_regex(r"https?://[a-z0-9.-]{1,50}(:[1-9][0-9]{0,3})?/[!-~]{0,200}", fullmatch=True)
)


class _Asked(NamedTuple):
    """A service that gets requests, and its table."""

    app: Any
    store: ShmStore


@pytest.fixture
def asked(make_app: MakeApp, segment_name: str) -> Iterator[_Asked]:
    app = make_app(limit=1_000_000, unknown_clients="share")
    with attached(segment_name) as store:
        yield _Asked(app, store)


@_SCHEMA.parametrize()
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_service_is_as_described(case: schemathesis.Case[Any], asked: _Asked) -> None:
    """Each operation answers every request, by its schema or against it, as the description says."""
    # Each case comes from the same client, and probes with wrong tokens as well.
    asked.store.reset_all()
    case.operation.schema.app = case.operation.app = asked.app
    is_guarded = "security" in case.operation.definition.raw
    case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"} if is_guarded else None)


def test_description_is_of_what_is_served(make_app: MakeApp) -> None:
    """The document has every path that is served; those of operators only where they are served."""
    said = falcon.testing.simulate_get(make_app(), "/openapi.json").json
    assert said == json.loads(msgspec.json.encode(document(_SERVED)))
    without = falcon.testing.simulate_get(make_app(admin_token=None), "/openapi.json").json
    assert said["paths"].keys() - without["paths"].keys() == _OPERATORS


def test_description_names_what_is_guarded() -> None:
    """All that is under /admin needs the token, and nothing else does; limited operations describe a denial."""
    described = document(_SERVED)
    for path, item in described["paths"].items():
        for method in item.keys() - {"parameters"}:
            assert ("security" in item[method]) == path.startswith("/admin"), path
    denial = described["components"]["responses"]["TooManyRequests"]
    assert denial["headers"].keys() == {"RateLimit-Policy", "RateLimit", "Retry-After"}
    assert described["paths"]["/v1/ping"]["get"]["responses"]["429"] == {
        "$ref": "#/components/responses/TooManyRequests"
    }
