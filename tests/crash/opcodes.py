"""Every operation that takes a stripe, and the means to interrupt one before any of its opcodes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Final, NamedTuple

from shm_store import Config, Quota, ShmStore
from shm_store.table import audit
from tests.clock import Clock
from tests.dead import dead_seat

if TYPE_CHECKING:
    from _typeshed import TraceFunction

LIMIT: Final = 5
INTERVAL_S: Final = 60
SLOTS: Final = 8
SHORTER: Final = Quota(LIMIT, INTERVAL_S / 2)
LONGER: Final = Quota(LIMIT, INTERVAL_S * 2)


class World:
    """A segment of one stripe and one set, and a store on it; the clock stands still."""

    def __init__(self, name: str) -> None:
        self.clock = Clock()
        self.config = Config(limit=LIMIT, interval=INTERVAL_S, initial_size=SLOTS, min_ttl="1min", name=name)
        self.store = self.open()

    def open(self) -> ShmStore:
        return ShmStore.open(self.config, clock=self.clock)

    def left(self, key: str) -> int:
        """Take until denied, through the store and its hints, and a new one, in turn; return how many were allowed."""
        stores = [self.store, self.open()]
        count = 0
        while stores[count % 2].take(key).allowed:
            count += 1
        stores[1].close()
        return count

    def faults(self) -> list[str]:
        return audit.faults(self.store._table.segment, self.clock())

    def close(self) -> None:
        self.store.close()
        self.store.unlink()


class Operation(NamedTuple):
    """What is interrupted.

    Attributes:
        prepare: Brings the world to the state before.
        run: The operation.
        left: For each key, how many units may be left afterwards.
    """

    prepare: Callable[[World], object]
    run: Callable[[ShmStore], object]
    left: dict[str, set[int]]


def _spend(world: World, *keys: str) -> None:
    for key in keys:
        world.store.take(key, LIMIT - 1)
        world.store.take(key)


def _use_two(world: World) -> None:
    for _ in range(2):
        world.store.take("known")


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


def _recover(store: ShmStore) -> None:
    store._table.recovery.recover_dead(timeout_ns=10**9)


OPERATIONS: Final[dict[str, Operation]] = {
    "hot take": Operation(_use_two, lambda store: store.take("known"), {"known": {LIMIT - 2, LIMIT - 3}}),
    "denied take": Operation(lambda world: _spend(world, "spent"), lambda store: store.take("spent"), {"spent": {0}}),
    "slow take": Operation(_use_two, lambda store: store.take("known", 2), {"known": {LIMIT - 2, LIMIT - 4}}),
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
    "set": Operation(_use_two, lambda store: store.set("known", 9, "1h"), {"known": {LIMIT - 2, 9 - 2, 9}}),
    "reset": Operation(_use_two, lambda store: store.reset("known"), {"known": {LIMIT - 2, LIMIT}}),
    "sweep": Operation(_expire, lambda store: store.garbage_collect(), {"known": {LIMIT}, "spent": {0}}),
    "recovery": Operation(_leave_held, _recover, {"known": {LIMIT - 2}}),
}


def at_opcode(number: int, act: Callable[[], None], operation: Callable[[], object]) -> int:
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
        return trace

    sys.settrace(trace)
    try:
        operation()
    finally:
        sys.settrace(None)
    return count
