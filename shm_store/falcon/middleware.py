"""The middleware: it has each request decided before routing, writes the response fields, and settles afterwards."""

from __future__ import annotations

import logging
from typing import Any, Final, Protocol, Unpack

import falcon
import falcon.asgi

from shm_store.core.limiter import RateLimiter
from shm_store.errors import ConfigurationTypeError
from shm_store.falcon.marks import marked_policies, marks_of, needs_router
from shm_store.falcon.requests import FALCON
from shm_store.falcon.startup import Startup, application_of, has_no_route, router_of, told
from shm_store.http.options import Options
from shm_store.http.outcome import OUTCOME, UNLIMITED, Outcome
from shm_store.http.report import Report
from shm_store.http.request_limiter import RequestLimiter
from shm_store.http.starting import starting
from shm_store.policy import Policy

_WsgiRequest: Final = falcon.Request
_AsgiRequest: Final = falcon.asgi.Request
_OTHER_ROUTER: Final = (
    "router= is not this application's: policies with routes and marked responders are not enforced; "
    "give falcon.App the same router"
)


class Router(Protocol):
    """The method of a Falcon router that the middleware calls: of `DefaultRouter`, or of the application's own."""

    def find(self, uri: str, req: Any = None) -> Any:  # noqa: ANN401 - as Falcon declares it
        """Return resource, responders by method, parameters and template; None if there is no route."""
        ...


