"""Asks the service in process, as an operator and as a client, and reads what comes back."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import falcon.testing

TOKEN: Final = "a-token-of-the-tests"  # noqa: S105 - guards a table of a test
RIGHT: Final = f"Bearer {TOKEN}"
CLIENT: Final = "203.0.113.7"
KEY: Final = f"default:client:{CLIENT}"
Ask: TypeAlias = Callable[..., falcon.testing.Result]
MakeApp: TypeAlias = Callable[..., Any]


def asking(app: object) -> Ask:
    client = falcon.testing.TestClient(app)  # type: ignore[arg-type]  # its own type is not public

    def ask(method: str, path: str, *, token: str | None = RIGHT, client_is: str = CLIENT, **how: Any) -> Any:  # noqa: ANN401 - as simulate_request takes and gives it
        # Of ASGI, Falcon's test client names the peer in a form that no server does.
        headers = {"X-Forwarded-For": client_is} | ({} if token is None else {"Authorization": token})
        return client.simulate_request(
            method, path, headers=headers | how.pop("headers", {}), remote_addr="127.0.0.1", **how
        )

    return ask


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
