"""Time a hot take of the shared table against an in-process token bucket, and print the ratio."""

from __future__ import annotations

import os
import statistics
import time
from typing import Final

import token_bucket

from shm_store import Config, ShmStore

ROUNDS: Final = 15
TAKES: Final = 50_000
KEY: Final = "client:203.0.113.7"
# More than will be taken: every call finds its key and is allowed.
AMPLE: Final = 1_000_000_000


def main() -> None:
    """Measure both in turn, so that a change in the machine's speed meets both, and print what came out."""
    limiter = token_bucket.Limiter(AMPLE, AMPLE, token_bucket.MemoryStorage())
    shared, local = [], []
    with ShmStore.open(Config(limit=AMPLE, interval="1h", name=f"shm-store-bench-{os.getpid()}")) as store:
        try:
            for _ in range(ROUNDS):
                shared.append(_take_ns(store))
                local.append(_consume_ns(limiter))
        finally:
            store.unlink()
    print(f"{ROUNDS} rounds of {TAKES} calls, ns a call {'min':>12} {'median':>8} {'spread':>8}")
    _print("ShmStore.take", shared, "8.0f")
    _print("token_bucket.Limiter.consume", local, "8.0f")
    _print("ratio, round by round", [ours / theirs for ours, theirs in zip(shared, local, strict=True)], "8.2f")
    print(f"{'ratio of the two minima':40} {min(shared) / min(local):8.2f}")


def _take_ns(store: ShmStore) -> float:
    take = store.take
    assert take(KEY).allowed
    start = time.perf_counter_ns()
    for _ in range(TAKES):
        take(KEY)
    return (time.perf_counter_ns() - start) / TAKES


def _consume_ns(limiter: token_bucket.Limiter) -> float:
    consume = limiter.consume
    assert consume(KEY)
    start = time.perf_counter_ns()
    for _ in range(TAKES):
        consume(KEY)
    return (time.perf_counter_ns() - start) / TAKES


def _print(name: str, figures: list[float], form: str) -> None:
    median = statistics.median(figures)
    spread = (max(figures) - min(figures)) / median
    print(f"{name:40} {min(figures):{form}} {median:{form}} {spread:8.0%}")


if __name__ == "__main__":
    main()
