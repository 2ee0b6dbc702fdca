"""`token-bucket`: a bucket of `limit` tokens that is refilled whole each time an interval elapses.

The intervals are counted from the take that found the bucket fresh, as in sethvargo/go-limiter's memorystore, and
follow one another. See `window` for the state.

At most `limit` tokens are taken in an interval of the bucket, and at most twice as many in any time of that length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from shm_store.core.algorithms.algorithm import Algorithm, State
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

    def _requoted(self, state: State, old: Algorithm, now_ns: int) -> State:
        """Return `state` under this quota: the interval keeps its beginning, and the tokens taken in it.

        No interval ends later than one that begins now would, even if the quotas are equal: a change that was cut
        short may have left one that does.
        """
        units, _, ends_at_ns, _ = state
        if not ends_at_ns:
            return state
        began_ns = max(ends_at_ns - old.interval_ns, 0)
        ends_at_ns = min(began_ns, now_ns) + self.interval_ns
        return units, ends_at_ns, ends_at_ns, 0
