"""The sweeper process: `python -m shm_store.sweeper --name NAME`, one for each segment.

It reclaims the slots of expired buckets once every TTL interval, writes a heartbeat, and frees what dead processes
held. Limits are exact without it; it keeps the table tidy and recovery prompt.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import StoreError
from shm_store.operate.housekeeping import Housekeeping
from shm_store.table.locking.seats import Role

# Time between two heartbeats, and between two looks for a segment that is not there yet.
BEAT_S: Final = 1.0
_LOOK_S: Final = 0.1
_TOLD: Final = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Becomes true when this process is told to end, or when its master dies."""

    def __init__(self, master: int | None) -> None:
        """Watch for SIGTERM, SIGINT and the death of `master`, the parent process."""
        self._master = master
        self._poll = select.poll()
        told, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker)
        for number in _TOLD:
            signal.signal(number, lambda *_: None)
        # A server may start this process in a thread that blocks signals.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
        self._poll.register(told, select.POLLIN)
        if master is not None:
            # An old kernel or a filter of system calls may lack it: then each wait looks for itself.
            with contextlib.suppress(OSError, AttributeError):
                self._poll.register(os.pidfd_open(master), select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end, for at most `timeout_s`; return whether it has come."""
        # The master may have died before its pid was watched, and the pid may be another's by now.
        is_orphaned = self._master is not None and os.getppid() != self._master
        return is_orphaned or bool(self._poll.poll(timeout_s * 1000))


def run(name: str, wait: Callable[[float], bool], wake: Callable[[], None], owner: str | int | None = None) -> None:
    """Sweep the segment `name`, now or once it exists, until told to stop; end at once if it has a sweeper.

    `wait` waits for at most so many seconds, and returns whether to stop. `wake` has the starting process look after
    its segment: it is there, or gone.

    Raises:
        LayoutMismatchError: What lies under the name is no table of this version.
        OwnershipError: The table belongs to another user.
        BackendError: The operating system refused.
    """
    while not wait(0):
        housekeeping = Housekeeping.attach(name, Role.SWEEPER, owner)
        if housekeeping is None:
            if wait(_LOOK_S):
                return
            continue
        if not housekeeping.become_sweeper():
            housekeeping.close()
            return
        # The master attaches the segment as well, and can tell from then on that it was removed.
        wake()
        try:
            _serve(housekeeping, wait)
        finally:
            housekeeping.close()
            _hand_over(housekeeping)
        wake()


def _serve(housekeeping: Housekeeping, wait: Callable[[float], bool]) -> None:
    """Sweep, beat and recover until told to stop or until the segment is removed."""
    next_pass_ns = time.monotonic_ns()
    while housekeeping.is_linked():
        housekeeping.beat()
        housekeeping.recover_dead()
        begin_ns = time.monotonic_ns()
        if begin_ns >= next_pass_ns:
            for set_index in range(housekeeping.sets):
                if wait(0):
                    return
                # A pass over the largest table takes longer than anyone waits for a heartbeat.
                housekeeping.beat()
                housekeeping.sweep_set(set_index)
            housekeeping.end_pass(time.monotonic_ns() - begin_ns)
            next_pass_ns = time.monotonic_ns() + housekeeping.ttl_interval_ns
        until_pass_s = (next_pass_ns - time.monotonic_ns()) / NS_PER_SECOND
        if wait(max(min(BEAT_S, until_pass_s), 0)):
            return


def _wake(master: int | None) -> None:
    if master is not None and os.getppid() == master:
        os.kill(master, signal.SIGCHLD)


def _hand_over(housekeeping: Housekeeping) -> None:
    """Wake the masters of the segment, each of which looks after its sweeper whenever a child of its ends.

    The place of the sweeper is free already, and a master announces itself before it looks: one of the two sees the
    other.
    """
    for pid in housekeeping.masters():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGCHLD)


def main() -> None:
    """Run the sweeper from the command line."""
    parser = argparse.ArgumentParser(prog="python -m shm_store.sweeper", description=__doc__)
    parser.add_argument("--name", required=True, help="name of the segment")
    parser.add_argument("--owner", help="user, by name or uid, whose segment is trusted besides one's own and root's")
    parser.add_argument("--master", type=int, help="pid of the parent process to end with")
    arguments = parser.parse_args()
    try:
        run(arguments.name, Stop(arguments.master).wait, lambda: _wake(arguments.master), arguments.owner)
    except StoreError as error:
        # One line names the remedy; where it was raised tells the reader nothing more.
        raise SystemExit(f"shm_store.sweeper: {error}") from error
