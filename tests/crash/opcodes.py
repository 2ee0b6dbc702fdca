"""Every operation that takes a stripe, and the means to interrupt one before any of its opcodes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Final, NamedTuple
from unittest import mock

from shm_store import Concurrency, Config, Quota, RateInfo, Reservation, ShmStore
from shm_store.core.backend import Take
from shm_store.operate import audit
from shm_store.table.leases import UNITS, Lease
from shm_store.testing import FakeClock
from tests.dead import dead_seat
from tests.fork import ended, in_child

if TYPE_CHECKING:
    from _typeshed import TraceFunction

LIMIT: Final = 5
INTERVAL_S: Final = 60
SLOTS: Final = 8
#: Slots of a world of two stripes, of a set each.
TWO_STRIPES: Final = 256
#: The hot path counts takes by key if this is not 0.
LABEL_SIZE: Final = 16
#: A take changes one word.
WHOLE: Final = Quota(3, INTERVAL_S, burst=LIMIT, algorithm="gcra")
#: Sevenths of nanoseconds: a take changes two words.
GCRA: Final = Quota(7, INTERVAL_S, burst=LIMIT, algorithm="gcra")
SLIDING: Final = Quota(LIMIT, INTERVAL_S, algorithm="sliding-window")
#: Equal to the default one.
EQUAL: Final = Quota(LIMIT, INTERVAL_S)
SHORTER: Final = Quota(LIMIT, INTERVAL_S / 2)
LONGER: Final = Quota(LIMIT, INTERVAL_S * 2)
#: Asked about for keys of which this host is issued units; nothing else makes it.
LEASED: Final = Quota(100, INTERVAL_S)


class World:
    """A segment and a store on it; the clock stands still."""

    def __init__(self, name: str, slots: int = SLOTS, label_size: int = LABEL_SIZE) -> None:
        self.clock = FakeClock()
        self.config = Config(
            limit=LIMIT, interval=INTERVAL_S, initial_size=slots, min_ttl="1min", name=name, label_size=label_size
        )
        # The same keys are in the same stripes each time: see `_spread`.
        with mock.patch("secrets.token_bytes", lambda size: bytes(range(7, 7 + size))):
            self.store = self.open()

    def open(self) -> ShmStore:
        return ShmStore.open(self.config, clock=self.clock)

    def left(self, key: str, quota: Quota | Concurrency | None) -> int:
        """Take until denied, through the store and its hints, and a new one, in turn; return how many were allowed."""
        # For so long at most, half a take of gcra may deny what it has not taken.
        self.clock.advance(1e-9)
        stores = [self.store, self.open()]
        count = 0
        held: list[Reservation] = []
        while self._take(stores[count % 2], key, quota, held):
            count += 1
        del held
        stores[1].close()
        return count

    def _take(self, store: ShmStore, key: str, quota: Quota | Concurrency | None, held: list[Reservation]) -> bool:
        if quota is LEASED:
            # The processes that are left get no further lease.
            return _take_leased(store, key, units=0).allowed
        if not isinstance(quota, Concurrency):
            return store.take(key, quota=quota).allowed
        held.append(store.reserve(key, 1, quota))
        return held[-1].allowed

    def faults(self) -> list[str]:
        return audit.faults(self.store._table.segment, self.clock())

    def close(self) -> None:
        self.store.close()
        self.store.unlink()


class Operation(NamedTuple):
    """The operation that a test interrupts.

    Attributes:
        prepare: Brings the world to the state before.
        run: The operation.
        left: For each key, how many units may be left afterwards.
        quotas: Of which quota, if not the default one.
        together: Keys that all have lost something, or none.
        slots: Slots of the world.
        label_size: Bytes of its labels.
    """

    prepare: Callable[[World], object]
    run: Callable[[ShmStore], object]
    left: dict[str, set[int]]
    quotas: dict[str, Quota | Concurrency] = {}  # noqa: RUF012 - no test changes it
    together: tuple[str, ...] = ()
    slots: int = SLOTS
    label_size: int = LABEL_SIZE


def _spend(world: World, *keys: str) -> None:
    for key in keys:
        world.store.take(key, LIMIT - 1)
        world.store.take(key)


def _use_two(world: World) -> None:
    for _ in range(2):
        world.store.take("known")


def _use_two_of(*quotas: Quota) -> Callable[[World], None]:
    """Have the store know a key of each quota, by its algorithm and its limit."""

    def prepare(world: World) -> None:
        for quota in quotas:
            for _ in range(2):
                world.store.take(_key(quota), quota=quota)

    return prepare


def _spend_of(quota: Quota) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        for cost in (LIMIT - 1, 1):
            world.store.take("spent", cost, quota)

    return prepare


def _take_of(key: str, quota: Quota, store: ShmStore) -> None:
    store.take(key, 1, quota)


def _key(quota: Quota) -> str:
    return f"{quota.algorithm} {quota.limit}"


def _use_two_and_forget(world: World) -> None:
    _use_two(world)
    world.store.backend.known.clear()


def _set_and_use_two(world: World) -> None:
    world.store.set("known", 9, "1h")
    _use_two(world)


def _block(world: World) -> None:
    _use_two(world)
    world.store.block("known", "1h")


def _fill_set(world: World) -> None:
    for number in range(SLOTS):
        world.store.take(f"key {number}", 2)
        world.clock.advance(0.001)


def _expire(world: World) -> None:
    _use_two(world)
    world.clock.advance(INTERVAL_S + 61)
    _spend(world, "spent")


def _spend_and_wait(world: World) -> None:
    _spend(world, "known")
    world.clock.advance(INTERVAL_S)


def _leave_held(world: World) -> None:
    """A process that died while it held the stripe."""
    _use_two(world)
    dead_seat(world.store, holds=True)


def _spread(world: World) -> None:
    """Two keys in each of two stripes, with one unit taken of one of them."""
    stripes = {key: world.store.backend.place(key).stripe for key in FOUR}
    assert stripes == {"alpha": 0, "beta": 1, "gamma": 1, "delta": 0}
    world.store.take_all([(key, None, 1) for key in FOUR])
    world.store.take("beta")


def _know_four(world: World) -> None:
    """Two keys in each of two stripes, all of which the store knows."""
    for _ in range(2):
        _take_four(world.store)


def _spread_and_wait(world: World) -> None:
    _spread(world)
    world.clock.advance(INTERVAL_S)


def _spread_and_spend(world: World) -> None:
    _spread(world)
    world.store.take("gamma", LIMIT - 1)


def _take_four(store: ShmStore) -> None:
    store.take_all([(key, None, 1) for key in FOUR])


def _reserve_and_settle(store: ShmStore) -> None:
    with store.reserve([("alpha", None, 2), ("beta", None, 2), ("in flight", AT_ONCE, 1)]) as reservation:
        reservation.commit(1, 3, 0)


def _reserve_two_of(quota: Quota, store: ShmStore) -> None:
    store.reserve(_key(quota), 2, quota).commit(1)


def _book_and_give_up(store: ShmStore) -> None:
    store.backend.settle([(store.backend.book(Take("known", store.quota, LIMIT), 10**15), LIMIT, True)])


def _owe_when_gone(store: ShmStore) -> None:
    reservation = store.reserve("known")
    store.reset("known")
    reservation.commit(LIMIT + 3)


def _hold_one(store: ShmStore) -> None:
    store.reserve("in flight", 1, AT_ONCE).refund()


def _leave_in_flight(world: World) -> None:
    """Units that a process had in flight when it died."""
    world.store.take("known")

    def die() -> None:
        with world.store.reserve("in flight", 2, AT_ONCE):
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_child(die)) == -signal.SIGKILL


def _take_leased(store: ShmStore, key: str, units: int = LIMIT) -> RateInfo:
    """Take from a lease, or from one of so many units that is issued now, if any are."""

    def ask(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        spent = leasing.spend(key, cost, quota or LEASED, patience_ns=10**9)
        if isinstance(spent, RateInfo):
            return spent
        if spent.tag is not None and units:
            ends_ns = store._clock() + 10**9
            lease = Lease(code=UNITS, limit=100, spent=cost, most=units, ends_ns=ends_ns, resets_ns=ends_ns)
            leasing.deposit(spent, lease)
        elif spent.tag is not None:
            leasing.give_up(spent.place, spent.tag)
        return RateInfo(bool(units), 100, 0, 0)

    leasing = store.leasing(ask, "server", LEASED)
    return leasing.take(key, 1, LEASED)


def _take_leased_twice(store: ShmStore) -> None:
    """Take from a lease, and again by the short way."""

    def ask(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        spent = leasing.spend(key, cost, quota or LEASED, patience_ns=10**9)
        assert isinstance(spent, RateInfo)
        return spent

    leasing = store.leasing(ask, "server", LEASED)
    for _ in range(2):
        leasing.take("leased", 1, LEASED)


def _give_up(store: ShmStore) -> None:
    """Forget the leases of a key."""
    store.leasing(store.take, "server", LEASED).forget("leased")


def _recover(store: ShmStore) -> None:
    store._table.recovery.recover_dead(timeout_ns=10**9)


def _take_of_each(store: ShmStore) -> None:
    store.take_all([(_key(quota), quota, 1) for quota in EACH])


FOUR: Final = ("alpha", "beta", "gamma", "delta")
AT_ONCE: Final = Concurrency(3)
#: A quota of each algorithm, and of each number of words that a take changes.
EACH: Final = (Quota(LIMIT, INTERVAL_S), Quota(LIMIT, INTERVAL_S, algorithm="fixed-window"), WHOLE, GCRA, SLIDING)
#: The rest of the four keys afterwards: all have lost a unit, or none has.
_LEFT_OF_FOUR: Final = {
    key: {left, left - 1} for key, left in zip(FOUR, (LIMIT - 1, LIMIT - 2, LIMIT - 1, LIMIT - 1), strict=True)
}


OPERATIONS: Final[dict[str, Operation]] = {
    "hot take": Operation(_use_two, lambda store: store.take("known"), {"known": {LIMIT - 2, LIMIT - 3}}),
    "hot take of several units": Operation(
        _use_two, lambda store: store.take("known", 2), {"known": {LIMIT - 2, LIMIT - 4}}
    ),
    "hot take of an equal quota": Operation(
        _use_two,
        lambda store: store.take("known", quota=EQUAL),
        {"known": {LIMIT - 2, LIMIT - 3}},
    ),
    "hot take of an override": Operation(
        _set_and_use_two, lambda store: store.take("known"), {"known": {9 - 2, 9 - 3}}
    ),
    **{
        f"hot take of {_key(quota)}": Operation(
            _use_two_of(quota),
            partial(_take_of, _key(quota), quota),
            {_key(quota): {LIMIT - 2, LIMIT - 3}},
            quotas={_key(quota): quota},
        )
        for quota in EACH[1:]
    },
    "hot take without labels": Operation(
        _use_two, lambda store: store.take("known"), {"known": {LIMIT - 2, LIMIT - 3}}, label_size=0
    ),
    "denied take": Operation(lambda world: _spend(world, "spent"), lambda store: store.take("spent"), {"spent": {0}}),
    **{
        f"denied take of {_key(quota)}": Operation(
            _spend_of(quota),
            partial(_take_of, "spent", quota),
            {"spent": {0}},
            quotas={"spent": quota},
        )
        for quota in (WHOLE, GCRA, SLIDING)
    },
    "slow take": Operation(
        _use_two_and_forget, lambda store: store.take("known", 2), {"known": {LIMIT - 2, LIMIT - 4}}
    ),
    "first take": Operation(_use_two, lambda store: store.take("new"), {"new": {LIMIT, LIMIT - 1}, "known": {3}}),
    "take that evicts": Operation(
        _fill_set,
        lambda store: store.take("new"),
        # The other keys before the new one, which takes their slots in turn.
        {f"key {number}": {LIMIT - 2} for number in range(1, SLOTS)} | {"new": {LIMIT, LIMIT - 1}},
    ),
    "take that refills": Operation(
        _spend_and_wait,
        lambda store: store.take("known"),
        {"known": {LIMIT, LIMIT - 1}},
    ),
    "take of a longer quota": Operation(
        lambda world: _spend(world, "spent"), lambda store: store.take("spent", quota=LONGER), {"spent": {0}}
    ),
    "take of a shorter quota": Operation(
        lambda world: _spend(world, "spent"), lambda store: store.take("spent", quota=SHORTER), {"spent": {0}}
    ),
    "peek": Operation(_use_two, lambda store: store.peek("known"), {"known": {LIMIT - 2}}),
    "get": Operation(_use_two, lambda store: store.get("known"), {"known": {LIMIT - 2}}),
    "peek of an unknown key": Operation(_use_two_and_forget, lambda store: store.peek("known"), {"known": {LIMIT - 2}}),
    "get of an unknown key": Operation(_use_two_and_forget, lambda store: store.get("known"), {"known": {LIMIT - 2}}),
    "peek and get of sliding-window": Operation(
        _use_two_of(SLIDING),
        lambda store: (store.peek("sliding-window 5", 2, SLIDING), store.get("sliding-window 5")),
        {_key(SLIDING): {LIMIT - 2}},
        quotas={_key(SLIDING): SLIDING},
    ),
    "set": Operation(_use_two, lambda store: store.set("known", 9, "1h"), {"known": {LIMIT - 2, 9 - 2, 9}}),
    "set that keeps what is spent": Operation(
        _use_two, lambda store: store.set("known", 9, "1h", keep_spent=True), {"known": {LIMIT - 2, 9 - 2}}
    ),
    "set of the same": Operation(
        _set_and_use_two,
        lambda store: store.set("known", 9, "1h", keep_spent=True),
        {"known": {9 - 2}},
    ),
    "set before the first take": Operation(
        _use_two, lambda store: store.set("new", 9, "1h", keep_spent=True), {"new": {LIMIT, 9}, "known": {3}}
    ),
    "first take after a set": Operation(
        lambda world: world.store.set("new", 9, "1h"),
        lambda store: store.take("new", quota=GCRA),
        # It adopts the burst.
        {"new": {LIMIT, LIMIT - 1}},
        quotas={"new": GCRA},
    ),
    "reset": Operation(_use_two, lambda store: store.reset("known"), {"known": {LIMIT - 2, LIMIT}}),
    "block": Operation(_use_two, lambda store: store.block("known", "1h"), {"known": {LIMIT - 2, 0}}),
    "block of a new key": Operation(
        _use_two, lambda store: store.block("new", "1h"), {"new": {LIMIT, 0}, "known": {3}}
    ),
    "take of a blocked key": Operation(_block, lambda store: store.take("known"), {"known": {0}}),
    "unblock": Operation(_block, lambda store: store.unblock("known"), {"known": {0, LIMIT - 2}}),
    "sweep": Operation(_expire, lambda store: store.garbage_collect(), {"known": {LIMIT}, "spent": {0}}),
    "take of gcra": Operation(
        lambda world: world.store.take("known", 2, GCRA),
        lambda store: store.take("known", quota=GCRA),
        {"known": {LIMIT - 2, LIMIT - 3}},
        quotas={"known": GCRA},
    ),
    "take of another algorithm": Operation(
        lambda world: world.store.take("known", 2, GCRA),
        lambda store: store.take("known", quota=SLIDING),
        {"known": {LIMIT - 2, LIMIT - 3}},
        quotas={"known": SLIDING},
    ),
    "take_all": Operation(_spread, _take_four, _LEFT_OF_FOUR, together=FOUR, slots=TWO_STRIPES),
    "take_all of known keys": Operation(
        _know_four,
        _take_four,
        {key: {LIMIT - 2, LIMIT - 3} for key in FOUR},
        together=FOUR,
        slots=TWO_STRIPES,
    ),
    "take_all of each algorithm": Operation(
        _use_two_of(*EACH),
        _take_of_each,
        {_key(quota): {LIMIT - 2, LIMIT - 3} for quota in EACH},
        quotas={_key(quota): quota for quota in EACH},
        together=tuple(map(_key, EACH)),
        slots=TWO_STRIPES,
    ),
    "take_all of other quotas": Operation(
        _know_four,
        lambda store: store.take_all([("alpha", LONGER, 1), ("beta", SHORTER, 2), ("gamma", None, 1)]),
        {"alpha": {LIMIT - 2, LIMIT - 3}, "beta": {LIMIT - 2, LIMIT - 4}, "gamma": {LIMIT - 2, LIMIT - 3}},
        quotas={"alpha": LONGER, "beta": SHORTER},
        together=("alpha", "beta", "gamma"),
        slots=TWO_STRIPES,
    ),
    "take_all in shadow mode": Operation(
        _spread_and_spend,
        lambda store: store.take_all([(key, None, 1) for key in FOUR], shadow=[FOUR.index("gamma")]),
        _LEFT_OF_FOUR | {"gamma": {0}},
        together=("alpha", "beta", "delta"),
        slots=TWO_STRIPES,
    ),
    "take_all of new keys": Operation(
        lambda world: world.store.take("known"),
        _take_four,
        {key: {LIMIT, LIMIT - 1} for key in FOUR},
        together=FOUR,
        slots=TWO_STRIPES,
    ),
    "take_all that refills": Operation(
        _spread_and_wait,
        _take_four,
        {key: {LIMIT, LIMIT - 1} for key in FOUR},
        together=FOUR,
        slots=TWO_STRIPES,
    ),
    "take_all that is denied": Operation(
        _spread_and_spend,
        _take_four,
        {"alpha": {LIMIT - 1}, "beta": {LIMIT - 2}, "gamma": {0}, "delta": {LIMIT - 1}},
        slots=TWO_STRIPES,
    ),
    "acquire of several": Operation(
        _spread,
        lambda store: store.acquire([(key, None, 1) for key in FOUR], "1s"),
        _LEFT_OF_FOUR,
        together=FOUR,
        slots=TWO_STRIPES,
    ),
    "reserve with a timeout": Operation(
        _use_two,
        lambda store: store.reserve("known", 2, timeout="1s").commit(1),
        {"known": {LIMIT - 2, LIMIT - 4, LIMIT - 3}},
    ),
    "reserve and settle": Operation(
        _spread,
        _reserve_and_settle,
        # Taken and not settled, settled in part, or in whole; and what is left of beta is less than was used.
        {
            "alpha": {LIMIT - 1, LIMIT - 3, LIMIT - 2},
            "beta": {LIMIT - 2, LIMIT - 4, LIMIT - 5},
            "in flight": {3, 2},
        },
        quotas={"in flight": AT_ONCE},
        slots=TWO_STRIPES,
    ),
    **{
        # Taken and not settled, or settled in part.
        f"reserve of {_key(quota)}": Operation(
            _use_two_of(quota),
            partial(_reserve_two_of, quota),
            {_key(quota): {LIMIT - 2, LIMIT - 4, LIMIT - 3}},
            quotas={_key(quota): quota},
        )
        for quota in (EACH[0], GCRA, SLIDING)
    },
    "turn": Operation(
        _use_two,
        lambda store: store.backend.book(Take("known", store.quota, LIMIT), 10**15),
        {"known": {LIMIT - 2, 0}},
    ),
    "turn that is given up": Operation(_use_two, _book_and_give_up, {"known": {LIMIT - 2, 0}}),
    "debt": Operation(
        _use_two, lambda store: store.reserve("known", 1).commit(LIMIT + 3), {"known": {LIMIT - 2, LIMIT - 3, 0}}
    ),
    "debt of a bucket that is gone": Operation(
        lambda world: world.store.take("known"), _owe_when_gone, {"known": {LIMIT - 1, LIMIT - 2, LIMIT, 0}}
    ),
    "in flight": Operation(
        lambda world: world.store.take("known"), _hold_one, {"in flight": {3, 2}}, quotas={"in flight": AT_ONCE}
    ),
    "in flight of the dead": Operation(
        _leave_in_flight,
        lambda store: store.reserve("in flight", 2, AT_ONCE).refund(),
        {"in flight": {3, 1}},
        quotas={"in flight": AT_ONCE},
    ),
    "sweep of the dead": Operation(
        _leave_in_flight, lambda store: store.garbage_collect(), {"in flight": {3}}, quotas={"in flight": AT_ONCE}
    ),
    "issue of a lease": Operation(
        lambda world: world.store.take("known"),
        lambda store: _take_leased(store, "leased"),
        # A lease of a process that died then is lost.
        {"leased": {0, LIMIT - 1}, "known": {LIMIT - 1}},
        quotas={"leased": LEASED},
    ),
    "take of a lease": Operation(
        lambda world: _take_leased(world.store, "leased"),
        _take_leased_twice,
        {"leased": {LIMIT - 1, LIMIT - 2, LIMIT - 3}},
        quotas={"leased": LEASED},
    ),
    "end of a lease": Operation(
        lambda world: _take_leased(world.store, "leased"),
        _give_up,
        {"leased": {LIMIT - 1, 0}},
        quotas={"leased": LEASED},
    ),
    "recovery": Operation(_leave_held, _recover, {"known": {LIMIT - 2}}),
}


def at_opcode(number: int, act: Callable[[], object], operation: Callable[[], object]) -> int:
    """Run `operation`, and `act` before its opcode `number`; return how many opcodes there were.

    Opcodes are those of every Python frame that the operation enters, the library's and Python's own.
    """
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal count
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == number:
                act()
                other = frame.f_trace
                if other not in (None, trace):
                    # A fork in `act` has it traced otherwise. As after a signal handler, the opcode comes afterwards.
                    other(frame, event, _argument)
        return trace

    # A collection comes at no opcode in particular, and runs finalizers that are no part of the operation.
    gc.disable()
    sys.settrace(trace)
    try:
        operation()
    finally:
        sys.settrace(None)
        gc.enable()
    return count
