"""Run something in a forked child that can never return into the test runner."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Final

FAILED: Final = 70
LIFETIME_S: Final = 120


def in_child(action: Callable[[], object]) -> int:
    """Return the pid of a child that runs `action`, and exits with 0 when that returns, with FAILED when it raises."""
    child = os.fork()
    if child == 0:
        try:
            # A parent that failed meanwhile does not leave it behind.
            signal.alarm(LIFETIME_S)
            action()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever it is, the parent hears of it by the exit status
            traceback.print_exc()
        finally:
            os._exit(FAILED)
    return child


def ended(child: int) -> int:
    """Wait for a child; return its exit status, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
