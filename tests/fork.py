"""Run something in a forked child that can never return into the test runner."""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable
from typing import Final

FAILED: Final = 70
LIFETIME_S: Final = 120


Fork = Callable[[], int]
#: A fork as a C library makes it: no hook of Python's runs in the child.
c_fork: Final[Fork] = ctypes.PyDLL(None).fork
#: The ways to fork, for tests that must hold for each.
FORKS: Final[dict[str, Fork]] = {"os.fork": os.fork, "C fork": c_fork}


def in_child(action: Callable[[], object], fork: Fork = os.fork) -> int:
    """Return the pid of a child that runs `action`, and exits with 0 when that returns, with FAILED when it raises."""
    child = fork()
    if child == 0:
        try:
            # A parent that fails does not leave it behind.
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
