"""`top`: what happens in a table, live."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time

import msgspec

from shm_store.cli import pacing
from shm_store.cli.attaching import inspected
from shm_store.cli.codes import SUCCESS
from shm_store.cli.commands.sampling import Frame, Sampler
from shm_store.cli.commands.screen import drawn, most_denied, most_used
from shm_store.cli.options import DEFAULT_NAME, Count, Hash, Interval, JsonLines, Name, Owner
from shm_store.cli.output import console, show_json_line
from shm_store.cli.terminal import Terminal

# Keys of each kind in a JSON object; text has as many as the screen has lines.
_KEYS = 20


def top(
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    interval: Interval = "1s",
    count: Count = None,
    hash_: Hash = False,
    json: JsonLines = False,
) -> int:
    """Show the busiest and the most denied keys, live.

    Until q or Ctrl-C, and without any effect on the table, which need not keep keys: it shows its policies otherwise.
    """
    interval_s = pacing.interval(interval)
    with inspected(name, owner) as inspection:
        frames = _Frames(Sampler(inspection), interval_s, count, hash_=hash_)
        if json:
            frames.print_json()
        elif sys.stdout.isatty():
            frames.draw()
        else:
            frames.print()
    return SUCCESS


class _Frames:
    """Frames, one after the other, in any of their forms."""

    def __init__(self, sampler: Sampler, asked: float, count: int | None, *, hash_: bool) -> None:
        self._sampler = sampler
        self._asked = asked
        self._interval = asked
        self._hash = hash_
        self._frame = sampler.first()
        self._numbers = itertools.count(1) if count is None else range(1, count + 1)

    def print_json(self) -> None:
        """Print an object a line."""
        with pacing.Pace() as pace:
            for _ in self._numbers:
                if not self._next(pace):
                    return
                show_json_line(_document(self._frame, self._interval, hash_=self._hash))

    def print(self) -> None:
        """Print a block of text each, for pipes and files."""
        with pacing.Pace() as pace:
            for _ in self._numbers:
                if not self._next(pace):
                    return
                console().print(drawn(self._frame, self._interval, 80, 24, hash_=self._hash), width=80)

    def draw(self) -> None:
        """Draw on the whole screen of a terminal, and leave it as it was."""
        terminal = Terminal()

        def draw_frame() -> None:
            width, height = terminal.size
            terminal.draw(drawn(self._frame, self._interval, width, height, hash_=self._hash))

        def suspend() -> None:
            terminal.leave()
            os.kill(os.getpid(), signal.SIGSTOP)
            terminal.enter()
            draw_frame()

        with pacing.Pace({signal.SIGWINCH: draw_frame, signal.SIGTSTP: suspend}) as pace, terminal:
            draw_frame()
            for _ in self._numbers:
                if not self._next(pace):
                    return
                draw_frame()

    def _next(self, pace: pacing.Pace) -> bool:
        if not pace.wait(self._interval):
            return False
        self._frame = self._sampler.look()
        self._interval = pacing.affordable(self._asked, self._frame.cost)
        return True


def _document(frame: Frame, interval: float, *, hash_: bool) -> dict[str, object]:
    stats, rates = frame.stats, frame.rates
    keys = frame.keys
    if keys is not None and hash_:
        keys = [msgspec.structs.replace(used, key=None) for used in keys]
    return {
        "name": stats.name,
        "time": time.time(),
        "seconds": rates.end - rates.begin,
        "interval": interval,
        "allowed_per_second": rates.allowed,
        "denied_per_second": rates.denied,
        "slots": stats.slots,
        "occupied": stats.occupied,
        "sweeper": stats.sweeper,
        "busiest": None if keys is None else most_used(keys)[:_KEYS],
        "most_denied": None if keys is None else most_denied(keys)[:_KEYS],
        "requests": frame.requests,
        "policies": frame.policies,
    }
