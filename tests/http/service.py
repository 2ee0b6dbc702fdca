"""A small application, WSGI or ASGI, behind the middleware under test, and a client of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import falcon.asgi
import falcon.testing
from falcon.routing import DefaultRouter

from shm_store.falcon import Outcome

CLIENT: Final = "203.0.113.7"
PATHS: Final = ("/v1/ping", "/healthz", "/healthz/")
ROUTES: Final = ("/", "/links", "/links/{code}", "/export")


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


class Seen:
    """Middleware that keeps what was decided on the last request, denied or not."""

    def __init__(self) -> None:
        self.outcome = Outcome()

    def process_response(self, req: falcon.Request, *_: object) -> None:
        self.outcome = req.context.rate_limit

    async def process_response_async(self, req: falcon.Request, *_: object) -> None:
        self.process_response(req)


class Handler:
    """Answers GET, POST and DELETE with whatever `act` makes of the response."""

    def __init__(self) -> None:
        self.act: Callable[[falcon.Request, falcon.Response], None] = lambda _req, _resp: None

    def on_get(self, req: falcon.Request, resp: falcon.Response, **_: str) -> None:
        self.act(req, resp)

    on_post = on_delete = on_get


class AsyncHandler:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **_: str) -> None:
        self._handler.act(req, resp)

    on_post = on_delete = on_get


class Routed:
    """One handler at several routes, behind the given middleware."""

    def __init__(
        self,
        kind: str,
        *middleware: Any,  # noqa: ANN401 - see above
        independent: bool = True,
        router: DefaultRouter | None = None,
    ) -> None:
        self.handler = Handler()
        self.app: Any
        how: dict[str, Any] = {"middleware": list(middleware), "independent_middleware": independent, "router": router}
        if kind == "asgi":
            self.app = falcon.asgi.App(request_type=ServedRequest, **how)
        else:
            self.app = falcon.App(**how)
        for route in ROUTES:
            self.app.add_route(route, AsyncHandler(self.handler) if kind == "asgi" else self.handler)
        self._client = falcon.testing.TestClient(self.app)

    def ask(
        self, path: str = "/links", *, method: str = "GET", address: str | None = CLIENT, **headers: str
    ) -> falcon.testing.Result:
        """Send a request; `headers` by their names with `_` for `-`."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.simulate_request(method, path, headers=fields, remote_addr=address)

    def statuses(self, requests: int, path: str = "/links", **how: Any) -> list[int]:  # noqa: ANN401 - as `ask` takes it
        return [self.ask(path, **how).status_code for _ in range(requests)]
