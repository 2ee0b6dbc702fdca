"""Decides on requests: one function for any number of rules, from the keys to the outcome, counters and log lines.

Each request takes these steps: covering rules, keys, one call of the store, counters, and header fields. Rare cases
branch off at their step and come back. They are failures, keys in several slots, and reservations. A limiter around
this one, and rules that have decided before the request was routed, are rare too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from shm_store.core.limiter import KeyReserve, RateLimiter
from shm_store.core.tally import NEAR, RequestTally
from shm_store.errors import CostError, StoreError
from shm_store.http.answering import Answering
from shm_store.http.counting import Fate, count
from shm_store.http.denial_log import DenialLog
from shm_store.http.error_log import ErrorLog
from shm_store.http.nesting import Nested
from shm_store.http.outcome import NO_FIELDS, UNLIMITED, Outcome
from shm_store.http.planning.rules import Rule
from shm_store.http.planning.rulesets import Charge, Ruleset, covering
from shm_store.http.responses.headers import Labels
from shm_store.http.settlement import RequestReservation, Reserved
from shm_store.http.taking import Taking, Undecided, settled
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo


class Deciding:
    """Decides on the requests of one limiter."""

    def __init__(
        self,
        store: RateLimiter,
        answering: Answering,
        nested: Nested,
        *,
        requests: RequestTally,
        error_log: ErrorLog,
        denial_log: DenialLog,
        mounts: Callable[[Any], Collection[str]],
    ) -> None:
        self._store = store
        self._answering = answering
        self._allowed = answering.allowed
        self._partitioned = answering.partitioned
        self._nested = nested
        self._requests = requests
        self._error_log = error_log
        self._denial_log = denial_log
        self._mounts = mounts
        self._taking = Taking(store, error_log)

    def decide(  # noqa: C901, PLR0912, PLR0917 - each call costs 1% of a request
        self,
        request: object,
        method: str,
        path: str,
        ruleset: Ruleset,
        may_follow: bool,  # noqa: FBT001 - see above
        before: Outcome,
    ) -> Outcome:
        """Take from the buckets of all rules that cover a request, or from none of them.

        A rule does not apply to a request without its key. If further rules may follow, the request is not counted, and
        its units are reserved. `before` is the outcome so far.
        """
        charge = undecided = reservation = None
        infos: Sequence[RateInfo] | None = None
        said = ruleset.said
        if said is not None and before is UNLIMITED and method != "OPTIONS":
            try:
                charge = ruleset.charges[said(request)]
            except (StoreError, TypeError):
                # Each rule has its own error, and reads what has no hash: below.
                charge = None
        if charge is None:
            charge, undecided = self._charge(request, method, path, ruleset, before)
        ruleset, takes, hashes = charge
        if not takes and undecided is None:
            return before
        taking = self._taking
        if undecided is None and not taking.is_split:
            try:
                if ruleset.takes_one and not may_follow:
                    # In line: see `together`.
                    ((key, quota, cost),) = takes
                    infos = (self._store.take(key, cost, quota),)  # type: ignore[arg-type]  # such a rule has a Quota
                else:
                    infos, reservation = taking.together(ruleset, takes, may_follow)
            except CostError:
                # The other rules answer, too: in `by_slots`.
                infos = None
            except StoreError as error:
                undecided, charge, infos = Undecided(), Charge(ruleset.of(()), (), ()), ()
                undecided.fail(error, ruleset.rules, self._error_log)
            else:
                if reservation is None and before is UNLIMITED and self._partitioned is None:
                    # Nearly every request; `_conclude` would do the same.
                    rules, labels = ruleset.rules, ruleset.labels
                    for info in infos:
                        if not info.allowed:
                            break
                    else:
                        for index in ruleset.positions:
                            # In line: see `count`.
                            tally, info = rules[index].tally, infos[index]
                            tally.allowed[()] += 1
                            if info.remaining * NEAR < info.limit:
                                tally.near_limit[()] += 1
                        self._requests.allowed[()] += 1
                        return Outcome(rules, infos, labels, self._allowed(labels, infos), None, None, hashes)
                    if not ruleset.shadow:
                        self._log_denials(ruleset, takes, infos)
                        count(self._requests, "denied", rules, infos)
                        answer = self._answering.denied(request, path, ruleset, labels, infos)
                        return Outcome(rules, infos, labels, NO_FIELDS, answer)
        reserved: Sequence[Reserved] = () if reservation is None else (Reserved(ruleset.rules, reservation),)
        undecided = Undecided() if undecided is None else undecided
        if infos is None:
            charge, infos, reserved = taking.by_slots(charge, undecided, reserve=may_follow)
        return self._conclude(
            request, path, charge, infos, undecided, reserved=reserved, may_follow=may_follow, before=before
        )

    def _conclude(
        self,
        request: object,
        path: str,
        charge: Charge,
        infos: Sequence[RateInfo],
        undecided: Undecided,
        *,
        reserved: Sequence[Reserved],
        may_follow: bool,
        before: Outcome,
    ) -> Outcome:
        """Return the outcome of a request by the rules of `charge`, and count and log it."""
        ruleset, takes, hashes = charge
        labels = ruleset.labels
        if self._partitioned is not None:
            labels = self._partitioned(labels, [key for key, _, _ in takes])
        fate = "failed" if undecided.refuse else self._log_denials(ruleset, takes, infos)
        if before is not UNLIMITED:
            ruleset = ruleset.of((*before.rules, *ruleset.rules))
            infos, hashes = (*before.decisions, *infos), (*before.hashes, *hashes)
            labels = self._joined(before, ruleset, labels)
            if before.nesting is not None:
                self._nested.claim_fields(before.nesting)
            if before.reservation is not None:
                undecided.update(before.reservation.take_uncounted())
        if fate != "served":
            if before.reservation is not None:
                settled(before.reservation.refund, self._error_log)
            self._count(before, fate, ruleset, infos, undecided)
            answering = self._answering
            if fate == "denied":
                answer = answering.denied(request, path, ruleset, labels, infos)
            else:
                answer = answering.failed(request, path)
            return Outcome(ruleset.rules, infos, labels, NO_FIELDS, answer, None, (), before.nesting)
        kept = self._kept(before, reserved) if may_follow or reserved else before.reservation
        if may_follow and kept is not None:
            kept.leave_uncounted(partial(self._count, before, fate, ruleset, infos, undecided), undecided)
        else:
            self._count(before, fate, ruleset, infos, undecided)
        return Outcome(ruleset.rules, infos, labels, self._allowed(labels, infos), None, kept, hashes, before.nesting)

    def _joined(self, before: Outcome, ruleset: Ruleset, labels: Labels) -> Labels:
        """Return the labels of a ruleset that begins with the rules of `before`."""
        if self._partitioned is None and before.nesting is None:
            return ruleset.labels
        return Labels.of((*before.labels.each, *labels.each))

    def refuse(self, request: object, path: str, error: StoreError, rules: Iterable[Rule]) -> Outcome:
        """Answer 503 whatever `on_error` says, because of an error that leaves the `rules` of a request undecided."""
        self._error_log.record(error, "request answered with 503")
        count(self._requests, "failed", (), (), dict.fromkeys(rules))
        return Outcome(answer=self._answering.failed(request, path))

    def settle(self, outcome: Outcome, status: int) -> None:
        """Settle what a request has reserved, for a response of that status, and count it if it is not counted."""
        reservation = outcome.reservation
        if reservation is not None:
            settled(lambda: reservation.settle(status), self._error_log)

    def _charge(
        self, request: object, method: str, path: str, ruleset: Ruleset, before: Outcome
    ) -> tuple[Charge, Undecided | None]:
        """Return the takes of a request, and the rules whose keys cannot be made; None for none of these."""
        if not ruleset.covers_all:
            ruleset = ruleset.of(tuple(covering(ruleset.rules, request, method, path, self._mounts)))
        undecided: Undecided | None = None
        rules, takes, hashes = [], [], []
        for rule in ruleset.rules:
            try:
                key = rule.key_of(request, method)
            except StoreError as error:
                undecided = Undecided() if undecided is None else undecided
                undecided.fail(error, (rule,), self._error_log)
            else:
                if key is not None and not (before.hashes and self._nested.leaves_out(rule, key, before)):
                    rules.append(rule)
                    takes.append((key, rule.limit, rule.cost))
                    hashes.append(hash(key))
        if len(rules) < len(ruleset.rules):
            ruleset = ruleset.of(tuple(rules))
        return Charge(ruleset, tuple(takes), tuple(hashes)), undecided

    def _count(
        self, before: Outcome, fate: Fate, ruleset: Ruleset, infos: Sequence[RateInfo], undecided: Undecided
    ) -> None:
        """Count a request, if the limiter around this one does not, and the decisions of this limiter."""
        requests: RequestTally | None = self._requests
        rules = ruleset.rules
        if before.nesting is not None:
            # The limiter around this one has counted the request as served.
            if fate == "served" and self._nested.shares(rules):
                requests = None
            own = [index for index, rule in enumerate(rules) if self._nested.owns(rule)]
            rules, infos = tuple([rules[index] for index in own]), [infos[index] for index in own]
        count(requests, fate, rules, infos, undecided)

    def _kept(self, before: Outcome, reserved: Iterable[Reserved]) -> RequestReservation:
        """Return the reservation of a request, with further parts."""
        kept = RequestReservation(self._nested.exists) if before.reservation is None else before.reservation
        for part in reserved:
            kept.add(part)
        return kept

    def _log_denials(self, ruleset: Ruleset, takes: Sequence[KeyReserve], infos: Sequence[RateInfo]) -> Fate:
        """Log the denials of a request, and return its fate."""
        fate: Fate = "served"
        for index in ruleset.positions:
            if not infos[index].allowed:
                rule = ruleset.rules[index]
                self._denial_log.record(rule, takes[index][0], infos[index])
                fate = fate if rule.shadow else "denied"
        return fate


def has_room(store: RateLimiter, rule: Rule, request: object, method: str) -> bool:
    """Return whether a rule would allow a request; shadow rules and concurrency limits always do."""
    if rule.shadow or not isinstance(rule.limit, Quota):
        return True
    key = rule.key_of(request, method)
    try:
        return key is None or store.peek(key, rule.cost, rule.limit).allowed
    except CostError:
        # No wait makes room for it.
        return False
