"""Counts a request after its last policy has decided: once as a request, and once for each policy that covers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from shm_store.core.tally import NEAR, RequestTally
from shm_store.http.deciding import Decision
from shm_store.http.rules import Rule

#: How a request ends; `failed` is answered 503.
Fate = Literal["served", "denied", "failed"]


class Uncounted(NamedTuple):
    """A request that is served so far, and on which policies that need its route may still decide.

    Attributes:
        requests: Counts the request itself; None if it is counted already.
        decisions: The decisions so far.
        failed: The rules that could not decide.
    """

    requests: RequestTally | None
    decisions: tuple[Decision, ...]
    failed: tuple[Rule, ...]

    def count_as_served(self) -> None:
        """Count it: no further policy has decided."""
        count(self.requests, "served", self.decisions, self.failed)


def count(
    requests: RequestTally | None,
    fate: Fate,
    decisions: Iterable[Decision],
    failed: Sequence[Rule] = (),
    undecided: Iterable[Rule] = (),
) -> None:
    """Count one request.

    Args:
        requests: Counts the request itself; None if it is counted already.
        fate: How it ends.
        decisions: The decisions of its policies.
        failed: The rules that could not decide because the store failed.
        undecided: The rules that did not decide because another policy had settled the fate.
    """
    served = fate == "served"
    for rule, info, _ in decisions:
        near = info.remaining * NEAR < info.limit
        rule.tally.count(allowed=info.allowed, shadow=rule.shadow, near=near, served=served)
    for rule in failed:
        rule.tally.errors[()] += 1
    for rule in undecided:
        rule.tally.overruled[()] += 1
    if requests is None:
        return
    if not served:
        tally = requests.denied if fate == "denied" else requests.failed
        tally[()] += 1
    elif failed:
        requests.unlimited[()] += 1
    else:
        requests.allowed[()] += 1