class RateLimitMiddleware(Report):
    """Takes from the buckets a request is charged to, and answers 429 when one of them is empty.

    Each request is charged to all the policies that cover it, or to none. A request that a policy denies, or that is
    answered 503, costs nothing. It reaches no resource, and no `process_request` of later middleware.
    Requests for paths without a route, for sinks and for static routes count like all others. WebSocket handshakes do
    not. Have middleware that rewrites paths come first. Give each application a middleware of its own.

    In `req.context.rate_limit` a resource finds the Outcome: the `info` of the tightest limit, the `infos` of all, and
    the `reservation` to commit the true cost to, if one of the policies has `refund`. Units in flight end with
    `process_response`: before the response is sent, and whether or not the client is still there.

    Args:
        store: Any RateLimiter.
        router: The application's router, for policies with routes and for responders with `@limit` or `@exempt`:
            `router = DefaultRouter()`, `falcon.App(router=router, middleware=[RateLimitMiddleware(store,
            router=router)])`. Without it policies with routes, or with "route" in their keys, are decided once the
            request is routed, and the units that others took are refunded if they deny. Each request asks the router
            twice, converters included.
        options: See `shm_store.http.options.Options`.

    Raises:
        ConfigurationError: An argument cannot be used; the error names it and the remedy.
    """

    def __init__(self, store: RateLimiter, *, router: Router | None = None, **options: Unpack[Options]) -> None:
        # Bytes and many other values have a method `find`.
        finds = (callable(getattr(router, name, None)) for name in ("find", "add_route"))
        if router is not None and (isinstance(router, type) or not all(finds)):
            raise ConfigurationTypeError("router", router, "give the router that falcon.App has, e.g. DefaultRouter()")
        super().__init__(RequestLimiter(store, FALCON, tuple if router is None else marked_policies, **options))
        self._router = router
        self._decide = self._limiter.deciding.decide
        self._policies = self._limiter.policies
        self._startup = Startup(self._policies)
        # Whose routes were checked when a request came.
        self._checked: tuple[Policy, ...] | None = None
        if router is None and (message := needs_router(self)):
            logging.getLogger("shm_store.falcon").error("%s", message)
        starting.add(self)
        # Under which it finds its own outcome again, whatever other middleware of the application has decided since.
        self._own = f"_rate_limit_{id(self)}"
        # Not methods: Falcon calls what it finds for every request, and nearly always they would have nothing to do.
        self._settles = router is not None or self._limiter.may_settle
        if router is None and self._limiter.may_need_routes:
            self.process_resource, self.process_resource_async = self._process_resource, self._process_resource_async
        if self._settles:
            self.process_response, self.process_response_async = self._process_response, self._process_response_async

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Decide, and complete the response of a request that is not to be served."""
        # `isinstance` of what it is not takes five times as long.
        carrier = req.scope if type(req) is not _WsgiRequest and isinstance(req, _AsgiRequest) else req.env
        outer = carrier.get(OUTCOME)
        before = UNLIMITED if outer is None else self._limiter.nested.inherited(outer)
        if self._router is None:
            outcome = self._decide(req, req.method, req.path, before)
        else:
            outcome = self._decide_at(self._router, req, before)
        carrier[OUTCOME] = outcome
        if self._settles:
            _keep(req, self._own, outcome)
        # In line: see `_keep`.
        try:
            req.context.rate_limit = outcome
        except AttributeError:
            req.context["rate_limit"] = outcome
        if outcome.answer is None:
            resp._headers |= outcome.headers  # noqa: SLF001 - see `_tell`
        else:
            _tell(resp, outcome)

    async def process_request_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Do the same for ASGI; a take blocks the event loop, for microseconds and at most the store's lock timeout.

        Handing it to a thread would cost many times the take itself.
        """
        self.process_request(req, resp)

    def _decide_at(self, router: Router, req: falcon.Request, before: Outcome) -> Outcome:
        """Decide with the route and the responder known, which Falcon itself looks for only afterwards."""
        found = _found(router, req)
        if found is None or found[0] is None:
            return self._limiter.decide_at(req, req.method, req.path, None, None, before=before)
        _, responders, _, *template = found
        req.uri_template = template[0] if template else None
        marks = marks_of(responders.get(req.method))
        if marks is not None and marks.exempt:
            return before
        return self._limiter.decide_at(req, req.method, req.path, req.uri_template, marks, before=before)

    async def process_startup(self, _scope: dict[str, Any], _event: dict[str, Any]) -> None:
        """Log routes and methods of policies that the application does not have, when an ASGI server starts it."""
        if self._router is not None:
            self._startup.check(self._router)

    def at_start(self, app: object, log: logging.Logger) -> None:
        """Log the same, and a router that is missing or another, when a server's hook has the complete application.

        See `Starting.at_start`. The application may be wrapped in others.
        """
        found = application_of(app, self)
        router = None if found is None else router_of(found)
        if self._router is not None:
            self._startup.check(self._router, log)
            # A router of the application's own may pass the calls on to the one that it has.
            if router is not None and router is not self._router and has_no_route(self._router):
                self._checked = self._policies.current
                told(log).error(_OTHER_ROUTER)
            return
        if told(log) is log and (message := needs_router(self)):
            log.error("%s", message)
        if router is not None:
            self._startup.check(router, log)

    def _check(self, router: Router, req: falcon.Request) -> None:
        self._checked = self._policies.current
        self._startup.check(router)
        # Another router than the application's finds no routes, and nothing that depends on them would be enforced.
        if _found(router, req) is None:
            logging.getLogger("shm_store.falcon").error(_OTHER_ROUTER)

    def _process_resource(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Decide by the policies that need the route."""
        before = _kept(req, self._own) or UNLIMITED
        outcome = self._limiter.decide_late(req, req.method, req.path, req.uri_template, before)
        if outcome is not before:
            carrier = req.scope if isinstance(req, _AsgiRequest) else req.env
            carrier[OUTCOME] = outcome
            _keep(req, self._own, outcome)
            _keep(req, "rate_limit", outcome)
            _tell(resp, outcome)

    async def _process_resource_async(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, Any]
    ) -> None:
        self._process_resource(req, resp, resource, params)

    def _process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _req_succeeded: object
    ) -> None:
        """Settle what the request has reserved."""
        if self._router is not None and self._checked is not self._policies.current and resource is not None:
            self._check(self._router, req)
        # Called even if `process_request` was not, after the one of other middleware has failed or answered.
        outcome = _kept(req, self._own)
        if outcome is not None and outcome.reservation is not None:
            self._limiter.settle(outcome, resp.status_code)

    async def _process_response_async(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: object
    ) -> None:
        self._process_response(req, resp, resource, req_succeeded)


def _found(router: Router, req: falcon.Request) -> Any:  # noqa: ANN401 - as Falcon declares it
    try:
        return router.find(req.path, req=req)
    except Exception:  # noqa: BLE001 - Falcon meets it again when it routes the request, and answers it
        return None


def _tell(resp: falcon.Response, outcome: Outcome) -> None:
    """Tell the client the outcome."""
    answer, fields = outcome.answer, outcome.headers
    if answer is not None:
        # Raising an HTTPError would cost three times as much, and negotiate the body away.
        resp.status, resp.data, resp.complete, fields = answer.status, answer.body, True, answer.headers
    # `set_headers` looks at each name for capitals and cookies: 140 ns each, several times what it costs to make one.
    resp._headers |= fields  # noqa: SLF001 - see above


def _keep(req: falcon.Request, name: str, outcome: Outcome) -> None:
    try:
        setattr(req.context, name, outcome)
    except AttributeError:
        # An application may have a dict for its context.
        req.context[name] = outcome


def _kept(req: falcon.Request, name: str) -> Outcome | None:
    context: Any = req.context
    outcome: Outcome | None = getattr(context, name, None)
    return context.get(name) if outcome is None and isinstance(context, dict) else outcome
