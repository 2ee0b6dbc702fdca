"""`token-bucket`: a bucket of `limit` tokens that is refilled whole each time an interval elapses.

The intervals are counted from the take that found the bucket fresh, as in sethvargo/go-limiter's memorystore, and
follow one another. See `window` for the state.

At most `limit` tokens are taken in an interval of the bucket, and at most twice as many in any time of that length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.window import Windowed


class TokenBucket(Windowed):
    """See the module."""

    name: ClassVar[str] = "token-bucket"
    code: ClassVar[int] = 0
    lua: ClassVar[tuple[str, ...]] = ("window", "token_bucket")

    def _following(self) -> Callable[[int, int], int]:
        interval_ns = self.interval_ns

        def following(ends_at_ns: int, now_ns: int) -> int:
            return now_ns + interval_ns - ((now_ns - ends_at_ns) % interval_ns if ends_at_ns else 0)

        return following

    def _moved(self, ends_at_ns: int, old_interval_ns: int, now_ns: int) -> int:
        """Return the end of the interval, which keeps its beginning.

        No interval ends later than one that begins now would, even if the quotas are equal: a change that was cut
        short may have left one that does.
        """
        return min(max(ends_at_ns - old_interval_ns, 0), now_ns) + self.interval_ns if ends_at_ns else 0
