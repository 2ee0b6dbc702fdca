"""Takes for one request: by one call of the store, or where that cannot decide by all rules, by several.

Keys of one request may lie in several slots of a cluster, which no script can take from together. Then each slot is
decided on its own, one after the other: a denial refunds the slots before it, and a slot that fails leaves the others
enforced. A bucket that is smaller than the cost of its rule denies. The store then decides on the other buckets alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from shm_store.core.backend import Backed
from shm_store.core.limiter import KeyReserve, RateLimiter
from shm_store.core.reservation import Reservation
from shm_store.errors import CostError, StoreError
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.rules import Rule
from shm_store.http.planning.rulesets import Charge, Ruleset
from shm_store.http.settlement import Reserved
from shm_store.quota import Concurrency
from shm_store.rate_info import RateInfo

# What no name of a policy contains: it makes a key that no policy has, in the slot of one that a policy has.
_NO_POLICY = "~"


class Undecided(dict[Rule, StoreError | None]):
    """The rules that have not decided on a request, each with the error of the store or of its key.

    None instead of an error: another rule has settled the fate of the request.
    """

    @property
    def refuse(self) -> bool:
        """Whether the request is answered 503."""
        return any(error is not None and rule.refuses(error) for rule, error in self.items())

    def fail(self, error: StoreError, rules: Iterable[Rule], log: ErrorLog) -> None:
        """Add rules that cannot decide because of an error, and log it."""
        failed = Undecided.fromkeys(rules, error)
        self |= failed
        refused = any(rule.refuses(error) for rule in failed)
        log.record(error, "request answered with 503" if refused else "request let through without a limit")


def settled(settle: Callable[[], object], log: ErrorLog) -> None:
    """Run a settlement, and log its failure."""
    try:
        settle()
    except StoreError as error:
        log.record(error, "units not given back")


#: The charge of the rules that have decided, their answers, and the reservations to settle.
Taken: TypeAlias = tuple[Charge, Sequence[RateInfo], Sequence[Reserved]]


class Taking:
    """Takes from one store."""

    def __init__(self, store: RateLimiter, log: ErrorLog) -> None:
        self._store = store
        self._log = log
        self._partition = store.partition if isinstance(store, Backed) and store.is_split else None
        #: Whether the keys of one request may lie in several slots.
        self.is_split = self._partition is not None

    def together(
        self, ruleset: Ruleset, takes: Sequence[KeyReserve], *, reserve: bool
    ) -> tuple[Sequence[RateInfo], Reservation | None]:
        """Take for every rule, or for none, by one call of the store; reserve if a rule does, or with `reserve`.

        Returns:
            The answer to each rule, and the reservation if there is one to settle.

        Raises:
            StoreError: The store failed; nothing was taken.
        """
        if reserve or ruleset.reserves:
            reservation = self._store.reserve(takes, shadow=ruleset.shadow)
            return reservation.infos, reservation if reservation.allowed else None
        if ruleset.takes_one:
            # Much cheaper than `take_all`.
            ((key, quota, cost),) = takes
            return [self._store.take(key, cost, quota)], None  # type: ignore[arg-type]  # such a rule has a Quota
        return self._store.take_all(takes, shadow=ruleset.shadow), None  # type: ignore[arg-type]  # see above

    def taken(self, charge: Charge, undecided: Undecided, *, reserve: bool) -> Taken:
        """Take for the rules of a charge; add those that do not decide to `undecided`, which has those without key."""
        if undecided or self.is_split:
            return self.by_slots(charge, undecided, reserve=reserve)
        try:
            infos, reservation = self.together(charge.rules, charge.takes, reserve=reserve)
        except StoreError as error:
            return self.despite(error, charge, undecided, reserve=reserve)
        return charge, infos, () if reservation is None else (Reserved(charge.rules.rules, reservation),)

    def despite(self, error: StoreError, charge: Charge, undecided: Undecided, *, reserve: bool) -> Taken:
        """Do the same as `taken`, after one call of the store for all rules has raised an error."""
        if isinstance(error, CostError):
            # The other rules answer, too.
            return self.by_slots(charge, undecided, reserve=reserve)
        undecided.fail(error, charge.rules.rules, self._log)
        return Charge(charge.rules.of(()), (), ()), (), ()

    def by_slots(self, charge: Charge, undecided: Undecided, *, reserve: bool) -> Taken:
        """Take in one slot after another; refund those before one that denies.

        All rules that do not decide are added to `undecided`. `reserve` reserves even if no rule asks for it.

        Returns:
            The charge of the rules that have decided, their answers, and the reservations to settle. There are no
            reservations if the request is denied, and no answers if an error refuses it.
        """
        answers, reserved = self._answers(charge, undecided, reserve=reserve)
        for index, rule in enumerate(charge.rules.rules):
            if index not in answers:
                undecided.setdefault(rule, None)
        decided = sorted(answers)
        takes = tuple([charge.takes[index] for index in decided])
        decided_charge = Charge(charge.rules.at(decided), takes, tuple([charge.hashes[index] for index in decided]))
        return decided_charge, [answers[index] for index in decided], reserved

    def _answers(
        self, charge: Charge, undecided: Undecided, *, reserve: bool
    ) -> tuple[dict[int, RateInfo], Sequence[Reserved]]:
        rules, slots = charge.rules.rules, [] if undecided.refuse else self._slots(charge)
        working, answers = [*slots], dict[int, RateInfo]()
        reserved: list[Reserved] = []
        for slot in slots:
            try:
                found, part = self._in_slot(charge, slot, reserve=reserve or len(slots) > 1)
            except StoreError as error:
                undecided.fail(error, [rules[index] for index in slot], self._log)
                working.remove(slot)
                if undecided.refuse:
                    _refund(reserved, self._log)
                    return {}, ()
                continue
            if any(not info.allowed and not rules[index].shadow for index, info in found.items()):
                _refund(reserved, self._log)
                working.remove(slot)
                for other in working:
                    # Those before it as well: after the refund they have more than they have answered.
                    found |= self._in_slot(charge, other, reserve=False, is_denied=True)[0]
                return found, ()
            answers |= found
            reserved += [] if part is None else [part]
        return answers, reserved if reserve else self._kept(reserved)

    def _slots(self, charge: Charge) -> list[list[int]]:
        """Return the positions of the rules, slot by slot: last the slots of which all rules are in shadow mode."""
        if self._partition is None or len(charge.takes) < 2:
            return [[*range(len(charge.takes))]] if charge.takes else []
        slots = self._partition([key for key, _, _ in charge.takes])
        return sorted(slots, key=lambda slot: all(charge.rules.rules[index].shadow for index in slot))

    def _in_slot(
        self, charge: Charge, slot: Sequence[int], *, reserve: bool, is_denied: bool = False
    ) -> tuple[dict[int, RateInfo], Reserved | None]:
        """Decide by the rules at some positions: take for all, or for none; for none if the request `is_denied`.

        Raises:
            StoreError: The store failed; nothing was taken.
        """
        over: dict[int, RateInfo] = {}
        while rest := [index for index in slot if index not in over]:
            ruleset, takes = charge.rules.at(rest), [charge.takes[index] for index in rest]
            reservation = None
            try:
                if is_denied:
                    infos = self._look(ruleset, takes)
                else:
                    infos, reservation = self.together(ruleset, takes, reserve=reserve)
            except CostError as error:
                index = rest[error.index]
                rule = charge.rules.rules[index]
                # A denial, as the store works.
                self._log.record(error, f"policy {rule.name} in shadow mode" if rule.shadow else "request denied")
                over[index] = RateInfo(False, error.limit, 0, 0)
                is_denied = is_denied or not rule.shadow
            else:
                part = None if reservation is None else Reserved(ruleset.rules, reservation)
                return over | dict(zip(rest, infos, strict=False)), part
        return over, None

    def _look(self, ruleset: Ruleset, takes: Sequence[KeyReserve]) -> Sequence[RateInfo]:
        """Return the answers to a request that is denied in any case, and take nothing; none if the store fails."""
        # A call that asks for two units of a concurrency limit of one is denied, so it takes nothing for the others.
        denial: list[KeyReserve] = [(_NO_POLICY + takes[0][0], Concurrency(1), 1)] * 2
        try:
            return self._store.reserve([*takes, *denial], shadow=ruleset.shadow).infos[: len(takes)]
        except CostError:
            raise
        except StoreError:
            return []

    def _kept(self, reserved: Sequence[Reserved]) -> list[Reserved]:
        """Return the parts that the response settles; commit the others at once."""
        kept = []
        for part in reserved:
            if any(rule.reserves for rule in part.rules):
                kept.append(part)
            else:
                settled(part.reservation.commit, self._log)
        return kept


def _refund(reserved: Iterable[Reserved], log: ErrorLog) -> None:
    for part in reserved:
        settled(part.reservation.refund, log)
