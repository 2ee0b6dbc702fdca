"""Decides on requests: one function for any number of rules, from the keys to the outcome, counters and log lines.

Each request takes these steps: covering rules, keys, one call of the store, counters, and header fields. `decide` has
them in line, and leaves rare cases to other functions. They are failures, keys in several slots, and reservations. A
limiter around this one, and rules that have decided before the request was routed, are rare too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from shm_store.core.limiter import KeyReserve, RateLimiter
from shm_store.core.tally import NEAR, RequestTally
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import CostError, StoreError
from shm_store.http.answering import Answering
from shm_store.http.counting import Fate, count
from shm_store.http.denial_log import DenialLog
from shm_store.http.error_log import ErrorLog
from shm_store.http.nesting import Nested
from shm_store.http.outcome import NO_FIELDS, UNLIMITED, Outcome
from shm_store.http.planning.plan import RunningPlan
from shm_store.http.planning.rules import Rule
from shm_store.http.planning.rulesets import Charge, Ruleset, covering
from shm_store.http.responses.headers import UP_NS, Labels
from shm_store.http.settlement import RequestReservation, Reserved
from shm_store.http.taking import Taken, Taking, Undecided, settled
from shm_store.quota import Quota
from shm_store.rate_info import RateInfo


class Deciding:
    """Decides on the requests of one limiter."""

    def __init__(
        self,
        store: RateLimiter,
        running: RunningPlan,
        answering: Answering,
        nested: Nested,
        *,
        requests: RequestTally,
        error_log: ErrorLog,
        denial_log: DenialLog,
        mounts: Callable[[Any], Collection[str]],
        is_exempt: Callable[[str, str], bool] | None,
    ) -> None:
        """Decide by the plan in force; `is_exempt` tells by method and path, None if nothing is exempt."""
        # The methods of a store are often its own functions, which take longer to find.
        self._take, self._take_all = store.take, store.take_all
        self._running = running
        self._policies = running.policies
        self._answering = answering
        self._allowed = answering.allowed
        self._partitioned = answering.partitioned
        self._nested = nested
        self._requests = requests
        self._error_log = error_log
        self._denial_log = denial_log
        self._mounts = mounts
        self._is_exempt = is_exempt
        self._taking = Taking(store, error_log)
        self._is_common = answering.is_common
        self._is_short = self._partitioned is None and not self._taking.is_split

    def decide(  # noqa: C901, PLR0911, PLR0912 - each call costs 1% of a request
        self, request: object, method: str, path: str, before: Outcome = UNLIMITED, ruleset: Ruleset | None = None
    ) -> Outcome:
        """Take from the buckets of all rules that cover a request, or from none of them.

        A rule does not apply to a request without its key. `before` is the outcome so far. Without a ruleset these are
        the rules that need no route, for a request that is not exempt. If further rules may follow, the request is not
        counted, and its units are reserved.
        """
        may_follow = False
        if ruleset is None:
            if self._is_exempt is not None and self._is_exempt(method, path):
                return before
            plan = self._running.plan
            if plan.source is not self._policies.current:
                plan = self._running.current()
            ruleset = plan.early
            may_follow = plan.needs_routes and plan.may_follow(request, method, path, self._mounts)
        charge, said = None, ruleset.said
        if said is not None and before is UNLIMITED and method != "OPTIONS":
            try:
                charge = ruleset.charges[said(request)]
            except (StoreError, TypeError):
                # Each rule has its own error, and reads what has no hash: in `_charge`.
                charge = None
        if charge is None or may_follow or ruleset.reserves or not self._is_short:
            return self._decide(request, method, path, ruleset, charge, may_follow=may_follow, before=before)
        # Nearly every request. Below in line: see `_decide`.
        ruleset, takes = charge.rules, charge.takes
        if not takes:
            return before
        infos: Sequence[RateInfo]
        try:
            if ruleset.takes_one:
                ((key, quota, cost),) = takes
                infos = (self._take(key, cost, quota),)  # type: ignore[arg-type]  # such a rule has a Quota
            else:
                infos = self._take_all(takes, shadow=ruleset.shadow)  # type: ignore[arg-type]  # as above
        except StoreError as error:
            undecided = Undecided()
            taken = self._taking.despite(error, charge, undecided, reserve=False)
            return self._conclude(request, path, taken, undecided)
        for info in infos:
            if not info.allowed:
                return self._denied(request, path, charge, infos)
        rules, labels = ruleset.rules, ruleset.labels
        if ruleset.told is None or not self._is_common:
            count(self._requests, "served", rules, infos)
            return Outcome(rules, infos, labels, self._allowed(labels, infos), None, None, charge.hashes)
        # In one loop, in line: see `count` and `HeaderWriter.allowed`.
        members, is_usual = "", True
        for tally, index, head, usual in ruleset.told:
            info = infos[index]
            limit, remaining, reset_ns = info.limit, info.remaining, info.reset_after_ns
            tally.allowed[()] += 1
            if remaining * NEAR < limit:
                tally.near_limit[()] += 1
            if limit != usual or not reset_ns:
                # An override, or units in flight, whose end is unknown.
                is_usual = False
            members = f"{members}{head}{remaining};t={(reset_ns + UP_NS) // NS_PER_SECOND}"
        if shadow := ruleset.shadow:
            count(None, "served", [rules[index] for index in shadow], [infos[index] for index in shadow])
        self._requests.allowed[()] += 1
        fields = {"ratelimit-policy": labels.policies, "ratelimit": members}
        if not is_usual:
            fields = self._allowed(labels, infos)
        return Outcome(rules, infos, labels, fields, None, None, charge.hashes)

    def _denied(self, request: object, path: str, charge: Charge, infos: Sequence[RateInfo]) -> Outcome:
        """Return the outcome of a request that a rule does not allow, but for the rare cases of `_conclude`."""
        ruleset, takes = charge.rules, charge.takes
        if ruleset.shadow:
            return self._conclude(request, path, (charge, infos, ()), Undecided())
        rules = ruleset.rules
        for index in ruleset.positions:
            # In line: see `count` and `_log_denials`.
            rule, info = rules[index], infos[index]
            if info.allowed:
                rule.tally.overruled[()] += 1
            else:
                rule.tally.denied[()] += 1
                self._denial_log.record(rule, takes[index][0], info)
        self._requests.denied[()] += 1
        labels = ruleset.labels
        return Outcome(rules, infos, labels, NO_FIELDS, self._answering.denied(request, path, ruleset, labels, infos))

    def _decide(
        self,
        request: object,
        method: str,
        path: str,
        ruleset: Ruleset,
        charge: Charge | None,
        *,
        may_follow: bool,
        before: Outcome,
    ) -> Outcome:
        """Decide on any request; find its charge if that is None."""
        undecided = Undecided()
        if charge is None:
            charge = self._charge(request, method, path, ruleset, undecided, before=before)
        if not charge.takes and not undecided:
            return before
        taken = self._taking.taken(charge, undecided, reserve=may_follow)
        return self._conclude(request, path, taken, undecided, may_follow=may_follow, before=before)

    def _conclude(
        self,
        request: object,
        path: str,
        taken: Taken,
        undecided: Undecided,
        *,
        may_follow: bool = False,
        before: Outcome = UNLIMITED,
    ) -> Outcome:
        """Return the outcome of a request by the rules that have decided, and count and log it."""
        charge, infos, reserved = taken
        ruleset, takes, hashes = charge.rules, charge.takes, charge.hashes
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
        self, request: object, method: str, path: str, ruleset: Ruleset, undecided: Undecided, *, before: Outcome
    ) -> Charge:
        """Return the takes of a request; add the rules whose keys cannot be made to `undecided`."""
        if not ruleset.covers_all:
            ruleset = ruleset.of(tuple(covering(ruleset.rules, request, method, path, self._mounts)))
        rules, takes, hashes = [], [], []
        for rule in ruleset.rules:
            try:
                key = rule.key_of(request, method)
            except StoreError as error:
                undecided.fail(error, (rule,), self._error_log)
            else:
                if key is not None and not (before.hashes and self._nested.leaves_out(rule, key, before)):
                    rules.append(rule)
                    takes.append((key, rule.limit, rule.cost))
                    hashes.append(hash(key))
        if len(rules) < len(ruleset.rules):
            ruleset = ruleset.of(tuple(rules))
        return Charge(ruleset, tuple(takes), tuple(hashes))

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
