"""A process that dies between any two stores of an operation leaves buckets that admit no more than they should.

What dies here is the operation: an exception before the n-th store into a slot, a fingerprint, a journal, a seat or a
stripe's record, for each n. Words that one call of C stores are not parted: they are a log before its commit, or a slot
that no key has yet. The stripe is given back as recovery would, and the survivors go on with what was left (I5, I6, I8,
I13).
"""

from __future__ import annotations

import dis
import itertools
import sys
from collections.abc import Callable, Mapping
from functools import cache
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final

import pytest

from shm_store import Config, Quota, ShmStore
from shm_store.core.backend import Take
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from tests.apart import open_apart

if TYPE_CHECKING:
    from _typeshed import TraceFunction

LIMIT = 5
INTERVAL_S = 3
SLOTS = 8


#: Its emission interval is no whole number of nanoseconds: a take changes two words.
GCRA: Final = Quota(7, INTERVAL_S, burst=LIMIT, algorithm="gcra")
WHOLE: Final = Quota(3, INTERVAL_S, burst=LIMIT, algorithm="gcra")
SLIDING: Final = Quota(LIMIT, INTERVAL_S, algorithm="sliding-window")
#: A quota of each algorithm, and of each number of words that a take changes.
EACH: Final = (Quota(LIMIT, INTERVAL_S), Quota(LIMIT, INTERVAL_S, algorithm="fixed-window"), WHOLE, GCRA, SLIDING)


class DiedError(Exception):
    """The operation ends here."""


# Stores into views of the segment; those into lists and dictionaries are tried as well, and change nothing.
_STORES: Final = {dis.opmap[name] for name in ("STORE_SUBSCR", "STORE_SLICE") if name in dis.opmap}


@cache
def _stores(code: CodeType) -> frozenset[int]:
    """Return where in a function's bytecode the stores are."""
    return frozenset(each.offset for each in dis.get_instructions(code) if each.opcode in _STORES)


class Stores:
    """A trace function that lets a number of stores pass, and ends the operation before the next."""

    def __init__(self, allowed: int) -> None:
        self._left = allowed

    def __call__(self, frame: FrameType, _event: str, _argument: object) -> TraceFunction | None:
        if not frame.f_globals.get("__name__", "").startswith("shm_store.table"):
            return None
        frame.f_trace_opcodes = True
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, _argument: object) -> TraceFunction:
        if event == "opcode" and frame.f_lasti in _stores(frame.f_code):
            self._left -= 1
            # Once: the process that finds the operation dead does the rest.
            if self._left == -1:
                raise DiedError
        return self._on_event


class World:
    """A store that lives on and has hints, and one whose operation dies, unless it gets `done`."""

    def __init__(self, name: str, stores: int) -> None:
        self.done = False
        self.clock = FakeClock()
        self._config = Config(limit=LIMIT, interval=INTERVAL_S, initial_size=SLOTS, name=name, min_ttl="1d")
        self.hinted = self._open()
        self.dying = self._open()
        self._stores = Stores(stores)

    def run(self, operation: Callable[[], object]) -> None:
        """Have the operation die, or be done."""
        former = sys.gettrace()
        sys.settrace(self._stores)
        try:
            operation()
            self.done = True
        except DiedError:
            pass
        finally:
            sys.settrace(former)

    def _open(self) -> ShmStore:
        return open_apart(self._config, clock=self.clock)

    def admitted(self, key: str, quota: Quota | None = None) -> int:
        """Take until denied, by way of a hint and without one in turn."""
        fresh = self._open()
        stores = itertools.cycle((self.hinted, fresh))
        count = sum(
            1 for _ in itertools.takewhile(bool, (next(stores).take(key, 1, quota).allowed for _ in range(9999)))
        )
        fresh.close()
        return count

    def admitted_within(self, key: str, seconds: float, quota: Quota | None = None) -> int:
        """Take all there is, again and again for a while."""
        count = self.admitted(key, quota)
        for _ in range(int(seconds / 0.05)):
            self.clock.advance(0.05)
            count += self.admitted(key, quota)
        return count

    def close(self) -> None:
        for store in (self.hinted, self.dying):
            store.close()
        remove(self._config.name)


