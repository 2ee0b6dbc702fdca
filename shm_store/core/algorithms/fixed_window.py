"""`fixed-window`: `limit` units in each window; windows are aligned to multiples of the interval.

A window begins at the epoch and after every interval from there, in both directions. A change of the epoch does not
move the end that is stored. See `window` for the state.

At most `limit` units are taken in a window, and at most twice as many in any time of its length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.window import Windowed


class FixedWindow(Windowed):
    """See the module."""

    name: ClassVar[str] = "fixed-window"
    code: ClassVar[int] = 2
    is_aligned: ClassVar[bool] = True
    lua: ClassVar[tuple[str, ...]] = ("window", "fixed_window")

    def _following(self) -> Callable[[int, int], int]:
        interval_ns, epoch = self.interval_ns, self.epoch

        def following(_: int, now_ns: int) -> int:
            return now_ns + interval_ns - (now_ns - epoch()) % interval_ns

        return following

    def _moved(self, ends_at_ns: int, old_interval_ns: int, now_ns: int) -> int:
        """Return the end of the window that contains `now_ns`.

        With the same interval it is the same window, but none ends later than one that begins now would.
        """
        if now_ns >= ends_at_ns:
            return ends_at_ns
        if old_interval_ns == self.interval_ns:
            return min(ends_at_ns, now_ns + self.interval_ns)
        return self._following()(ends_at_ns, now_ns)
