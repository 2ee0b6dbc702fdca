"""Limiters inside one another: a request that meets several of them on one store is charged once.

Each limiter leaves its Outcome with the request. A limiter further in finds it there, leaves out the buckets that it is
about, and leaves the union of both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from shm_store.http.outcome import NO_FIELDS, UNLIMITED, Nesting, Outcome
from shm_store.http.planning.plan import RunningPlan
from shm_store.http.planning.rules import Rule
from shm_store.http.settlement import RequestReservation

_TWICE: Final = (
    "two limiters on one store have the policy %r for the same request, which is charged once: remove one"
    " RateLimitMiddleware, or give the policies different names"
)
_DIFFERENT: Final = (
    "two limiters on one store have the policy %r for the same request, with different limits, costs or refunds: both"
    " charge its bucket, so that it serves fewer than its limit; give the policies different names"
)
_AGAIN: Final = (
    "a request meets the same RateLimitMiddleware again, and is charged again: give each application a middleware of"
    " its own, unless the application sends itself requests"
)
# Of this process.
_logged: Final[set[str]] = set()


class Nested:
    """One limiter among those that a request may meet."""

    def __init__(self, running: RunningPlan, log: logging.Logger, exists: Callable[[str], bool]) -> None:
        """Be the limiter of `running`; the log gets each warning once in a process, `exists` knows its policies."""
        self._limiter_id = running.limiter_id
        self._realm = running.realm
        self._log = log
        self.exists = exists

    def inherited(self, outer: object) -> Outcome:
        """Return the decisions of the limiters around this one, by what they have left with the request.

        An application may send itself requests that are copies of the first one, with its outcome. So each limiter
        inherits an outcome once: from then on it meets a request of its own.

        Returns:
            The decisions, without the fields that others write and the units that others settle; UNLIMITED if there are
            none.
        """
        if not isinstance(outer, Outcome) or not outer.hashes:
            return UNLIMITED
        nesting = outer.nesting
        if nesting is None:
            nesting = Nesting()
            msgspec.structs.force_setattr(outer, "nesting", nesting)
        if self._limiter_id in nesting.met or any(map(self.owns, outer.rules)):
            self._warn(_AGAIN)
            return UNLIMITED
        nesting.met.add(self._limiter_id)
        reservation = None if outer.reservation is None else RequestReservation(self.exists, outer.reservation)
        return msgspec.structs.replace(outer, headers=NO_FIELDS, reservation=reservation, nesting=nesting)

    def leaves_out(self, rule: Rule, key: str, before: Outcome) -> bool:
        """Return whether a limiter around this one has charged the bucket of a rule as the rule would."""
        # A denial has no hashes.
        decided = zip(before.rules, before.decisions, before.hashes, strict=False)
        same = [
            (other.charges_like(rule), info)
            for other, info, hashed in decided
            if other.realm == rule.realm and hashed == hash(key)
        ]
        if not same:
            return False
        self._warn(_TWICE if any(is_alike for is_alike, _ in same) else _DIFFERENT, rule.name)
        # A rule in shadow mode that found no room has charged nothing.
        return any(is_alike and info.allowed for is_alike, info in same)

    def claim_fields(self, nesting: Nesting) -> None:
        """Write the header fields of all decisions; the limiters around this one then write none."""
        nesting.writer = self._limiter_id

    def writes_fields(self, outcome: Outcome) -> bool:
        """Return whether this limiter is to write the fields of its outcome: no limiter inside it has taken over."""
        return outcome.nesting is None or outcome.nesting.writer in (None, self._limiter_id)

    def owns(self, rule: Rule) -> bool:
        """Return whether a rule is of this limiter."""
        return rule.limiter_id == self._limiter_id

    def shares(self, rules: Iterable[Rule]) -> bool:
        """Return whether one of the rules is of a limiter around this one, on the same store."""
        return any(not self.owns(rule) and rule.realm == self._realm for rule in rules)

    def _warn(self, message: str, *of: str) -> None:
        line = message % of
        if line not in _logged:
            _logged.add(line)
            self._log.warning("%s", line)
