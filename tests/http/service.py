"""A small application, WSGI or ASGI, behind the middleware under test, and a client of it."""

from __future__ import annotations

from typing import Any, Final

import falcon.asgi
import falcon.testing

CLIENT: Final = "203.0.113.7"
PATHS: Final = ("/v1/ping", "/healthz", "/healthz/")


class Visits:
    """Counts the requests that reach it, and keeps the decision that the last one carried."""

    def __init__(self) -> None:
        self.count = 0
        self.rate_limit: object = "no request yet"

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.count += 1
        self.rate_limit = req.context.rate_limit
        resp.text = "pong"

    on_head = on_get


class AsyncVisits:
    def __init__(self, visits: Visits) -> None:
        self._visits = visits

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self._visits.on_get(req, resp)

    on_head = on_get


class ServedRequest(falcon.asgi.Request):
    """Has its `client` as every ASGI server gives it, a tuple, where falcon.testing gives a one-shot iterator."""

    def __init__(self, scope: dict[str, Any], *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they are
        if "client" in scope:
            scope["client"] = tuple(scope["client"])
        super().__init__(scope, *args, **kwargs)


class Service:
    """One counting resource at each of PATHS, behind the given middleware."""

    def __init__(self, kind: str, *middleware: Any) -> None:  # noqa: ANN401 - any of Falcon's middleware protocols
        self.visits = Visits()
        self.app: Any
        if kind == "asgi":
            self.app = falcon.asgi.App(request_type=ServedRequest, middleware=list(middleware))
        else:
            self.app = falcon.App(middleware=list(middleware))
        for path in PATHS:
            self.app.add_route(path, AsyncVisits(self.visits) if kind == "asgi" else self.visits)
        self._client = falcon.testing.TestClient(self.app)

    def ask(
        self,
        path: str = "/v1/ping",
        *,
        method: str = "GET",
        address: str | None = CLIENT,
        headers: dict[str, str] | None = None,
    ) -> falcon.testing.Result:
        return self._client.simulate_request(method, path, headers=headers, remote_addr=address)
