"""Decides by one rule that covers every request and needs nothing but a take: the most frequent case.

It does what RequestLimiter does for any number of rules, in a third of the time (tests/bench/http.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shm_store.errors import CostError, StoreError
from shm_store.http.answering import Answering
from shm_store.http.outcome import NO_FIELDS, UNLIMITED, Outcome
from shm_store.http.rules import Rule
from shm_store.limiter import RateLimiter
from shm_store.rate_info import RateInfo


def bind(
    store: RateLimiter,
    answering: Answering,
    failed: Callable[[Any, str, StoreError, Rule], Outcome],
    log_cost: Callable[[CostError, Rule], None],
) -> Callable[[Any, str, Rule], Outcome]:
    """Return the function that decides on a request, of a path, by a rule.

    Args:
        store: Its `take` is looked up for each request: it may be replaced, after a fork or when the store is closed.
        answering: Says what was decided.
        failed: Called when the store fails.
        log_cost: Called when the bucket is smaller than the rule's cost.
    """
    allowed_by, denied_by, partitioned = answering.allowed_by, answering.denied_by, answering.partitioned

    def decide(request: Any, path: str, rule: Rule) -> Outcome:  # noqa: ANN401 - each framework has its own
        try:
            key = rule.key(request)
        except StoreError as error:
            return failed(request, path, error, rule)
        if key is None:
            return UNLIMITED
        try:
            info = store.take(key, rule.cost, rule.limit)  # type: ignore[arg-type]  # such a rule has a Quota
        except CostError as error:
            log_cost(error, rule)
            info = RateInfo(False, error.limit, 0, 0)
        except StoreError as error:
            return failed(request, path, error, rule)
        label = rule.label if partitioned is None else partitioned(rule.label, key)
        decision = (rule, info, label)
        if info.allowed:
            rule.tally.allowed += 1
            return Outcome((decision,), allowed_by(label, info))
        rule.tally.denied += 1
        return Outcome((decision,), NO_FIELDS, denied_by(request, path, decision))

    return decide