Check = Callable[[], None]
Scenario = Callable[[World], tuple[Callable[[], object], Check]]


def take_in_window(world: World) -> tuple[Callable[[], object], Check]:
    world.hinted.take("a", 2)
    world.hinted.take("a")

    def check() -> None:
        assert world.admitted("a") in ((1,) if world.done else (1, 2))

    return lambda: world.dying.take("a"), check


def hot_take(quota: Quota, cost: int = 1) -> Scenario:
    """By a hint of the process that dies."""

    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        _know(world, {"a": quota})
        left = quota.most - 2

        def check() -> None:
            # For so long at most, half a take of gcra may deny what it has not taken.
            world.clock.advance(1e-9)
            assert world.admitted("a", quota) in ((left - cost,) if world.done else (left - cost, left))

        return lambda: world.dying.take("a", cost, quota), check

    return scenario


def hot_take_a_fraction_too_early(world: World) -> tuple[Callable[[], object], Check]:
    """A seventh of a nanosecond before the second unit comes back, half of a take does not bring it back."""
    _know(world, {"a": GCRA})
    world.hinted.take("a", LIMIT - 2, GCRA)
    world.clock.advance(2 * INTERVAL_S * 10**9 // 7 / 10**9)

    def check() -> None:
        assert world.admitted("a", GCRA) in ((0,) if world.done else (0, 1))

    return lambda: world.dying.take("a", 1, GCRA), check


def hot_take_of_an_override(world: World) -> tuple[Callable[[], object], Check]:
    world.hinted.set("a", 9, "1h")
    _know(world, {"a": None})

    def check() -> None:
        assert world.admitted("a") in ((9 - 4,) if world.done else (9 - 4, 9 - 2))

    return lambda: world.dying.take("a", 2), check


def denied_hot_take(quota: Quota) -> Scenario:
    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        _know(world, {"a": quota})

        def check() -> None:
            assert world.admitted("a", quota) == quota.most - 2

        return lambda: world.dying.take("a", quota.most - 1, quota), check

    return scenario


def take_all_of_known_keys(world: World) -> tuple[Callable[[], object], Check]:
    """Of each algorithm, and twice from one key; all or none."""
    quotas = {f"{quota.algorithm} {quota.limit}": quota for quota in EACH}
    _know(world, quotas)

    def check() -> None:
        world.clock.advance(1e-9)
        spent = {quota.most - world.admitted(key, quota) for key, quota in quotas.items()}
        assert spent in (({4},) if world.done else ({4}, {2}))

    takes = [(key, quota, 1) for key, quota in quotas.items()]
    return lambda: world.dying.take_all(takes + takes), check


def take_all_of_other_quotas(world: World) -> tuple[Callable[[], object], Check]:
    """A key may have its new limit, and nothing taken by it; what is taken is taken of all."""
    _know(world, {"a": EACH[0], "b": GCRA, "same": SLIDING})
    new = {"a": Quota(9, "3s"), "b": Quota(11, "3s", burst=9, algorithm="gcra"), "same": SLIDING}

    def check() -> None:
        world.clock.advance(1e-9)
        left = [world.admitted(key, quota) for key, quota in new.items()]
        assert left in (([5, 5, 1],) if world.done else ([5, 5, 1], [7, 7, 3]))

    return lambda: world.dying.take_all([(key, quota, 2) for key, quota in new.items()]), check


def _know(world: World, quotas: Mapping[str, Quota | None]) -> None:
    """Spend two units of each key, and have both processes know all of them."""
    for store in (world.hinted, world.dying):
        for key, quota in quotas.items():
            store.take(key, 1, quota)
            store.peek(key, 1, quota)


def take_that_refills(world: World) -> tuple[Callable[[], object], Check]:
    world.hinted.take("a", LIMIT)
    world.clock.advance(INTERVAL_S + 1)

    def check() -> None:
        assert world.admitted("a") in ((LIMIT - 2,) if world.done else (LIMIT - 2, LIMIT))

    return lambda: world.dying.take("a", 2), check


def first_take(world: World) -> tuple[Callable[[], object], Check]:
    def check() -> None:
        assert world.admitted("new") in ((LIMIT - 2,) if world.done else (LIMIT - 2, LIMIT))

    return lambda: world.dying.take("new", 2), check


def first_take_into_a_full_set(*, victim_returns: bool) -> Scenario:
    """The key that gives way starts afresh; its hint charges no other key."""

    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        keys = [f"key {number}" for number in range(SLOTS)]
        for key in keys:
            world.hinted.take(key, 2)
            world.hinted.take(key)
            world.clock.advance(0.01)

        def check() -> None:
            others = [world.admitted(key) for key in keys[2:]]
            assert others == [LIMIT - 3] * len(others)
            if victim_returns:
                world.hinted.take(keys[0])
            assert world.admitted("new") in ((LIMIT - 2,) if world.done else (LIMIT - 2, LIMIT))

        return lambda: world.dying.take("new", 2), check

    return scenario


def take_with_quota(old: Quota, new: Quota) -> Scenario:
    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        world.hinted.take("a", old.limit - 1, old)
        world.hinted.take("a", 1, old)
        world.clock.advance(1)

        def check() -> None:
            more = max(new.limit - old.limit, 0)
            assert world.admitted("a", new) <= more
            # The window ends where it would have, and no later than one that starts now.
            world.clock.advance(new.interval_ns / 1e9 - 1.001)
            assert world.admitted("a", new) == 0
            world.clock.advance(1.001)
            assert world.admitted("a", new) == new.limit

        return lambda: world.dying.take("a", 1, new), check

    return scenario


def set_over(old: Quota, new: Quota) -> Scenario:
    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        world.hinted.set("a", old.limit, old.interval)
        world.admitted("a")

        def check() -> None:
            seconds = 2
            by_old, by_new = (quota.limit * (1 + -(-seconds * 10**9 // quota.interval_ns)) for quota in (old, new))
            assert world.admitted_within("a", seconds) <= max(by_old, by_new)

        return lambda: world.dying.set("a", new.limit, new.interval), check

    return scenario


def set_of_a_spent_bucket(world: World) -> tuple[Callable[[], object], Check]:
    world.hinted.take("a", LIMIT)

    def check() -> None:
        assert world.admitted("a") in (0, 2, LIMIT)

    return lambda: world.dying.set("a", 2, "1h"), check


def set_that_keeps_what_is_spent(old: Quota, left: int) -> Scenario:
    """By the old quota or by the new one, what was taken is taken; another process's hint knows of it."""

    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        for _ in range(3):
            world.hinted.take("a", 1, old)

        def check() -> None:
            assert world.admitted("a", old) in ((left,) if world.done else (old.most - 3, left))
            assert world.hinted.take("a", 1, old).limit in ((left + 3,) if world.done else (old.most, left + 3))

        return lambda: world.dying.set("a", 9, "1h", keep_spent=True), check

    return scenario


def set_of_the_same(world: World) -> tuple[Callable[[], object], Check]:
    """Neither hints nor reservations end."""
    world.hinted.set("a", 9, "1h")
    reservation = world.hinted.reserve("a", 4)

    def check() -> None:
        reservation.refund()
        assert world.admitted("a") == 9

    return lambda: world.dying.set("a", 9, "1h", keep_spent=True), check


def first_take_after_a_set(world: World) -> tuple[Callable[[], object], Check]:
    """It adopts the algorithm and the burst of that take, entirely or not at all."""
    world.hinted.set("a", 9, "1h")
    quota = Quota(3, "60s", burst=4, algorithm="gcra")

    def check() -> None:
        (entry,) = world.hinted.inspect().entry("a")
        adopted, unasked = ("gcra", 9, 3600.0, 4, True), ("", 9, 3600.0, 9, True)
        found = entry.algorithm, entry.limit, entry.interval, entry.burst, entry.override
        assert found in ((adopted,) if world.done else (adopted, unasked))
        assert world.admitted("a", quota) in ((2,) if world.done else (2, 4))

    return lambda: world.dying.take("a", 2, quota), check


def take_all(world: World) -> tuple[Callable[[], object], Check]:
    """One bucket in its window, one that refills, one of another quota, and a new one."""
    world.hinted.take("refills", LIMIT)
    world.clock.advance(INTERVAL_S)
    world.hinted.take("a", 2)
    world.hinted.take("a")
    world.hinted.take("other quota", 1, Quota(7, "60s"))

    def check() -> None:
        left = [world.admitted(key) for key in ("a", "refills", "other quota", "new")]
        assert left in (([0, 3, 2, 3],) if world.done else ([0, 3, 2, 3], [2, 5, 4, 5]))

    keys = ("a", "refills", "other quota", "new")
    return lambda: world.dying.take_all([(key, None, 2) for key in keys]), check


def refund(world: World) -> tuple[Callable[[], object], Check]:
    def check() -> None:
        assert [world.admitted("a"), world.admitted("b")] in (
            ([LIMIT - 1, LIMIT - 2],)
            if world.done
            # Taken of both or of none; given back of none, of one, or of both.
            else ([LIMIT, LIMIT], *([a, b] for a in (LIMIT - 3, LIMIT - 1) for b in (LIMIT - 3, LIMIT - 2)))
        )

    return lambda: world.dying.reserve([("a", None, 3), ("b", None, 3)]).commit(1, 2), check


def debt(quota: Quota, *, is_gone: bool = False) -> Scenario:
    """All of what was used is charged, or nothing: for three intervals the key has what one has that owes as much."""

    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        reservation = world.dying.reserve("a", 2, quota)
        if is_gone:
            world.hinted.reset("a")

        def check() -> None:
            charged = {12, 12 if world.done else 2 * (not is_gone)}
            for units in charged - {0}:
                world.hinted.reserve(f"charged {units}", 1, quota).commit(units)
            seen = dict.fromkeys(("a", *(f"charged {units}" for units in charged)), 0)
            for _ in range(60 * INTERVAL_S):
                for key in seen:
                    seen[key] += world.admitted(key, quota)
                world.clock.advance(0.05)
            assert seen.pop("a") in seen.values()

        return lambda: reservation.commit(12 + 2 * is_gone), check

    return scenario


def turn(quota: Quota, *, is_given_up: bool = False) -> Scenario:
    """A turn is booked, or it is not; it is given up, or it stays taken."""
    five = Take("a", quota, LIMIT)

    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        world.hinted.take("a", 2, quota)
        booked = world.dying.backend.book(five, 10**15) if is_given_up else None

        def check() -> None:
            # Nothing, the booking, or its settlement as well.
            steps = {1 + is_given_up} if world.done else {is_given_up, 1 + is_given_up}
            for done in steps:
                world.hinted.take(f"{done} done", 2, quota)
                if done:
                    receipt = world.hinted.backend.book(Take(f"{done} done", quota, LIMIT), 10**15)
                    world.hinted.backend.settle([(receipt, LIMIT, True)][: done - 1])
            seen = dict.fromkeys(("a", *(f"{done} done" for done in steps)), 0)
            for _ in range(60 * INTERVAL_S):
                for key in seen:
                    seen[key] += world.admitted(key, quota)
                world.clock.advance(0.05)
            assert seen.pop("a") in seen.values()

        def operation() -> object:
            if booked is None:
                return world.dying.backend.book(five, 10**15)
            return world.dying.backend.settle([(booked, LIMIT, True)])

        return operation, check

    return scenario


def reset(world: World) -> tuple[Callable[[], object], Check]:
    """A hint must not go on with a slot that others no longer find: the key's next slot is another one."""
    world.hinted.take("before")
    world.hinted.take("a")
    world.hinted.take("a")
    world.hinted.take("after", LIMIT - 2)
    world.hinted.reset("before")

    def check() -> None:
        assert world.admitted("a") in ((LIMIT,) if world.done else (LIMIT - 2, LIMIT))
        assert world.admitted("after") == 2

    return lambda: world.dying.reset("a"), check


def sweep(world: World) -> tuple[Callable[[], object], Check]:
    for key in ("a", "b"):
        world.hinted.take(key, LIMIT)
    world.clock.advance(INTERVAL_S + 86_400)
    world.hinted.take("live", LIMIT)

    def check() -> None:
        assert [world.admitted(key) for key in ("a", "b", "live")] == [LIMIT, LIMIT, 0]

    return world.dying.garbage_collect, check


def block(world: World) -> tuple[Callable[[], object], Check]:
    """Hints of the bucket end with it, and nothing that is in the bucket is lost."""
    world.hinted.take("a", 2)
    world.hinted.take("a")

    def check() -> None:
        assert world.admitted("a") in ((0,) if world.done else (0, LIMIT - 3))
        world.clock.advance(11)
        assert world.admitted("a") == LIMIT

    return lambda: world.dying.block("a", 10), check


def block_of_a_new_key(world: World) -> tuple[Callable[[], object], Check]:
    def check() -> None:
        assert world.admitted("new") in ((0,) if world.done else (0, LIMIT))

    return lambda: world.dying.block("new", 10), check


def block_of_a_blocked_key(old_s: float, new_s: float) -> Scenario:
    """It is blocked by the old block or by the new one."""

    def scenario(world: World) -> tuple[Callable[[], object], Check]:
        world.hinted.block("a", old_s)

        def check() -> None:
            assert world.admitted("a") == 0
            world.clock.advance(max(old_s, new_s) - 1)
            by_old, by_new = (LIMIT if seconds < max(old_s, new_s) else 0 for seconds in (old_s, new_s))
            assert world.admitted("a") in ((by_new,) if world.done else (by_old, by_new))
            world.clock.advance(1 + INTERVAL_S)
            assert world.admitted("a") == LIMIT

        return lambda: world.dying.block("a", new_s), check

    return scenario


def unblock(world: World) -> tuple[Callable[[], object], Check]:
    world.hinted.take("a")
    world.hinted.block("a", 10)

    def check() -> None:
        assert world.admitted("a") in ((LIMIT - 1,) if world.done else (0, LIMIT - 1))

    return lambda: world.dying.unblock("a"), check


def reset_all(world: World) -> tuple[Callable[[], object], Check]:
    """Blocks stay; a bucket or an override is forgotten, or as it was."""
    world.hinted.take("a", LIMIT - 1)
    world.hinted.set("own", 2, "1h")
    world.hinted.block("blocked", "1h")

    def check() -> None:
        assert world.admitted("blocked") == 0
        assert world.admitted("a") in ((LIMIT,) if world.done else (1, LIMIT))
        assert world.admitted("own") in ((LIMIT,) if world.done else (2, LIMIT))

    return world.dying.reset_all, check


def sweep_of_blocks(world: World) -> tuple[Callable[[], object], Check]:
    world.hinted.block("was blocked", 1)
    world.hinted.block("blocked", "2d")
    world.clock.advance(1 + 86_400)

    def check() -> None:
        assert [world.admitted(key) for key in ("was blocked", "blocked")] == [LIMIT, 0]

    return world.dying.garbage_collect, check


SCENARIOS: dict[str, tuple[Scenario, int]] = {
    "take in the window": (take_in_window, 1),
    **{f"hot take of {quota.algorithm}, {quota.limit}": (hot_take(quota), 4) for quota in EACH},
    "hot take of several units": (hot_take(EACH[0], 2), 4),
    "hot take of several units of gcra": (hot_take(GCRA, 3), 5),
    "hot take a fraction too early": (hot_take_a_fraction_too_early, 5),
    "hot take of an override": (hot_take_of_an_override, 4),
    **{f"denied hot take of {quota.algorithm}, {quota.limit}": (denied_hot_take(quota), 3) for quota in EACH},
    "take_all of known keys": (take_all_of_known_keys, 30),
    "take_all of other quotas": (take_all_of_other_quotas, 40),
    "take that refills": (take_that_refills, 2),
    "first take": (first_take, 7),
    "first take into a full set": (first_take_into_a_full_set(victim_returns=False), 9),
    "first take into a full set, and the victim's return": (first_take_into_a_full_set(victim_returns=True), 9),
    "shorter interval": (take_with_quota(Quota(5, "60s"), Quota(5, "10s")), 5),
    "much shorter interval": (take_with_quota(Quota(5, "365d"), Quota(5, "10s")), 5),
    "longer interval": (take_with_quota(Quota(5, "10s"), Quota(5, "60s")), 5),
    "higher limit": (take_with_quota(Quota(5, "10s"), Quota(9, "20s")), 5),
    "lower limit": (take_with_quota(Quota(9, "20s"), Quota(5, "10s")), 5),
    "set of a longer interval": (set_over(Quota(5, "200ms"), Quota(1000, "1h")), 6),
    "set of a shorter interval": (set_over(Quota(1000, "1h"), Quota(5, "200ms")), 6),
    "set of a spent bucket": (set_of_a_spent_bucket, 6),
    "set that keeps what is spent": (set_that_keeps_what_is_spent(Quota(5, "60s"), 6), 6),
    "set that keeps what is spent and the burst": (
        set_that_keeps_what_is_spent(Quota(5, "60s", burst=7, algorithm="gcra"), 4),
        6,
    ),
    "set of the same": (set_of_the_same, 1),
    "first take after a set": (first_take_after_a_set, 6),
    "take_all": (take_all, 20),
    "refund": (refund, 16),
    **{f"debt, {quota.algorithm}, {quota.limit}": (debt(quota), 5) for quota in EACH},
    **{f"turn, {quota.algorithm}, {quota.limit}": (turn(quota), 5) for quota in EACH[:-1]},
    **{f"turn that is given up, {quota.algorithm}": (turn(quota, is_given_up=True), 5) for quota in EACH[:-1]},
    **{f"debt of a bucket that is gone, {quota.algorithm}": (debt(quota, is_gone=True), 6) for quota in EACH[:1]},
    "reset": (reset, 2),
    "sweep": (sweep, 4),
    "block": (block, 10),
    "block of a new key": (block_of_a_new_key, 9),
    "longer block": (block_of_a_blocked_key(5, 10), 2),
    "shorter block": (block_of_a_blocked_key(10, 5), 2),
    "unblock": (unblock, 2),
    "reset_all": (reset_all, 5),
    "sweep of blocks": (sweep_of_blocks, 3),
}


@pytest.mark.parametrize(("scenario", "fewest"), SCENARIOS.values(), ids=SCENARIOS)
def test_death_between_any_two_stores(segment_name: str, scenario: Scenario, fewest: int) -> None:
    world, stores = World(segment_name, 0), 0
    while True:
        operation, check = scenario(world)
        world.run(operation)
        assert not world.hinted.inspect().faults()
        check()
        world.close()
        if world.done:
            break
        stores += 1
        world = World(segment_name, stores)
    assert stores >= fewest
