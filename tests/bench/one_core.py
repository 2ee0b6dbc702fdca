"""One core: what each way to use the library costs, as a ratio to token-bucket's `consume`.

`measure` starts this module as a program once a round.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

import token_bucket

from shm_store import Config, Quota, ShmStore
from tests.bench.figures import Figure, Group, in_turn
from tests.bench.peers import AMPLE, FIXED_WINDOW
from tests.bench.populations import OURS, population
from tests.bench.timing import HOW, Each, Timer, in_processes, keep_to_one_processor, timer, write_times

CONSUME: Final = "consume"
_KEY: Final = "client:203.0.113.7"
_TABLE: Final = 131_072
#: Keys that are there before.
_BEFORE: Final = {"first take, empty table": 0, "first take, 64k live keys": 65_536}
#: First takes in a row, in which limits looks for expired keys every 10 ms, and how many such pieces are timed: few, so
#: that the table does not fill.
_NEW: Final = 4_096
_PIECES: Final = 4
#: Emission intervals of whole nanoseconds, and of none: an hour has no prime factor beyond 5.
_FRACTION: Final = 700_000_000

#: Numbers for their names.
_TABLES: Final = itertools.count()


class Case(NamedTuple):
    """One way to use a store.

    Attributes:
        name: Its name in the tables.
        statement: The timed statement; it may name the store's methods, `key`, `takes` and `each`.
        quotas: The quotas of three keys in `takes`; the first is the store's own.
        each: Given a number, as many objects, the `each` of as many calls; None: nothing.
    """

    name: str
    statement: str
    quotas: tuple[Quota, ...]
    each: Each | None = None


def _quota(algorithm: str, limit: int = AMPLE, interval: str = "1h") -> Quota:
    return Quota(limit, interval, algorithm=algorithm)


_BUCKET: Final = _quota("token-bucket")
_WINDOW: Final = _quota("fixed-window")
_GCRA: Final = _quota("gcra")
_SLIDING: Final = _quota("sliding-window")
_INTERVALS: Final = ("1min", "1h", "1d")


def _three(algorithm: str) -> tuple[Quota, ...]:
    return tuple(_quota(algorithm, interval=interval) for interval in _INTERVALS)


def _new_quotas(count: int) -> Iterable[Quota]:
    return [_quota("token-bucket") for _ in range(count)]


def _two_quotas(count: int) -> Iterable[Quota]:
    return itertools.islice(itertools.cycle(_new_quotas(2)), count)


CASES: Final = (
    Case("hot take, token-bucket", "take(key)", (_BUCKET,)),
    Case("hot take, fixed-window", "take(key)", (_WINDOW,)),
    Case("take of 2 units", "take(key, 2)", (_BUCKET,)),
    Case("take of a key with an override", "take(overridden)", (_BUCKET,)),
    Case("take of a key with an override, gcra", "take(overridden)", (_GCRA,)),
    Case("hot take, gcra", "take(key)", (_GCRA,)),
    Case("hot take, gcra with a fraction", "take(key)", (_quota("gcra", _FRACTION),)),
    Case("hot take, sliding-window", "take(key)", (_SLIDING,)),
    Case("take, a new equal quota each call", "take(key, 1, each)", (_BUCKET,), _new_quotas),
    Case("take, two equal quotas in turn", "take(key, 1, each)", (_BUCKET,), _two_quotas),
    Case("peek", "peek(key)", (_BUCKET,)),
    Case("get", "get(key)", (_BUCKET,)),
    Case("take_all of 3, token-bucket", "take_all(takes)", _three("token-bucket")),
    Case("take_all of 3, fixed-window", "take_all(takes)", _three("fixed-window")),
    Case("take_all of 3, gcra", "take_all(takes)", _three("gcra")),
    Case("take_all of 3, mixed", "take_all(takes)", (_BUCKET, _GCRA, _SLIDING)),
    Case("reserve and commit", "reserve(key, 2).commit(1)", (_BUCKET,)),
)


def measure(*, quick: bool) -> Group:
    """Start a process a round, and return times and ratios."""
    rounds = 6 if quick else 21
    keep_to_one_processor()
    figures = in_processes("tests.bench.one_core", rounds)
    return Group(
        name="one_core",
        how=f"{HOW} First takes: 4,096 in a row, new keys each time, ours and those of limits in a process each.",
        figures=[*figures.values(), *_ratios(figures), *_first_takes(2 if quick else 5)],
    )


def _ratios(figures: dict[str, Figure]) -> Iterator[Figure]:
    for case in CASES:
        yield figures[case.name].over(figures[CONSUME])


def _first_takes(sets: int) -> Iterator[Figure]:
    values: dict[str, tuple[float, ...]] = {}
    for _ in range(sets):
        for figure in _first_takes_of_new_limiters():
            values[figure.name] = (*values.get(figure.name, ()), *figure.values)
    figures = {name: Figure(name, "ns", each) for name, each in values.items()}
    yield from figures.values()
    for name in _BEFORE:
        yield figures[f"{name}, {OURS}"].over(figures[f"{name}, {FIXED_WINDOW}"], f"{name} / {FIXED_WINDOW}")


def _first_takes_of_new_limiters() -> list[Figure]:
    with ExitStack() as stack:
        cases = {}
        for name, start in _BEFORE.items():
            # The first piece is not timed: what a limiter does once only belongs to no round.
            bounds = [0, *range(start + _NEW, start + (_PIECES + 2) * _NEW, _NEW)]
            for limiter in (OURS, FIXED_WINDOW):
                each = stack.enter_context(population(limiter, bounds[-1], AMPLE, 0, _TABLE))
                cases[f"{name}, {limiter}"] = each.first_takes(bounds)
                cases[f"{name}, {limiter}"]()
        return in_turn(cases, _PIECES)


def main() -> None:
    """Time every case."""
    with ExitStack() as stack:
        timers = {CONSUME: timer("consume(key)", {"consume": _consume(), "key": _KEY})}
        timers |= {case.name: _ours(stack.enter_context(_store(case.quotas[0])), case) for case in CASES}
        write_times(timers)


def _consume() -> Callable[[str], object]:
    return token_bucket.Limiter(AMPLE, AMPLE, token_bucket.MemoryStorage()).consume


def _ours(store: ShmStore, case: Case) -> Timer:
    overridden = f"{_KEY}0"
    store.set(overridden, AMPLE + 1, "1h")
    takes = [(f"policy-{number}:{_KEY}", quota, 1) for number, quota in enumerate(case.quotas)]
    names = {name: getattr(store, name) for name in ("take", "peek", "get", "take_all", "reserve")}
    store.take(_KEY)
    return timer(case.statement, names | {"key": _KEY, "overridden": overridden, "takes": takes}, case.each)


@contextmanager
def _store(quota: Quota) -> Iterator[ShmStore]:
    name = f"shm-store-bench-{os.getpid()}-{next(_TABLES)}"
    config = Config(limit=quota.limit, interval=quota.interval, algorithm=quota.algorithm, name=name)
    with ShmStore.open(config) as store:
        try:
            yield store
        finally:
            store.unlink()


if __name__ == "__main__":
    main()
