"""Every store refuses an argument that it cannot use: the wrong call raises one error, and changes nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, NamedTuple

import pytest

from shm_store import Concurrency, CostTypeError, Quota, ShmStore
from shm_store.redis import Order, RedisStore
from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseStore
from tests.contract.conftest import KINDS, open_kind
from tests.engines import Server
from tests.segments import new_segment_name
from tests.wrong import DURATION, HUGE, LIMIT, QUOTA, SECONDS, TEXT, TIMEOUT, Kind, is_none, refused

KEY: Final = "client:203.0.113.7"
STORES: Final = (ShmStore, RedisStore, BookkeepingStore, FallbackStore, LeaseStore)

COST: Final = Kind((int,), (0, -1, 6, 2**70, -HUGE, HUGE))
USED: Final = Kind((int,), (-1, 2**63, HUGE))
TAKES: Final = Kind((list, tuple))
POSITIONS: Final = Kind((list, tuple, set), ([1], [-1], [HUGE]))
POSITION: Final = Kind((int,), (1, -1, HUGE))
KEYS: Final = Kind((list, tuple, str))
LIMITS: Final = Kind((Quota, Concurrency), also=is_none)


class Case(NamedTuple):
    """One argument of one method: how to give it, what it may be, and what an error calls it."""

    call: Callable[[Any, Any], object]
    kind: Kind
    setting: str


def _attempt(method: str, argument: str) -> Callable[[Any, Any], object]:
    """Return what gives one argument of a method, and a key beside it."""
    return lambda store, value: getattr(store, method)(**{"key": KEY, argument: value})


def _waiting(method: str) -> dict[tuple[str, str], list[Case]]:
    """Return the cases of a method that waits for one bucket or for several."""

    def acquire(store: Any, **given: Any) -> object:  # noqa: ANN401
        return _answered(getattr(store, method)(**{"key": KEY, "timeout": 0} | given))

    return {
        (method, "key"): [
            Case(lambda store, value: acquire(store, key=value), KEYS, "key"),
            Case(lambda store, value: acquire(store, key=[value]), Kind((tuple,), ((), ("x", None))), "takes[0]"),
            Case(lambda store, value: acquire(store, key=[(value, None, 1)]), TEXT, "key of takes[0]"),
            Case(lambda store, value: acquire(store, key=[(KEY, value, 1)]), QUOTA, "quota of takes[0]"),
            Case(lambda store, value: acquire(store, key=[("other", None, 1), (KEY, None, value)]), COST, "cost"),
        ],
        (method, "timeout"): [
            Case(lambda store, value: acquire(store, timeout=value), TIMEOUT, "timeout"),
            Case(lambda store, value: acquire(store, key=[(KEY, None, 1)], timeout=value), TIMEOUT, "timeout"),
        ],
        (method, "cost"): [Case(lambda store, value: acquire(store, cost=value), COST, "cost")],
        (method, "quota"): [Case(lambda store, value: acquire(store, quota=value), QUOTA, "quota")],
    }


#: By the method and its argument; several where an argument has parts.
CASES: Final[dict[tuple[str, str], list[Case]]] = {
    **{
        (method, argument): [Case(_attempt(method, argument), kind, argument)]
        for method in ("take", "peek")
        for argument, kind in (("key", TEXT), ("cost", COST), ("quota", QUOTA))
    },
    **{case: cases for method in ("acquire", "acquire_async") for case, cases in _waiting(method).items()},
    **{
        (method, "key"): [Case(_attempt(method, "key"), TEXT, "key")]
        for method in ("get", "reset", "unblock", "digest")
    },
    ("take_all", "takes"): [
        Case(lambda store, value: store.take_all(value), TAKES, "takes"),
        Case(lambda store, value: store.take_all([value]), Kind((tuple,), ((), ("x", None), ("x",) * 4)), "takes[0]"),
        Case(lambda store, value: store.take_all([(value, None, 1)]), TEXT, "key of takes[0]"),
        Case(lambda store, value: store.take_all([(KEY, value, 1)]), QUOTA, "quota of takes[0]"),
        Case(lambda store, value: store.take_all([(KEY, None, value)]), COST, "cost"),
    ],
    ("take_all", "shadow"): [
        Case(lambda store, value: store.take_all([(KEY, None, 1)], shadow=value), POSITIONS, "shadow"),
        Case(lambda store, value: store.take_all([(KEY, None, 1)], shadow=[value]), POSITION, "shadow"),
    ],
    ("reserve", "key"): [
        Case(lambda store, value: store.reserve(value), KEYS, "key"),
        Case(lambda store, value: store.reserve([(value, None, 1)]), TEXT, "key of takes[0]"),
        Case(lambda store, value: store.reserve([(KEY, value, 1)]), LIMITS, "quota of takes[0]"),
        Case(lambda store, value: store.reserve([("other", None, 1), (KEY, Concurrency(5), value)]), COST, "cost"),
    ],
    ("reserve", "cost"): [Case(_attempt("reserve", "cost"), COST, "cost")],
    ("reserve", "quota"): [Case(_attempt("reserve", "quota"), LIMITS, "quota of takes[0]")],
    ("reserve", "shadow"): [Case(_attempt("reserve", "shadow"), POSITIONS, "shadow")],
    ("reserve", "timeout"): [
        Case(_attempt("reserve", "timeout"), TIMEOUT, "timeout"),
        Case(lambda store, value: store.reserve([(KEY, None, 1)], timeout=value), TIMEOUT, "timeout"),
        Case(lambda store, value: store.reserve(KEY, 1, Concurrency(5), timeout=value), TIMEOUT, "timeout"),
    ],
    ("set", "key"): [Case(lambda store, value: store.set(value, 9, "1s"), TEXT, "key")],
    ("set", "limit"): [Case(lambda store, value: store.set(KEY, value, "1s"), LIMIT, "limit")],
    ("set", "interval"): [Case(lambda store, value: store.set(KEY, 9, value), DURATION, "interval")],
    ("set", "keep_spent"): [
        Case(lambda store, value: store.set(KEY, 9, "1s", keep_spent=value), Kind((bool,)), "keep_spent")
    ],
    ("block", "key"): [Case(lambda store, value: store.block(value, "1s"), TEXT, "key")],
    ("block", "duration"): [Case(_attempt("block", "duration"), DURATION, "duration")],
    ("begins_burst", "key"): [Case(lambda store, value: store.begins_burst(value, 1.0), TEXT, "key")],
    ("begins_burst", "seconds"): [Case(_attempt("begins_burst", "seconds"), SECONDS, "seconds")],
    ("tally", "policy"): [Case(lambda store, value: store.tally(value), TEXT, "policy")],
    ("check", "limit"): [
        Case(lambda store, value: store.check(value), Kind((Quota, Concurrency)), "limit"),
    ],
    ("lease", "key"): [Case(lambda store, value: store.lease(value, Quota(5, 3), _order(1)), TEXT, "key")],
    ("lease", "quota"): [Case(lambda store, value: store.lease(KEY, value, _order(1)), Kind((Quota,)), "quota")],
    ("lease", "order"): [Case(lambda store, value: store.lease(KEY, Quota(5, 3), value), Kind((Order,)), "order")],
}
#: Methods that only other parts of the library call, and those that open a store.
INTERNAL: Final = frozenset(("leasing", "partition", "open", "attach"))


def _order(cost: int) -> Order:
    return Order("host", 2**20, cost, 0, 0, 1, 0.5, 1)


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[Any]:
    """Every store: five units per three seconds of a clock that stands."""
    with ExitStack() as stack:
        yield open_kind(request.param, new_segment_name(), servers, lambda: 10**12, stack)


def test_argument_that_cannot_be_used_is_one_error(store: Any) -> None:  # noqa: ANN401
    """It names the argument, and is a TypeError if the type is wrong; buckets stay as they are, and none is made."""
    store.take(KEY)
    before = _seen(store)
    for (method, argument), cases in CASES.items():
        for case in cases if hasattr(store, method) else ():
            faults = refused(partial(case.call, store), case.kind, case.setting)
            assert (method, argument, faults) == (method, argument, [])
            assert (method, argument, _seen(store)) == (method, argument, before)


def _answered(answer: Any) -> object:  # noqa: ANN401 - of any method
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


def _seen(store: Any) -> object:  # noqa: ANN401 - any of the stores
    table = store if isinstance(store, ShmStore) else getattr(store, "_table", None)
    return store.get(KEY), table and (table.stats().occupied, table.stats().overrides, table.stats().blocks)


@pytest.mark.parametrize("kind", STORES)
def test_every_argument_of_every_method_has_a_case(kind: type) -> None:
    """A method that is new, or gets an argument, is held to the same."""
    methods = {name: getattr(kind, name, None) for name in dir(kind) if not name.startswith("_")}
    arguments = {
        (name, parameter)
        for name, method in methods.items()
        if callable(method) and name not in INTERNAL
        for parameter in inspect.signature(method).parameters
        if parameter != "self"
    }
    assert arguments - set(CASES) == set()


@pytest.mark.parametrize("method", ["reserve", "acquire", "acquire_async"])
def test_list_of_takes_has_no_cost_and_no_quota_beside_it(store: Any, method: str) -> None:  # noqa: ANN401
    """Each take of the list has a cost and a quota of its own."""
    before = _seen(store)
    for beside in (
        {"cost": 2},
        {"cost": True},
        {"cost": 1.0},
        {"cost": "1"},
        {"quota": Quota(9, "1s")},
        {"quota": "9/s"},
    ):
        with pytest.raises(ValueError, match="leave out cost and quota"):
            _answered(getattr(store, method)([(KEY, None, 1)], **beside))
    assert _seen(store) == before


@pytest.mark.parametrize("takes", [[("one", None, 1)], [("two", None, 1), ("in flight", Concurrency(5), 1)]])
def test_commit_of_what_cannot_be_used_settles_nothing(store: Any, takes: list[Any]) -> None:  # noqa: ANN401
    """Neither of some takes nor of all; a right one settles afterwards."""
    store.take(KEY)
    reservation = store.reserve(takes)
    key, before = takes[0][0], _seen(store)
    rest = [0] * (len(takes) - 1)
    assert refused(lambda value: reservation.commit(value, *rest), USED, "used") == []
    for count in (len(takes) - 1, len(takes) + 1):
        if count:
            with pytest.raises(ValueError, match="one for each take"):
                reservation.commit(*[0] * count)
    assert (_seen(store), store.get(key)) == (before, (5, 4))
    reservation.commit(0, *rest)
    assert store.get(key) == (5, 5)


def test_cost_of_a_wrong_type_says_which_take_it_is(store: Any) -> None:  # noqa: ANN401
    """As one that is out of range does."""
    with pytest.raises(CostTypeError) as caught:
        store.take_all([(KEY, None, 1), ("other", None, "1")])
    assert (caught.value.cost, caught.value.limit, caught.value.index) == ("1", 5, 1)
