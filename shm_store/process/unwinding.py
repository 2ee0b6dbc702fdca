"""Unwinding: a child that is forked in the middle of an operation does not go on with it; only its parent does.

A signal handler, a finalizer or a clock may call `os.fork` while its thread is inside an operation. If the child went
on, it would store a stale count, and release what its parent holds. So the operation's frames are traced in the child:
the first opcode that one of them would execute raises an error instead, and so does all that would handle the error.
The code that forks is not traced: it may end the child, replace its program, or use the store.

A module whose functions are operations, or parts of one, has `IS_STORE_OPERATION`, or its package has it. Code that
calls the code of users, such as middleware, has not: a child goes on with that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Final, TypeVar

from shm_store.errors import ForkInOperationError

T = TypeVar("T")
_MARK: Final = "IS_STORE_OPERATION"


def operations(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of operations among `frame` and its callers, innermost first."""
    while frame is not None:
        if _is_operation(frame.f_globals):
            yield frame
        frame = frame.f_back


def _is_operation(names: Mapping[str, Any]) -> bool:
    """Whether the module of these names, or its package, has `IS_STORE_OPERATION`."""
    # Not `hasattr`: a package of the program may have a `__getattr__`.
    package = sys.modules.get(getattr(names.get("__spec__"), "parent", ""))
    return _MARK in names or _MARK in getattr(package, "__dict__", ())


def begin() -> None:
    """Unwind, in a child of `os.fork`, each operation that this thread is in the middle of, once it would go on."""
    frames = [*operations(sys._getframe())]  # noqa: SLF001 - documented, underscore and all
    if frames:
        former = getattr(sys.gettrace(), "__self__", None)
        # The child of a child: it has inherited the traces as well.
        unwinding = former if isinstance(former, _Unwinding) else _Unwinding()
        unwinding.add(frames)


class _Unwinding:
    """The frames of one thread that must execute nothing any more, and the means that see to it.

    An error that a trace function raises ends all tracing. From there to the next frame a profile function goes on: it
    refuses the calls of an `except`, a `finally` or a `with`.
    """

    def __init__(self) -> None:
        self._frames: list[FrameType] = []
        self._former = _function(sys.gettrace()), _function(sys.getprofile())
        self._error = ForkInOperationError(os.getpid(), os.getppid())
        # The frame that an exception leaves, and the exception.
        self._leaving: tuple[FrameType | None, BaseException] = None, self._error

    def add(self, frames: list[FrameType]) -> None:
        """Unwind these frames, too."""
        self._frames += [frame for frame in frames if frame not in self._frames]
        self._arm()

    def mark(self) -> None:
        """Have each of the frames traced, whatever else traced it."""
        for frame in self._frames:
            if type(frame.f_trace) is not _Mark:
                frame.f_trace_opcodes = True
                frame.f_trace = _Mark(self)

    def on_event(self, frame: FrameType, event: str, argument: Any) -> None:  # noqa: ANN401 - as Python declares it
        """Let no opcode of a frame be executed; the trace function of the frames."""
        if event == "exception":
            if not isinstance(argument[1], Exception):
                # As by `sys.exit` in the code that forked: it passes.
                self._leaving = frame, argument[1]
        elif event == "return":
            self._drop(frame)
        else:
            sys.setprofile(self._on_call)
            raise self._reason(frame)

    def _on_call(self, frame: FrameType, event: str, _argument: object) -> None:
        """Let nothing be called by a frame that is being left; the profile function."""
        if event == "return" and frame in self._frames:
            self._drop(frame)
            return
        self._arm()
        caller = frame if event == "c_call" else frame.f_back if event == "call" else None
        if caller in self._frames:
            raise self._reason(caller)

    def _reason(self, frame: FrameType | None) -> BaseException:
        leaving, error = self._leaving
        return error if frame is leaving else self._error

    def _ignore(self, *_: object) -> None:
        """Trace no frame that is called from now on."""

    def _arm(self) -> None:
        self.mark()
        sys.setprofile(self._former[1])
        sys.settrace(self._ignore)

    def _drop(self, frame: FrameType) -> None:
        """Forget a frame that was left; after the last one, let others trace again."""
        self._frames.remove(frame)
        self._leaving = None, self._error
        frame.f_trace = None
        self._arm()
        if not self._frames:
            sys.settrace(self._former[0])


def _function(found: T) -> T | None:
    """Return what traces or profiles now; None if that is no function that could be set again, such as cProfile's.

    The child goes on without it.
    """
    return found if callable(found) else None


class _Mark:
    """The trace function of one frame, to which nothing else refers: if it is replaced, it comes back."""

    def __init__(self, unwinding: _Unwinding) -> None:
        self._unwinding = unwinding

    def __call__(self, frame: FrameType, event: str, argument: Any) -> _Mark:  # noqa: ANN401 - as Python declares it
        self._unwinding.on_event(frame, event, argument)
        return self

    def __del__(self) -> None:
        self._unwinding.mark()
