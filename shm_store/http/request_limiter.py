"""RequestLimiter: what the middleware of every framework does, short of reading and writing HTTP."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from shm_store.core.limiter import Bookkeeping, RateLimiter
from shm_store.core.tally import RequestTally, Tally
from shm_store.core.validation import require_flag, require_function, require_instance, require_store
from shm_store.errors import ConfigurationError
from shm_store.http.answering import Answering
from shm_store.http.client.clients import Clients
from shm_store.http.deciding import Deciding, has_room
from shm_store.http.denial_log import DenialLog
from shm_store.http.error_log import ErrorLog
from shm_store.http.nesting import Nested
from shm_store.http.options import (
    CLIENT_KEY,
    KeyFunction,
    checked_clients,
    checked_deny,
    checked_headers,
    checked_methods,
    default_policy,
    refuse_beside_policies,
)
from shm_store.http.outcome import UNLIMITED, Outcome
from shm_store.http.planning.framework import Framework
from shm_store.http.planning.plan import Further, RunningPlan
from shm_store.http.planning.rulesets import covering
from shm_store.http.responses.answers import Deny
from shm_store.http.responses.headers import Headers
from shm_store.policy import Policy, RunningPolicies, coverage, key_specification, paths, require_countable
from shm_store.policy.key_specification import Source
from shm_store.policy.policy import Absent, OnError
from shm_store.quota import Quota

# Each request that a policy covers is in one of these.
_OUTCOMES: Final = ("allowed", "denied", "overruled", "shadow_denied", "errors")
#: All of this process, for a check when a server starts.
limiters: Final[weakref.WeakSet[RequestLimiter]] = weakref.WeakSet()


class RequestLimiter:
    """Decides on the requests of one application.

    Every `StoreError` is counted in `errors`, and logged at most once in ten seconds. A store that fails follows
    `on_error`; what the request itself can cause, by `StoreError.is_failure`, is answered 503. A cost above the limit
    of the client's bucket, which no wait would make room for, is a denial. Whatever else a function of the application
    raises is left to the application.

    Attributes:
        may_need_routes: Whether a policy needs the route, or may come to need it, as the policies may be replaced.
        may_settle: Whether a request may have units to settle, or units that are reserved until it is routed.
        nested: The limiter among others that a request meets.
        deciding: Decides as this does, with one call fewer for each request.
    """

    def __init__(
        self,
        store: RateLimiter,
        framework: Framework,
        further: Callable[[], Iterable[Policy]] = tuple,
        *,
        key: KeyFunction | Sequence[Source] = CLIENT_KEY,
        absent: Absent = "share",
        quota: Quota | None = None,
        cost: int = 1,
        on_error: OnError = "allow",
        policies: Iterable[Policy] | RunningPolicies | None = None,
        exempt: Iterable[str] = (),
        exempt_methods: Collection[str] = (),
        clients: Clients | None = None,
        headers: Headers | None = None,
        deny: Deny | None = None,
        log_keys: bool = False,
    ) -> None:
        """Limit requests to any RateLimiter's buckets, by the arguments of Options.

        `framework` reads requests. `further` returns the known policies that `decide_at` may receive.

        Raises:
            ConfigurationError: An option cannot be used; the error names it and the remedy.
        """
        require_store(store)
        require_instance("framework", framework, Framework, "give FALCON of shm_store.falcon")
        require_function("further", further, "give a function that returns policies")
        require_flag("log_keys", log_keys)
        self._store = store
        self._clients = checked_clients(clients)
        self._further = further
        self._mounts = framework.mounts
        self._sees_routes = framework.route is not None
        self._exempt = paths.exempt("exempt", exempt)
        self._exempt_methods = checked_methods(exempt_methods)
        log = logging.getLogger(f"shm_store.{framework.name}")
        self._log = log
        self._error_log = ErrorLog(log)
        denial_log = DenialLog(log, store, show_keys=log_keys)
        answering = Answering(framework, checked_headers(headers), checked_deny(deny), self._error_log)
        books = store if isinstance(store, Bookkeeping) else None
        tally_of = _own_tally if books is None else books.tally
        self._requests = RequestTally() if books is None else books.request_tally()
        if policies is None:
            policies = [default_policy(key, absent, store.quota if quota is None else quota, cost, on_error)]
        else:
            refuse_beside_policies(key, absent, quota, cost, on_error)
        running = policies if isinstance(policies, RunningPolicies) else RunningPolicies(policies)
        require_countable(store, further())
        self._running = RunningPlan(
            running,
            framework,
            self._clients,
            log,
            self._error_log,
            store=store,
            tally_of=tally_of,
            tell=self._warn,
        )
        plan = self._running.plan
        self.may_need_routes = running is policies or plan.needs_routes
        self.may_settle = self.may_need_routes or plan.early.reserves
        self.nested = Nested(self._running, log, self._is_policy)
        self.deciding = Deciding(
            store,
            self._running,
            answering,
            self.nested,
            requests=self._requests,
            error_log=self._error_log,
            denial_log=denial_log,
            mounts=framework.mounts,
            is_exempt=self._is_exempt if any((*self._exempt, self._exempt_methods)) else None,
        )
        limiters.add(self)

    @property
    def policies(self) -> RunningPolicies:
        """The policies, which may be replaced."""
        return self._running.policies

    @property
    def errors(self) -> dict[str, int]:
        """How often the store failed in this process, by the name of the error's type."""
        return self._error_log.counts

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How the policies have decided in this process: by policy, its requests by their outcomes; see Counts."""
        # A copy: another thread may reload policies during the loop.
        counts = {name: tally.counts for name, tally in tuple(self._running.tallies.items())}
        return {name: {kind: getattr(each, kind) for kind in _OUTCOMES} for name, each in counts.items()}

    @property
    def requests(self) -> dict[str, int]:
        """What became of the requests that policies cover, in this process; see Requests."""
        return msgspec.structs.asdict(self._requests.counts)

    @property
    def needs_addresses(self) -> bool:
        """Whether a policy goes by the client, and no option chooses the bucket of clients without an address."""
        if self._clients.serves_unix:
            return False
        return any(
            key_specification.CLIENT in policy.key for policy in (*self._running.policies.current, *self._further())
        )

    def decide(self, request: object, method: str, path: str, before: Outcome = UNLIMITED) -> Outcome:
        """Decide on a request that is not routed yet, by the policies that need no route.

        If one that does may follow, the units stay reserved until `decide_late` or `settle`. `before` is the outcome
        that is inherited from another limiter.
        """
        return self.deciding.decide(request, method, path, before)

    def decide_at(
        self,
        request: object,
        method: str,
        path: str,
        route: str | None,
        further: Further | None,
        *,
        before: Outcome = UNLIMITED,
    ) -> Outcome:
        """Decide by all policies and `further` ones; the request may have no route. See `decide` for `before`."""
        plan = self._running.current()
        try:
            ruleset = plan.at(route, further, self._running.rules_of)
        except ConfigurationError as error:
            covers = covering((*plan.early.rules, *plan.late(route)), request, method, path, self._mounts)
            return self.deciding.refuse(request, path, error, covers)
        if self._is_exempt(method, path):
            return before
        return self.deciding.decide(request, method, path, before, ruleset)

    def decide_late(self, request: object, method: str, path: str, route: str | None, before: Outcome) -> Outcome:
        """Decide, when a request is routed, by the policies that need the route.

        `before` is what `decide` has returned. If the request is denied now, the units that it has taken are refunded.
        """
        plan = self._running.current()
        rules = plan.late(route)
        if not rules or self._is_exempt(method, path):
            return before
        return self.deciding.decide(request, method, path, before, plan.early.of(rules))

    def has_room(self, request: object, method: str, path: str) -> bool:
        """Return whether the early policies' quotas would allow a request; nothing is charged or counted."""
        rules = () if self._is_exempt(method, path) else self._running.current().early.rules
        covers = covering(rules, request, method, path, self._mounts)
        return all(has_room(self._store, rule, request, method) for rule in covers)

    def settle(self, outcome: Outcome, status: int) -> None:
        """Settle what a request has reserved, for a response of that status, and count it if it is not counted."""
        self.deciding.settle(outcome, status)

    def _warn(self, policies: tuple[Policy, ...]) -> None:
        """Log what the policies of a start, or of a reload, leave without a limit or without an effect."""
        quota = getattr(self._store, "quota", None)
        for line in coverage.without_effect(
            policies, quota=quota, exempt=self._exempt, exempt_methods=self._exempt_methods
        ):
            self._log.warning("%s", line)
        # Falcon has a responder of its own for HEAD.
        for line in () if self._sees_routes else coverage.without_head(policies):
            self._log.warning("%s", line)

    def _is_policy(self, name: str) -> bool:
        return name in self._running.plan.names or any(policy.name == name for policy in self._further())

    def _is_exempt(self, method: str, path: str) -> bool:
        return method in self._exempt_methods or self._exempt.cover(path)


def _own_tally(_policy: str) -> Tally:
    return Tally()
