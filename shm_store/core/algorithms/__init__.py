"""The algorithms by their public names: pure functions of a state and an instant, in exact integers."""

from __future__ import annotations

from typing import Final

from shm_store.core.algorithms.algorithm import (
    FRESH,
    LONGEST_NS,
    NEVER,
    Algorithm,
    Decision,
    State,
    Step,
    TakeWithin,
    Within,
    Word,
    zero,
)
from shm_store.core.algorithms.fixed_window import FixedWindow
from shm_store.core.algorithms.gcra import Gcra
from shm_store.core.algorithms.sliding_window import SlidingWindow
from shm_store.core.algorithms.token_bucket import TokenBucket

__all__ = [
    "ALGORITHMS",
    "BY_CODE",
    "FRESH",
    "LONGEST_NS",
    "NEVER",
    "Algorithm",
    "Decision",
    "State",
    "Step",
    "TakeWithin",
    "Within",
    "Word",
    "zero",
]

#: The only list of them.
ALGORITHMS: Final[dict[str, type[Algorithm]]] = {
    algorithm.name: algorithm for algorithm in (TokenBucket, Gcra, FixedWindow, SlidingWindow)
}
#: By the codes that tables and servers store.
BY_CODE: Final[dict[int, type[Algorithm]]] = {algorithm.code: algorithm for algorithm in ALGORITHMS.values()}
