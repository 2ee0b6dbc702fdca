"""Charging: takes for one request by given rules, and the outcome, which is counted, logged and settled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from shm_store.core.limiter import RateLimiter
from shm_store.core.tally import RequestTally
from shm_store.errors import CostError, StoreError
from shm_store.http.answering import Answering
from shm_store.http.counting import Fate, Uncounted, count
from shm_store.http.deciding import NOTHING, Asked, Decided, Decision, Failure, violated
from shm_store.http.denial_log import DenialLog
from shm_store.http.error_log import ErrorLog
from shm_store.http.nesting import Nested
from shm_store.http.outcome import NO_FIELDS, UNLIMITED, Outcome
from shm_store.http.rules import Rule, covering
from shm_store.http.settlement import RequestReservation
from shm_store.http.taking import Taking


class Charging:
    """Charges the requests of one limiter."""

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
        exists: Callable[[str], bool],
    ) -> None:
        """Charge to the buckets of a store.

        Args:
            store: The store.
            answering: Writes the answers and fields.
            nested: The limiter among others that a request meets.
            requests: Counts the requests.
            error_log: Counts and logs what fails.
            denial_log: Logs denials.
            mounts: Returns where the application is mounted.
            exists: Returns whether the limiter has a policy of a name.
        """
        self._answering = answering
        self._nested = nested
        self._requests = requests
        self._error_log = error_log
        self._denial_log = denial_log
        self._mounts = mounts
        self._exists = exists
        self._taking = Taking(store, on_cost_error=self.log_cost, settle=self._settle)

    def charge(
        self,
        request: object,
        method: str,
        path: str,
        rules: Iterable[Rule],
        *,
        hold: bool = False,
        before: Outcome = UNLIMITED,
    ) -> Outcome:
        """Charge a request to the buckets of all rules that cover it, or to none.

        Args:
            request: The request.
            method: Its method.
            path: Its path.
            rules: The rules; those without its key do not apply.
            hold: Whether further rules may follow: then the request is not counted, and its units can be refunded.
            before: The outcome so far.
        """
        asked: list[Asked] = []
        failures: list[Failure] = []
        for rule in covering(rules, request, method, path, self._mounts):
            try:
                key = rule.key_of(request, method)
            except StoreError as error:
                failures.append(Failure(error, [rule]))
            else:
                if key is not None and not (before.hashes and self._nested.leaves_out(rule, key, before)):
                    partitioned = self._answering.partitioned
                    label = rule.label if partitioned is None else partitioned(rule.label, key)
                    asked.append(Asked(rule, key, label))
        if not asked and not failures:
            return before
        decided = NOTHING
        if not any(failure.refuses for failure in failures):
            decided = self._taking.take_together(asked, hold=hold)
            failures += decided.failures
        for failure in failures:
            self._log_failure(failure)
        if not all(info.allowed for _, info, _ in decided.decisions):
            self._log_denials(asked, decided)
        return self._outcome(request, path, asked, decided._replace(failures=failures), hold=hold, before=before)

    def fail(self, request: object, path: str, error: StoreError, rule: Rule) -> Outcome:
        """Return the outcome of a request on which its only rule could not decide."""
        failure = Failure(error, [rule])
        self._log_failure(failure)
        return self._outcome(request, path, (), Decided([], [], [failure]))

    def refuse(self, request: object, path: str, error: StoreError, rules: Iterable[Rule]) -> Outcome:
        """Answer 503 whatever `on_error` says, because of an error that leaves the `rules` of a request undecided."""
        self._error_log.record(error, "request answered with 503")
        count(self._requests, "failed", (), (), rules)
        return Outcome((), NO_FIELDS, self._answering.failed(request, path))

    def settle(self, outcome: Outcome, status: int) -> None:
        """Settle what a request has reserved, for a response of that status, and count it if it is not counted."""
        reservation = outcome.reservation
        if reservation is not None:
            self._settle(lambda: reservation.settle(status))

    def log_cost(self, error: CostError, rule: Rule) -> None:
        """Log that a bucket is smaller than the cost of a rule: a denial, as the store works."""
        self._error_log.record(error, f"policy {rule.name} in shadow mode" if rule.shadow else "request denied")

    def _outcome(
        self,
        request: object,
        path: str,
        asked: Collection[Asked],
        decided: Decided,
        *,
        hold: bool = False,
        before: Outcome = UNLIMITED,
    ) -> Outcome:
        """Return the outcome of the request, and count it unless further policies may follow."""
        decisions, nesting = (*before.decisions, *decided.decisions), before.nesting
        uncounted = None if before.reservation is None else before.reservation.take_uncounted()
        failed = [rule for failure in decided.failures for rule in failure.rules]
        unable = (*failed,) if uncounted is None else (*uncounted.failed, *failed)
        refused = any(failure.refuses for failure in decided.failures)
        fate: Fate = "failed" if refused else "denied" if violated(decisions) else "served"
        requests, own = self._counted(fate, decisions, before)
        if fate != "served":
            self._release(before)
            count(requests, fate, own, unable, _undecided(asked, decided, failed))
            answering = self._answering
            denied = fate == "denied"
            answer = answering.denied(request, path, decisions) if denied else answering.failed(request, path)
            return Outcome(decisions, NO_FIELDS, answer, nesting=nesting)
        reservation, so_far = before.reservation, Uncounted(requests, own, unable)
        if hold or decided.parts:
            reservation = RequestReservation(self._exists) if reservation is None else reservation
            for rules, reserved in decided.parts:
                reservation.add(rules, reserved)
        if hold and reservation is not None:
            reservation.leave_uncounted(so_far)
        else:
            so_far.count_as_served()
        hashes = (*before.hashes, *_hashes(asked, decided))
        return Outcome(decisions, self._answering.allowed(decisions), None, reservation, hashes, nesting)

    def _counted(
        self, fate: Fate, decisions: tuple[Decision, ...], before: Outcome
    ) -> tuple[RequestTally | None, tuple[Decision, ...]]:
        """Return what counts the request, None if it is counted already, and the decisions that this limiter counts."""
        if before.nesting is None:
            return self._requests, decisions
        self._nested.claim_fields(before.nesting)
        # The limiter around this one has counted the request as served.
        is_counted = fate == "served" and self._nested.shares(decisions)
        return None if is_counted else self._requests, self._nested.own(decisions)

    def _release(self, before: Outcome) -> None:
        """Refund the units that a request took before it was routed, as it is not served."""
        if before.reservation is not None:
            self._settle(before.reservation.refund)

    def _settle(self, settle: Callable[[], None]) -> None:
        try:
            settle()
        except StoreError as error:
            self._error_log.record(error, "units not given back")

    def _log_failure(self, failure: Failure) -> None:
        answered = "request answered with 503" if failure.refuses else "request let through without a limit"
        self._error_log.record(failure.error, answered)

    def _log_denials(self, asked: Iterable[Asked], decided: Decided) -> None:
        keys = {each.rule.name: each.key for each in asked}
        for rule, info, _ in decided.decisions:
            if not info.allowed:
                self._denial_log.record(rule, keys[rule.name], info)


def _undecided(asked: Iterable[Asked], decided: Decided, failed: Iterable[Rule]) -> list[Rule]:
    concluded = {rule.name for rule, _, _ in decided.decisions} | {rule.name for rule in failed}
    return [each.rule for each in asked if each.rule.name not in concluded]


def _hashes(asked: Collection[Asked], decided: Decided) -> list[int]:
    if len(asked) == len(decided.decisions):
        return [hash(each.key) for each in asked]
    names = {rule.name for rule, _, _ in decided.decisions}
    return [hash(each.key) for each in asked if each.rule.name in names]
