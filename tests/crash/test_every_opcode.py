"""A process that dies or is interrupted before any opcode of any operation leaves a sound table.

`make test` tries some of them, `make soak` (EVERY_OPCODE=1) each.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

import pytest

from shm_store import Concurrency, ForkInOperationError, ShmStore
from tests.crash.opcodes import OPERATIONS, Operation, World, at_opcode
from tests.fork import FAILED, LIFETIME_S, c_fork, ended, in_child

EVERY: Final = bool(os.environ.get("EVERY_OPCODE"))
# After these deaths recovery takes every branch that it takes after twice as many.
TRIED: Final = 15

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


class InterruptedByTestError(Exception):
    """An exception as a signal handler of the application might raise it."""


ERRORS: Final[list[type[BaseException]]] = [InterruptedByTestError, SystemExit, KeyboardInterrupt]
#: Opcodes of an operation so long that each meets one of the errors only.
LONG: Final = 3_000
#: How a child ends that was forked outside of the operation.
BEFORE_OR_AFTER: Final = 71
# Opcodes of a few searches that meet another slot with the same control byte.
_SEARCHES: Final = 100


@contextmanager
def _world(name: str, operation: Operation) -> Iterator[World]:
    world = World(name, operation.slots, operation.label_size)
    try:
        operation.prepare(world)
        yield world
    finally:
        world.close()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _warm(store: ShmStore) -> None:
    """Take a seat, which is not part of the operation, and consume nothing."""
    store._table.seats.pool.append(store._table.seats.claim())


def _require_sound(world: World, operation: Operation) -> None:
    """The survivors go on at once; nothing is left taken or in doubt, no invariant broken, no unit given twice."""
    left = {key: world.left(key, operation.quotas.get(key)) for key in operation.left}
    assert all(left[key] in allowed for key, allowed in operation.left.items()), left
    # All or nothing: each has what it had before, or each has less.
    assert len({left[key] == max(operation.left[key]) for key in operation.together}) <= 1, left
    world.store._table.recovery.recover_dead(timeout_ns=10**8)
    assert world.faults() == []
    assert world.store.stats().timeouts == 0


def _length(name: str, operation: Operation) -> int:
    """Return the number of opcodes of the operation in a forked child, as the child itself counts them."""
    with _world(name, operation) as world:
        # What Python itself remembers of a first run, all children have.
        operation.run(world.store)
    with _world(name, operation) as world:
        result, report = os.pipe()

        def count() -> None:
            _warm(world.store)
            os.write(report, str(at_opcode(0, _kill, partial(operation.run, world.store))).encode())

        assert ended(in_child(count)) == 0
        length = int(os.read(result, 20))
        os.close(result)
        os.close(report)
        return length


def _varying(operation: Operation) -> int:
    """Return how many opcodes fewer an operation may have in another child.

    Where the units of a process in flight belong depends on its pid. A search for them takes longer if it meets another
    slot with the same control byte.
    """
    return _SEARCHES if any(isinstance(quota, Concurrency) for quota in operation.quotas.values()) else 0


def _step(length: int) -> int:
    return 1 if EVERY else length // TRIED + 1


def _interrupted(length: int, error: type[BaseException]) -> range:
    """The opcodes before which to raise `error`: of a long operation, or of some alone, the errors share them out."""
    index, step = ERRORS.index(error), _step(length)
    if EVERY:
        return range(1 + index, length + 1, len(ERRORS)) if length > LONG else range(1, length + 1)
    return range(1 + index * step // len(ERRORS), length + 1, step)


@pytest.mark.timeout(900)
@every_operation
def test_kill_before_any_opcode(segment_name: str, operation: Operation, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL before each opcode in turn, from the first to the last."""
    length = _length(segment_name, operation)
    numbers = {*range(1, length + 1, _step(length)), length}
    varying, killed = _varying(operation), 0
    for number in sorted(numbers | {length + 1}):
        with _world(segment_name, operation) as world:

            def run(world: World = world, number: int = number) -> None:
                _warm(world.store)
                at_opcode(number, _kill, partial(operation.run, world.store))

            status = ended(in_child(run))
            killed += status == -signal.SIGKILL
            if abs(number - length) > varying or not varying:
                assert status == (0 if number > length else -signal.SIGKILL)
            _require_sound(world, operation)
    with capsys.disabled():
        print(f" {killed} of {length} opcodes")
    assert killed >= sum(number <= length - varying for number in numbers)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["hot take", "slow take", "take_all", "in flight", "sweep"])
def test_kill_of_a_child_that_a_c_library_forked(segment_name: str, name: str) -> None:
    """SIGKILL before each opcode in turn of its first operation: it has left alone the seats that its parent uses."""
    operation, number, step = OPERATIONS[name], 1, 1
    while True:
        with _world(segment_name, operation) as world:
            seats = world.store._table.seats
            before = dict(seats._own)

            def run(world: World = world, number: int = number) -> None:
                at_opcode(number, _kill, partial(operation.run, world.store))

            status = ended(in_child(run, c_fork))
            assert before
            assert all(seats.is_quiet(index) for index in before)
            _require_sound(world, operation)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        number += step
        step = 1 if EVERY else number // 10 + 1
    assert number > 100


@pytest.mark.timeout(900)
@every_operation
def test_fork_before_any_opcode(segment_name: str, operation: Operation) -> None:
    """A child that is forked in the middle leaves the operation to its parent, for which nothing has changed."""
    with _world(segment_name, operation) as world:
        _warm(world.store)
        length = at_opcode(0, _kill, partial(operation.run, world.store))
        expected = {key: world.left(key, operation.quotas.get(key)) for key in operation.left}
    numbers, refused = range(1, length + 1 - _varying(operation), _step(length)), 0
    for number in numbers:
        with _world(segment_name, operation) as world:
            parent, forked = os.getpid(), list[int]()

            def fork(parent: int = parent, forked: list[int] = forked) -> None:
                forked.append(os.fork())
                if os.getpid() != parent:
                    signal.alarm(LIFETIME_S)

            _warm(world.store)
            try:
                at_opcode(number, fork, partial(operation.run, world.store))
            except ForkInOperationError:
                os._exit(0 if os.getpid() != parent and sys.gettrace() is None else FAILED)
            finally:
                if os.getpid() != parent:
                    # Before or after the operation, or between two of them.
                    os._exit(BEFORE_OR_AFTER)
            status = ended(forked[0])
            assert status in (0, BEFORE_OR_AFTER), number
            refused += status == 0
            left = {key: world.left(key, operation.quotas.get(key)) for key in operation.left}
            assert status == BEFORE_OR_AFTER or left == expected, number
            assert world.faults() == []
            assert (world.store.stats().timeouts, set(_values(world))) == (0, {1})
    assert refused > 0.8 * len(numbers)


def _values(world: World) -> list[int]:
    return [semaphore.value for semaphore in world.store._table.segment.semaphores]


@pytest.mark.timeout(900)
# Python itself drops an exception of a finalizer, with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", ERRORS)
@every_operation
def test_exception_before_any_opcode(segment_name: str, operation: Operation, error: type[BaseException]) -> None:
    """An exception before each opcode in turn, in a process that lives on: no stripe stays taken, for it or others."""

    def interrupt() -> None:
        raise error

    length = _length(segment_name, operation)
    for number in _interrupted(length, error):
        with _world(segment_name, operation) as world:
            _warm(world.store)
            before = world.store._table.segment.semaphores[0].value
            with suppress(error):
                at_opcode(number, interrupt, partial(operation.run, world.store))
            assert world.store._table.segment.semaphores[0].value in (before, 1), number
            _require_sound(world, operation)
