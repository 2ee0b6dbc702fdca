"""Counts a request after its last policy has decided: once as a request, and once for each policy that covers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from shm_store.core.tally import NEAR, RequestTally
from shm_store.errors import StoreError
from shm_store.http.planning.rules import Rule
from shm_store.rate_info import RateInfo

#: How a request ends; `failed` is answered 503.
Fate = Literal["served", "denied", "failed"]


def count(
    requests: RequestTally | None,
    fate: Fate,
    rules: Sequence[Rule],
    infos: Sequence[RateInfo],
    undecided: Mapping[Rule, StoreError | None] | None = None,
) -> None:
    """Count one request; `requests` is None if the request itself is counted already.

    The rules have decided, and these are their answers; those in `undecided` have not, see Undecided.
    """
    position = 0
    for info in infos:
        rule = rules[position]
        position += 1  # noqa: SIM113 - `enumerate` would cost 70 ns more, and `zip` 100
        tally = rule.tally
        if not info.allowed:
            if rule.shadow:
                tally.shadow_denied[()] += 1
            else:
                tally.denied[()] += 1
        elif fate == "served":
            tally.allowed[()] += 1
            if info.remaining * NEAR < info.limit:
                tally.near_limit[()] += 1
        else:
            tally.overruled[()] += 1
    is_limited = not undecided or _count_undecided(undecided)
    if requests is not None:
        _count_request(requests, fate, is_limited)


def _count_request(requests: RequestTally, fate: Fate, is_limited: bool) -> None:  # noqa: FBT001 - a name would cost more
    if fate == "denied":
        requests.denied[()] += 1
    elif fate == "failed":
        requests.failed[()] += 1
    elif is_limited:
        requests.allowed[()] += 1
    else:
        requests.unlimited[()] += 1


def _count_undecided(undecided: Mapping[Rule, StoreError | None]) -> bool:
    """Count the rules; return whether none of them has failed."""
    for rule, error in undecided.items():
        if error is None:
            rule.tally.overruled[()] += 1
        else:
            rule.tally.errors[()] += 1
    return not any(undecided.values())
