"""Counts of requests: one counter for each policy that covers a request, and one for the request."""

from __future__ import annotations

from typing import Final

import pytest

from shm_store import RateInfo
from shm_store.core.tally import Counts, Requests, RequestTally, Tally
from shm_store.errors import StoreClosedError
from shm_store.http.counting import Fate, count
from shm_store.http.planning.rules import Rule

ROOM: Final = RateInfo(True, 10, 2, 1)
NEAR: Final = RateInfo(True, 10, 1, 1)
NONE: Final = RateInfo(False, 10, 0, 1, 1)


def _rule(*, shadow: bool = False) -> Rule:
    return Rule(name="p", tally=Tally(), key=str, options_key=str, limit=None, label=None, shadow=shadow)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fate", "shadow", "info", "counts"),
    [
        ("served", False, ROOM, Counts(allowed=1)),
        ("served", True, NEAR, Counts(allowed=1, near_limit=1)),
        ("served", True, NONE, Counts(shadow_denied=1)),
        ("denied", False, NONE, Counts(denied=1)),
        ("denied", True, NONE, Counts(shadow_denied=1)),
        ("denied", False, NEAR, Counts(overruled=1)),
        ("failed", True, NEAR, Counts(overruled=1)),
    ],
)
def test_every_decision_has_its_counter(fate: Fate, info: RateInfo, counts: Counts, *, shadow: bool) -> None:
    """Near the limit are only requests that are served; a policy with room does not allow one that is not."""
    rule = _rule(shadow=shadow)
    count(None, fate, [rule], [info])
    assert rule.tally.counts == counts


@pytest.mark.parametrize(
    ("fate", "error", "requests"),
    [
        ("served", None, Requests(allowed=1)),
        ("served", StoreClosedError("s"), Requests(unlimited=1)),
        ("denied", StoreClosedError("s"), Requests(denied=1)),
        ("failed", StoreClosedError("s"), Requests(failed=1)),
    ],
)
def test_every_request_has_its_counter(fate: Fate, error: StoreClosedError | None, requests: Requests) -> None:
    """A policy that could not decide leaves a served request without a limit; another one has overruled the rest."""
    tally, failed, overruled = RequestTally(), _rule(), _rule()
    count(tally, fate, (), (), {failed: error, overruled: None} if error else {overruled: None})
    assert tally.counts == requests
    assert overruled.tally.counts == Counts(overruled=1)
    assert failed.tally.counts == Counts(errors=int(error is not None))
