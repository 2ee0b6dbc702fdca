"""A process that dies or is interrupted anywhere leaves every stripe usable, and no unit is given twice."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from shm_store import Config, Quota, RateInfo, ShmStore, StripeTimeoutError
from shm_store.table.layout import BUSY, IDLE, SEAT_PHASES
from tests.fork import ended, in_child

if TYPE_CHECKING:
    from _typeshed import TraceFunction

LIMIT = 50
OPERATIONS: dict[str, Callable[[ShmStore], object]] = {
    "hot take": lambda store: store.take("known"),
    "denied take": lambda store: store.take("spent"),
    "first take": lambda store: store.take("new"),
    "take of a new quota": lambda store: store.take("known", quota=Quota(LIMIT, "2h")),
    "set": lambda store: store.set("known", LIMIT, "1h"),
    "reset": lambda store: store.reset("known"),
    "peek": lambda store: store.peek("known"),
    "sweep": lambda store: store.garbage_collect(),
}
# One opcode in STEP is tried here; EVERY_OPCODE=1 tries each.
STEP = 1 if os.environ.get("EVERY_OPCODE") else 7


class InterruptedByTestError(Exception):
    """What a signal handler of the application might raise."""


def _open(name: str) -> ShmStore:
    return ShmStore.open(Config(limit=LIMIT, interval="1h", initial_size=8, name=name))


def _prepared(name: str) -> ShmStore:
    """A store that knows two keys, one of them spent, on one stripe."""
    store = _open(name)
    for _ in range(2):
        store.take("known")
    store.take("spent", LIMIT)
    store.take("spent")
    return store


def _at_opcode(number: int, act: Callable[[], None], operation: Callable[[], object]) -> int:
    """Run `operation`, and `act` before its opcode `number`; return how many opcodes there were."""
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


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _require_sound(store: ShmStore) -> None:
    """Every stripe is free and every seat idle once the dead are seen to; the keys admit no more than the limit."""
    for key in ("known", "spent", "new"):
        limit, remaining = store.get(key)
        info = store.take(key)
        assert isinstance(info, RateInfo)
        assert info.remaining <= LIMIT
        assert limit in (0, LIMIT)
        assert 0 <= remaining <= LIMIT
    assert not store.take("spent").allowed
    assert [semaphore.value for semaphore in store._table.segment.semaphores] == [1]
    store._table.recovery.recover_dead(timeout_ns=10**8)
    assert set(store._table.seats.column(SEAT_PHASES)) == {IDLE}


def _length(name: str, operation: Callable[[ShmStore], object]) -> int:
    store = _prepared(name)
    length = _at_opcode(0, _kill, lambda: operation(store))
    store.close()
    store.unlink()
    return length


@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_kill_at_any_opcode_leaves_the_table_sound(segment_name: str, operation: Callable[[ShmStore], object]) -> None:
    """SIGKILL before each opcode in turn: the survivors go on within the lock timeout, and no unit is given twice."""
    length = _length(segment_name, operation)
    assert length > 50
    for number in range(1, length + 1, STEP):
        store = _prepared(segment_name)

        def killed(store: ShmStore = store, number: int = number) -> None:
            # A seat of its own first: with a warm store the operation is the length that was counted.
            store.take("known")
            _at_opcode(number, _kill, lambda: operation(store))

        status = ended(in_child(killed))
        assert status == -signal.SIGKILL or (status == 0 and number > length - 20)
        _require_sound(store)
        store.close()
        store.unlink()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("error", [InterruptedByTestError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_exception_at_any_opcode_leaves_the_table_sound(
    segment_name: str, operation: Callable[[ShmStore], object], error: type[BaseException]
) -> None:
    """An exception before each opcode in turn, in a process that lives on: no stripe stays taken, for it or others."""

    def interrupt() -> None:
        raise error

    length = _length(segment_name, operation)
    store, other = _prepared(segment_name), _open(segment_name)
    for number in range(1, length + 1, STEP):
        store.take("known")
        with contextlib.suppress(error):
            _at_opcode(number, interrupt, lambda: operation(store))
        assert [semaphore.value for semaphore in other._table.segment.semaphores] == [1], number
        other.take("spent")
        store.take("spent")
        store.reset("known")
        store.reset("new")
    _require_sound(store)
    store.close()
    other.close()


@pytest.mark.parametrize("value", [1, 0])
def test_stripe_of_the_dead_is_freed_once(segment_name: str, value: int) -> None:
    """Whether or not a dead process held what its seat is BUSY on, a waiter frees it, and the value is 1."""
    store = _prepared(segment_name)

    def die() -> None:
        store.take("known")
        store._table.seats.pool[0][SEAT_PHASES] = BUSY
        if value == 0:
            store._table.segment.semaphores[0].acquire()
        _kill()

    assert ended(in_child(die)) == -signal.SIGKILL
    _require_sound(store)
    assert store.stats().timeouts == 0
    store.close()


def test_stopped_holder_keeps_its_stripe(segment_name: str) -> None:
    """Nothing is taken from a living process: others time out until it goes on."""
    store = _prepared(segment_name)
    child = in_child(lambda: store._table.stripes.run(0, lambda _record: os.kill(os.getpid(), signal.SIGSTOP)))
    os.waitpid(child, os.WUNTRACED)
    with pytest.raises(StripeTimeoutError) as caught:
        store.take("known")
    assert caught.value.holders == (child,)
    os.kill(child, signal.SIGCONT)
    os.waitpid(child, 0)
    _require_sound(store)
    store.close()


def test_storm_of_kills_gives_no_unit_twice(segment_name: str) -> None:
    """Workers that are killed at random never admit more than the limit, and wedge nothing."""
    limit, kills = 1_000_000, 60
    store = ShmStore.open(Config(limit=limit, interval="1h", initial_size=8, name=segment_name))
    for _ in range(kills):
        child = in_child(lambda: all(store.take("hot") for _ in itertools.count()))
        time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        store.take("hot")
    stats, (_, remaining) = store.stats(), store.get("hot")
    # A worker that died between the unit and its count leaves the unit spent and uncounted.
    assert 0 <= (limit - remaining) - stats.allowed <= kills
    assert stats.timeouts == 0
    store.close()
