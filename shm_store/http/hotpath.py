"""Decides by one rule that covers every request and needs nothing but a take: the most frequent case.

It does what RequestLimiter does for any number of rules, in a third of the time (tests/bench/falcon_app.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from shm_store.core.limiter import RateLimiter
from shm_store.core.tally import NEAR, RequestTally
from shm_store.errors import CostError, StoreError
from shm_store.http.answering import Answering
from shm_store.http.outcome import NO_FIELDS, UNLIMITED, Outcome
from shm_store.http.plan import RunningPlan
from shm_store.http.rules import Rule
from shm_store.policy.paths import Exempt
from shm_store.rate_info import RateInfo


class Decide(Protocol):
    """The call signature of what decides."""

    def __call__(self, request: Any, method: str, path: str, rule: Rule | None = None) -> Outcome:  # noqa: ANN401 - each framework has its own
        """Decide on a request by `rule`, or by that of the plan if it has one that is alone."""
        ...


def bind(  # noqa: C901 - one closure, whose calls are what it saves
    store: RateLimiter,
    answering: Answering,
    running: RunningPlan,
    exempt: Exempt,
    exempt_methods: frozenset[str],
    *,
    requests: RequestTally,
    several: Callable[[Any, str, str], Outcome],
    failed: Callable[[Any, str, StoreError, Rule], Outcome],
    log_denial: Callable[[Rule, str, RateInfo], None],
    log_cost: Callable[[CostError, Rule], None],
) -> Decide:
    """Return the function that decides: a closure, as looking up what it needs would cost a good part of a request.

    Args:
        store: Its `take` is looked up for each request: it may be replaced, after a fork or when the store is closed.
        answering: Writes the answers and fields.
        running: The plan.
        exempt: Paths that are not limited.
        exempt_methods: Methods that are not limited.
        requests: Counts the requests that it decides on.
        several: Called in its place if the plan has no rule that is alone, or may be out of date.
        failed: Called when the store fails.
        log_denial: Called with the rule, the key and the answer of each denial.
        log_cost: Called when the bucket is smaller than the rule's cost.
    """
    allowed_by, denied_by, partitioned = answering.allowed_by, answering.denied_by, answering.partitioned
    exact, prefixes, policies = exempt.exact, exempt.prefixes, running.policies

    def decide(  # noqa: PLR0911 - calls in place of returns would cost more than all that is between them
        request: Any,  # noqa: ANN401 - each framework has its own
        method: str,
        path: str,
        rule: Rule | None = None,
    ) -> Outcome:
        if path in exact or method in exempt_methods or (prefixes and path.startswith(prefixes) and exempt.cover(path)):
            return UNLIMITED
        if rule is None:
            plan = running.plan
            rule = plan.alone
            if rule is None or plan.source is not policies.current:
                return several(request, method, path)
        # Looked up apart from the call: CPython 3.11 has no fast way to call an attribute that is no method.
        make_key, take = rule.key if method != "OPTIONS" else rule.options_key, store.take
        try:
            key = make_key(request)
        except StoreError as error:
            return failed(request, path, error, rule)
        if key is None:
            return UNLIMITED
        try:
            info = take(key, rule.cost, rule.limit)  # type: ignore[arg-type]  # such a rule has a Quota
        except CostError as error:
            log_cost(error, rule)
            info = RateInfo(False, error.limit, 0, 0)
        except StoreError as error:
            return failed(request, path, error, rule)
        label = rule.label if partitioned is None else partitioned(rule.label, key)
        decision = (rule, info, label)
        if info.allowed:
            # In line: see Tally.
            tally = rule.tally
            tally.allowed[()] += 1
            requests.allowed[()] += 1
            if info.remaining * NEAR < info.limit:
                tally.near_limit[()] += 1
            return Outcome((decision,), allowed_by(label, info), None, None, (hash(key),))
        rule.tally.denied[()] += 1
        requests.denied[()] += 1
        log_denial(rule, key, info)
        return Outcome((decision,), NO_FIELDS, denied_by(request, path, decision))

    return decide
