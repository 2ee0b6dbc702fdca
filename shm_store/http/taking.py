"""Takes for one request by several rules: from all of their buckets, or from none.

Keys of one request may lie in several slots of a cluster, which no script can take from together. Then each slot is
decided on its own, one after the other: a denial refunds the slots before it, and a slot that fails leaves the others
enforced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shm_store.core.limiter import Backed, KeyReserve, KeyTake, RateLimiter
from shm_store.core.reservation import Reservation
from shm_store.errors import CostError, StoreError
from shm_store.http.deciding import Asked, Decided, Decision, Failure, Part
from shm_store.http.rules import Rule
from shm_store.quota import Concurrency, Quota
from shm_store.rate_info import RateInfo

# What no name of a policy contains: it makes a key that no policy has, in the slot of one that a policy has.
_NO_POLICY = "~"


class _Taken(NamedTuple):
    """What became of the rules of one slot: their answers by their places in the request, and what was reserved."""

    answers: dict[int, RateInfo]
    part: Part | None


class Taking:
    """Takes from one store."""

    def __init__(
        self,
        store: RateLimiter,
        *,
        on_cost_error: Callable[[CostError, Rule], None],
        settle: Callable[[Callable[[], None]], None],
    ) -> None:
        """Take from `store`.

        Args:
            store: The store.
            on_cost_error: Called with the error of a bucket that is smaller than the cost of a rule, which denies, and
                with the rule.
            settle: Called with a settlement; runs it, and records its failure.
        """
        self._store = store
        self._partition = store.partition if isinstance(store, Backed) and store.is_split else None
        self._on_cost_error = on_cost_error
        self._settle = settle

    def take_together(self, asked: Sequence[Asked], *, hold: bool) -> Decided:
        """Take for every rule of `asked`, or for none.

        Args:
            asked: The rules and their keys.
            hold: Whether to reserve what is taken although no rule asks for it.
        """
        if self._partition is None:
            # Nearly every request: one call decides.
            try:
                infos, reservation = self._take(asked, hold=hold)
            except CostError:
                # The other rules answer, too: see `_decide`.
                return self._take_by_slots(asked, hold=hold)
            except StoreError as error:
                return Decided([], [], [Failure(error, [each.rule for each in asked])])
            decisions = [(each.rule, info, each.label) for each, info in zip(asked, infos, strict=True)]
            return Decided(decisions, [] if reservation is None else [_part(asked, reservation)], [])
        return self._take_by_slots(asked, hold=hold)

    def _take_by_slots(self, asked: Sequence[Asked], *, hold: bool) -> Decided:
        """Take in one slot after another; refund those before one that denies."""
        slots = self._slots(asked)
        working = [*slots]
        answers: dict[int, RateInfo] = {}
        parts: list[Part] = []
        failures: list[Failure] = []
        for slot in slots:
            try:
                taken = self._decide(asked, slot, hold=hold or len(slots) > 1)
            except StoreError as error:
                failures.append(Failure(error, [asked[index].rule for index in slot]))
                working.remove(slot)
                if failures[-1].refuses:
                    self._refund(parts)
                    return Decided([], [], failures)
                continue
            if any(not info.allowed and not asked[index].rule.shadow for index, info in taken.answers.items()):
                self._refund(parts)
                working.remove(slot)
                answers = taken.answers
                for other in working:
                    # Those before it as well: after the refund they have more than they have answered.
                    answers |= self._decide(asked, other, hold=False, is_denied=True).answers
                return Decided(_decisions(asked, answers), [], failures)
            answers |= taken.answers
            if taken.part is not None:
                parts.append(taken.part)
        return Decided(_decisions(asked, answers), parts if hold else self._kept(parts), failures)

    def _slots(self, asked: Sequence[Asked]) -> list[list[int]]:
        """Return the places of the rules, slot by slot: last the slots of which all rules are in shadow mode."""
        if self._partition is None or len(asked) < 2:
            return [[*range(len(asked))]]
        slots = self._partition([each.key for each in asked])
        return sorted(slots, key=lambda slot: all(asked[index].rule.shadow for index in slot))

    def _decide(self, asked: Sequence[Asked], slot: Sequence[int], *, hold: bool, is_denied: bool = False) -> _Taken:
        """Decide by the rules of one slot: take for all, or for none.

        Args:
            asked: The rules of the request, and their keys.
            slot: The places of the rules of the slot.
            hold: Whether to reserve.
            is_denied: Whether the request is denied whatever these rules answer: then nothing is taken.

        Raises:
            StoreError: The store failed; nothing was taken.
        """
        over: dict[int, RateInfo] = {}
        while True:
            rest = [index for index in slot if index not in over]
            rules, reservation = [asked[index] for index in rest], None
            try:
                if is_denied or any(not asked[index].rule.shadow for index in over):
                    infos = self._look(rules)
                else:
                    infos, reservation = self._take(rules, hold=hold)
            except CostError as error:
                index = rest[error.index]
                self._on_cost_error(error, asked[index].rule)
                over[index] = RateInfo(False, error.limit, 0, 0)
            else:
                part = None if reservation is None else _part(rules, reservation)
                return _Taken(over | dict(zip(rest, infos, strict=False)), part)

    def _take(self, asked: Sequence[Asked], *, hold: bool) -> tuple[list[RateInfo], Reservation | None]:
        if not asked:
            return [], None
        shadow = _shadow(asked)
        if hold or any(each.rule.reserves for each in asked):
            reservation = self._store.reserve(_reserves(asked), shadow=shadow)
            return reservation.infos, reservation if reservation.allowed else None
        takes: list[KeyTake] = [
            (each.key, each.rule.limit, each.rule.cost) for each in asked if isinstance(each.rule.limit, Quota)
        ]
        if len(asked) == 1 and not shadow:
            # Much cheaper than `take_all`.
            ((key, quota, cost),) = takes
            return [self._store.take(key, cost, quota)], None
        return self._store.take_all(takes, shadow=shadow), None

    def _look(self, asked: Sequence[Asked]) -> list[RateInfo]:
        """Return the answers to a request that is denied in any case, and take nothing; none if the store fails.

        Raises:
            CostError: The bucket of a rule is smaller than its cost.
        """
        if not asked:
            return []
        # A call that asks for two units of a concurrency limit of one is denied, so it takes nothing for the others.
        denial: list[KeyReserve] = [(_NO_POLICY + asked[0].key, Concurrency(1), 1)] * 2
        try:
            return self._store.reserve([*_reserves(asked), *denial], shadow=_shadow(asked)).infos[: len(asked)]
        except CostError:
            raise
        except StoreError:
            return []

    def _refund(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self._settle(part.reservation.refund)

    def _kept(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that the response settles; commit the others at once."""
        kept = []
        for part in parts:
            if any(rule.reserves for rule in part.rules):
                kept.append(part)
            else:
                self._settle(part.reservation.commit)
        return kept


def _decisions(asked: Sequence[Asked], answers: dict[int, RateInfo]) -> list[Decision]:
    return [(asked[index].rule, answers[index], asked[index].label) for index in sorted(answers)]


def _part(asked: Sequence[Asked], reservation: Reservation) -> Part:
    return Part([each.rule for each in asked], reservation)


def _reserves(asked: Sequence[Asked]) -> list[KeyReserve]:
    return [(each.key, each.rule.limit, each.rule.cost) for each in asked]


def _shadow(asked: Sequence[Asked]) -> list[int]:
    return [index for index, each in enumerate(asked) if each.rule.shadow]
