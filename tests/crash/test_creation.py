"""A process that ends before any opcode of making or removing a segment wedges nothing, and leaves nothing behind.

`make test` tries some of the opcodes, `make soak` (EVERY_OPCODE=1) each.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from shm_store import Config, ConfigurationError, ShmStore
from shm_store.table.segment import layout
from shm_store.table.segment.lifetime import unlink
from tests.crash.opcodes import at_opcode
from tests.fork import ended, in_child

EVERY: Final = bool(os.environ.get("EVERY_OPCODE"))
TRIED: Final = 40
#: The operation is some opcodes shorter or longer each time: it may end before the last part of them.
CERTAIN: Final = 0.95
SHM: Final = Path("/dev/shm")
UNFINISHED: Final = layout.MAGIC_UNFINISHED.to_bytes(layout.WORD, "little")


def _create(name: str) -> None:
    ShmStore.open(Config(name=name, limit=5, initial_size=256, stripes=2)).close()


def _leave_unfinished(name: str) -> None:
    Path(SHM, name).write_bytes(UNFINISHED)
    Path(SHM, f"sem.{name}.0").write_bytes(b"")


#: The preparation, and the operation.
OPERATIONS: Final[dict[str, tuple[Callable[[str], object], Callable[[str], object]]]] = {
    "create": (lambda _name: None, _create),
    "create anew": (_leave_unfinished, _create),
    "attach": (_create, _create),
    "unlink": (_create, unlink),
    "unlink semaphores": (lambda name: Path(SHM, f"sem.{name}.1").write_bytes(b""), unlink),
}
every_operation = pytest.mark.parametrize(("prepare", "operation"), OPERATIONS.values(), ids=OPERATIONS)


def _files(name: str) -> list[str]:
    return [path.name for path in SHM.iterdir() if name in path.name]


def _numbers(name: str, prepare: Callable[[str], object], operation: Callable[[str], object]) -> list[int]:
    """Return the opcodes to try: those of an operation in a forked child, as the child itself counts them."""
    prepare(name)
    result, report = os.pipe()
    child = in_child(lambda: os.write(report, str(at_opcode(0, lambda: None, lambda: operation(name))).encode()))
    assert ended(child) == 0
    length = int(os.read(result, 20))
    os.close(result)
    os.close(report)
    unlink(name, force=True)
    return [*range(1, length + 1, 1 if EVERY else length // TRIED + 1), length]


def _require_sound(name: str, *, force: bool = False) -> None:
    """The next process opens the table at once, uses it, and removes it with all of its files."""
    with ShmStore.open(Config(name=name, limit=5, initial_size=256, stripes=2)) as store:
        assert [store.take("a").remaining for _ in range(2)] == [4, 3]
        assert store.inspect().faults() == []
    assert unlink(name, force=force)
    assert _files(name) == []


@pytest.mark.timeout(900)
@every_operation
def test_kill_at_any_opcode_wedges_nothing(
    segment_name: str, prepare: Callable[[str], object], operation: Callable[[str], object]
) -> None:
    """SIGKILL before each opcode in turn."""
    numbers = _numbers(segment_name, prepare, operation)
    for number in numbers:
        prepare(segment_name)
        dying = partial(at_opcode, number, _kill, partial(operation, segment_name))
        expected = (-signal.SIGKILL,) if number < CERTAIN * numbers[-1] else (-signal.SIGKILL, 0)
        assert ended(in_child(dying)) in expected, number
        _require_sound(segment_name)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class InterruptedByTestError(Exception):
    """An error that a signal handler of the application raises."""


def _interrupt() -> None:
    raise InterruptedByTestError


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@every_operation
def test_exception_at_any_opcode_wedges_nothing(
    segment_name: str, prepare: Callable[[str], object], operation: Callable[[str], object]
) -> None:
    """An exception before each opcode in turn, in a process that lives on; it can open the table again itself.

    It may have lost a descriptor, by which it is attached until it ends.
    """
    for number in _numbers(segment_name, prepare, operation):
        prepare(segment_name)
        # The check of a clock reports what the clock raises as an error of its own.
        with suppress(InterruptedByTestError, ConfigurationError):
            at_opcode(number, _interrupt, partial(operation, segment_name))
        _require_sound(segment_name, force=True)
