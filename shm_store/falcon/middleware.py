"""The middleware: takes for a request, answers a denial, and settles when the response is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, get_args

import falcon
import falcon.asgi

from shm_store.errors import ConfigurationError, CostError, StoreError
from shm_store.falcon.requests import FALCON, KeyFunction, client_address
from shm_store.http.arguments import checked_key, checked_paths, checked_quota
from shm_store.http.deciding import Asked, Outcome, decide, tightest
from shm_store.http.error_log import ErrorLog
from shm_store.http.headers import UNAVAILABLE_HEADERS, Headers, denial_headers, limit_headers
from shm_store.http.plan import Plan, planned
from shm_store.http.problems import DEFAULT_POLICY, TEMPORARY_REDUCED_CAPACITY_BODY, quota_exceeded_body
from shm_store.http.rules import Rule, Tally
from shm_store.http.settlement import RequestReservation
from shm_store.limiter import RateLimiter
from shm_store.policy import Policy, RunningPolicies
from shm_store.policy.policy import OnError
from shm_store.quota import LIMIT_MAX, Quota, require_integer
from shm_store.rate_info import RateInfo

_OUTCOMES: Final[dict[OnError, str]] = {
    "allow": "request let through without a limit",
    "deny": "request answered with 503",
}


class RateLimitMiddleware:
    """Takes from the buckets a request is charged to, and answers 429 when one of them is empty.

    Requests for paths that do not exist count too; requests for exempt paths do not, and neither do WebSocket
    handshakes. An allowed request's response, whatever its status, carries `X-RateLimit-Limit`,
    `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds); a denied one is a problem document with `Retry-After`,
    and reaches no resource, and if it was denied before it was routed no later middleware's `process_request`.

    Without `policies` there is one limit, for every request. With them each request is charged to all the policies that
    cover it, or to none: one that is denied by a policy, or answered 503 by `on_error`, costs nothing anywhere.
    Policies with `routes`, or with "route" in their keys, are decided when the request is routed, and so never for
    paths without a route, sinks, static routes and resources that are false; all others are decided before. Have
    middleware that rewrites paths come first.

    In `req.context` a resource finds:

    * `rate_limit`: the RateInfo of the tightest enforced limit, which is what the fields say; of a concurrency limit
      only if it denies. None when no decision was made (exempt, not covered, or the store failed).
    * `rate_limits`: the RateInfo by the name of the policy, those in shadow mode included.
    * `rate_limit_reservation`: what is settled after the response, a RequestReservation to `commit` the true cost to,
      or None. Units in flight end with `process_response`: before the body of a stream is sent.

    Every `StoreError` follows `on_error`, is counted in `errors`, and is logged at most once in ten seconds; but a cost
    above the limit of the client's bucket, which no wait would make room for, is a denial. Whatever
    else `key` raises is left to Falcon's error handlers, `falcon.HTTPError` included.

    An application has one such middleware.

    Args:
        store: Any RateLimiter.
        key: Called with each request; returns the text that names its bucket. Not a coroutine function.
        exempt: Exact paths that are not limited, written as in `req.path` (decoded; no query string).
        quota: Replaces the store's default quota.
        cost: Units that each request takes.
        on_error: "allow" lets requests through without a limit while the store fails; "deny" answers 503.
        policies: Limits with names, in place of `key`, `quota`, `cost` and `on_error`; a list of them, or
            `shm_store.policy.from_file`, which follows the file when gunicorn reloads.

    Raises:
        ConfigurationError: An argument cannot be used; it says which, and what to give instead.
    """

    def __init__(
        self,
        store: RateLimiter,
        *,
        key: KeyFunction = client_address,
        exempt: Iterable[str] = (),
        quota: Quota | None = None,
        cost: int = 1,
        on_error: OnError = "allow",
        policies: Iterable[Policy] | RunningPolicies | None = None,
    ) -> None:
        # The store's `take` is looked up for each request: a store may replace it, after a fork or when it is closed.
        self._store = store
        self._exempt = checked_paths(exempt)
        self._error_log = ErrorLog(logging.getLogger("shm_store.falcon"))
        self._tallies: dict[str, Tally] = {}
        if policies is None:
            self._policies = RunningPolicies()
            rule = _checked_rule(key, quota, cost, on_error)
            self._tallies[rule.name] = rule.tally
            self._plan = Plan(self._policies.current, (rule,), rule)
            return
        for argument, value, default in (
            ("key", key, client_address),
            ("quota", quota, None),
            ("cost", cost, 1),
            ("on_error", on_error, "allow"),
        ):
            if value != default:
                raise ConfigurationError(argument, value, "leave it out: each of the policies has its own")
        self._policies = policies if isinstance(policies, RunningPolicies) else RunningPolicies(policies)
        self._plan = planned(self._policies.current, FALCON, self._tallies)
        # Not methods: Falcon calls what it finds for every request, and without policies they have nothing to do.
        self.process_resource, self.process_resource_async = self._process_resource, self._process_resource_async
        self.process_response, self.process_response_async = self._process_response, self._process_response_async

    @property
    def errors(self) -> dict[str, int]:
        """How many requests met a failing store in this process, by the name of the error's type."""
        return self._error_log.counts

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How the policies have decided in this process: `allowed`, `denied` and `shadow_denied`, by policy."""
        return {name: tally.counts for name, tally in self._tallies.items()}

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take, and complete the response when the take is denied or the store fails with `on_error="deny"`."""
        context = req.context
        context.rate_limit = context.rate_limit_reservation = None
        context.rate_limits = limits = {}
        path = req.path
        if path in self._exempt:
            return
        plan = self._plan
        if plan.source is not self._policies.current:
            plan = self._plan = planned(self._policies.current, FALCON, self._tallies)
        rule = plan.alone
        if plan.late and plan.may_follow(req.method, path):
            self._decide(req, resp, plan.early, hold=True)
            return
        if rule is None:
            self._decide(req, resp, plan.early, hold=False)
            return
        # The same for one rule, in line: a third of the cost.
        try:
            key = rule.key(req)
            if key is None:
                return
            info = self._store.take(key, rule.cost, rule.quota)
        except CostError as error:
            self._log_cost(error)
            info = RateInfo(False, error.limit, 0, 0)
        except StoreError as error:
            self._fail(req, resp, error, deny=rule.deny_on_error)
            return
        context.rate_limit = limits[rule.name] = info
        if info.allowed:
            rule.tally.allowed += 1
            resp.set_headers(limit_headers(info))
        else:
            rule.tally.denied += 1
            _complete(resp, falcon.HTTP_429, denial_headers(info), quota_exceeded_body((rule.name,)))

    async def process_request_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Do the same for ASGI; the take blocks the event loop, for microseconds and at most the store's lock timeout.

        Handing it to a thread would cost many times the take itself.
        """
        self.process_request(req, resp)

    def _process_resource(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Decide by the policies that need the route."""
        rules = self._plan.of_route(req.uri_template)
        if rules and req.path not in self._exempt:
            self._decide(req, resp, rules, hold=False)

    async def _process_resource_async(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, params: dict[str, Any]
    ) -> None:
        self._process_resource(req, resp, resource, params)

    def _process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _req_succeeded: object
    ) -> None:
        """Settle what the request has reserved."""
        # Called even if `process_request` was not, after the one of other middleware has failed or answered.
        reservation = getattr(req.context, "rate_limit_reservation", None)
        if reservation is not None:
            self._settle(lambda: reservation.settle(resp.status_code))

    async def _process_response_async(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: object
    ) -> None:
        self._process_response(req, resp, resource, req_succeeded)

    def _decide(self, req: falcon.Request, resp: falcon.Response, rules: Iterable[Rule], *, hold: bool) -> None:
        asked = self._asked(req, resp, rules)
        try:
            outcome = decide(self._store, asked, hold=hold, on_cost_error=self._log_cost)
        except StoreError as error:
            self._fail(req, resp, error, deny=any(rule.deny_on_error for rule, _ in asked))
            return
        if outcome.decisions and not resp.complete:
            self._answer(req, resp, outcome)

    def _asked(self, req: falcon.Request, resp: falcon.Response, rules: Iterable[Rule]) -> list[Asked]:
        """Return the rules that cover the request; none if one of them has no key and must not let it through."""
        asked = []
        method, path = req.method, req.path
        for rule in rules:
            if rule.covers(method, path):
                try:
                    key = rule.key(req)
                except StoreError as error:
                    self._fail(req, resp, error, deny=rule.deny_on_error)
                    if resp.complete:
                        return []
                else:
                    if key is not None:
                        asked.append(Asked(rule, key))
        return asked

    def _answer(self, req: falcon.Request, resp: falcon.Response, outcome: Outcome) -> None:
        context = req.context
        violated = []
        enforced = [] if context.rate_limit is None else [context.rate_limit]
        for rule, info in outcome.decisions:
            context.rate_limits[rule.name] = info
            rule.tally.count(allowed=info.allowed, shadow=rule.shadow)
            if not rule.shadow and not info.allowed:
                violated.append(rule.name)
            # What is in flight says nothing of the client's quota, unless it is what denies.
            if not rule.shadow and (rule.concurrency is None or not info.allowed):
                enforced.append(info)
        context.rate_limit = tightest(enforced) if enforced else None
        if violated:
            self._release(req)
            headers = denial_headers(context.rate_limit)
            _complete(resp, falcon.HTTP_429, headers, quota_exceeded_body(tuple(violated)))
            return
        if outcome.reservation is not None:
            if context.rate_limit_reservation is None:
                context.rate_limit_reservation = RequestReservation()
            context.rate_limit_reservation.add(outcome.reserved, outcome.reservation)
        if enforced:
            resp.set_headers(limit_headers(context.rate_limit))

    def _release(self, req: falcon.Request) -> None:
        """Give back what was taken before the route was known, for a request that is not served."""
        reservation = req.context.rate_limit_reservation
        if reservation is not None:
            req.context.rate_limit_reservation = None
            self._settle(reservation.refund)

    def _settle(self, settle: Callable[[], None]) -> None:
        try:
            settle()
        except StoreError as error:
            self._error_log.record(error, "units not given back")

    def _log_cost(self, error: CostError) -> None:
        # The store works, and its answer is that no wait makes room: denied, whatever `on_error` says.
        self._error_log.record(error, "request denied")

    def _fail(self, req: falcon.Request, resp: falcon.Response, error: StoreError, *, deny: bool) -> None:
        self._error_log.record(error, _OUTCOMES["deny" if deny else "allow"])
        if deny:
            self._release(req)
            _complete(resp, falcon.HTTP_503, UNAVAILABLE_HEADERS, TEMPORARY_REDUCED_CAPACITY_BODY)


def _complete(resp: falcon.Response, status: str, headers: Headers, body: bytes) -> None:
    """Answer at once; raising an HTTPError instead would cost three times as much and negotiate the body away."""
    resp.status = status
    resp.set_headers(headers)
    resp.data = body
    resp.complete = True


def _checked_rule(key: KeyFunction, quota: Quota | None, cost: int, on_error: OnError) -> Rule:
    """Return the one rule of a middleware without policies."""
    checked_key(key)
    checked_quota(quota)
    require_integer("cost", cost, 1, LIMIT_MAX if quota is None else quota.terms.burst)
    if on_error not in get_args(OnError):
        raise ConfigurationError("on_error", on_error, f"choose one of {', '.join(get_args(OnError))}")
    return Rule(DEFAULT_POLICY, Tally(), key, cost, quota, deny_on_error=on_error == "deny")
