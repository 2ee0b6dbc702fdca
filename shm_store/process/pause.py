"""A sleep for the middle of an operation."""

from __future__ import annotations

import signal

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`


def pause(seconds: float) -> None:
    """Sleep; what a signal handler raises meanwhile comes through.

    Not `time.sleep`: gevent replaces that by a switch to another greenlet, and one that is suspended in the middle of
    an operation would keep what it holds for as long as the others like.
    """
    # A wait for no signal at all.
    signal.sigtimedwait((), seconds)
