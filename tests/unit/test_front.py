"""The front, over a back end of a few lines: what the front does for every store, whatever keeps the buckets."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any
from weakref import WeakSet

import pytest

from shm_store import (
    Concurrency,
    ConfigurationError,
    EngineError,
    Quota,
    RateInfo,
    Reservation,
    StoreClosedError,
)
from shm_store.core.backend import Decided, Part, Take
from shm_store.core.front import Front
from shm_store.durations import NS_PER_SECOND
from tests.fork import FORKS, Fork, ended, in_child

FIVE = Quota(5, "1h")
THREE = Concurrency(3)


class Receipt(Decided):
    """Remembers whether a take was settled."""

    is_settled: bool = False


class Units:
    """Keeps units in a dictionary, without any refill; implements `Backend`. Denials promise one in a second."""

    keys: tuple[type, ...] = (str,)
    name, realm, quota, is_split = "units", "units", FIVE, False
    pid = staticmethod(os.getpid)

    def __init__(self, *, is_remote: bool = False, settles_dropped: bool = True) -> None:
        self.is_remote, self.settles_dropped = is_remote, settles_dropped
        self.is_failing, self.is_closed = False, False
        self.spent: dict[str, int] = {}

    def partition(self, keys: Sequence[str]) -> list[list[int]]:
        return [[*range(len(keys))]]

    def check(self, limit: Quota | Concurrency) -> None:
        pass

    def decide(self, takes: Sequence[Take]) -> list[RateInfo]:
        return [each.info for each in self.reserve(takes)]

    def peek(self, take: Take) -> RateInfo:
        left = take.quota.limit - self.spent.get(take.key, 0)
        is_allowed = take.cost <= left
        return RateInfo(is_allowed, take.quota.limit, left, 0, 0 if is_allowed else NS_PER_SECOND)

    def reserve(self, takes: Sequence[Take]) -> list[Decided]:
        infos = [self.peek(take) for take in takes]
        is_taken = all(info.allowed for info in infos)
        for take in takes if is_taken else ():
            self.spent[take.key] = self.spent.get(take.key, 0) + take.cost
        return [Receipt(take, info, is_taken) for take, info in zip(takes, infos, strict=True)]

    def book(self, take: Take, patience_ns: int) -> Decided:
        assert patience_ns
        return self.reserve([take])[0]

    def settle(self, parts: Sequence[Part]) -> None:
        if self.is_closed:
            raise StoreClosedError(self.name)
        if self.is_failing:
            raise EngineError(self.name, "settle", "it fails", "wait")
        for decided, units, _ in parts:
            assert isinstance(decided, Receipt)
            if not decided.is_settled:
                decided.is_settled = True
                self.spent[decided.take.key] -= units

    def abandon(self, _parts: Sequence[Part], caller: FrameType) -> bool:
        assert caller.f_code.co_name == "__del__"
        return self.settles_dropped

    def get(self, key: str) -> tuple[int, int]:
        return FIVE.limit, FIVE.limit - self.spent.get(key, 0)

    def set(self, key: str, quota: Quota, *, keep_spent: bool) -> bool:
        del quota, keep_spent
        return self.spent.pop(key, None) is not None

    def reset(self, key: str) -> bool:
        return self.spent.pop(key, None) is not None

    def close(self) -> None:
        self.is_closed = True


def test_front_fills_in_the_default_quota() -> None:
    """Where a call names none, and for each take of several."""
    front = Front(Units())
    assert front.take("a", 2).remaining == 5
    assert front.peek("a").remaining == 3
    assert [info.limit for info in front.take_all([("a", None, 1), ("b", Quota(9, 1), 1)])] == [5, 9]
    assert front.take_all([]) == []


def test_failed_settlement_is_handed_over_again() -> None:
    """By the next operation, until the back end takes it."""
    units = Units()
    front = Front(units)
    reservation = front.reserve("a", 3)
    units.is_failing = True
    with pytest.raises(EngineError):
        reservation.commit(1)
    front.get("a")
    units.is_failing = False
    assert front.get("a") == (5, 4)


class Failing:
    """A clock of one sleep, in which a settlement of two units fails."""

    def __init__(self, units: Units) -> None:
        self.units, self.reservation, self.slept = units, Front(units).reserve("a", 5), list[int]()

    def __call__(self) -> int:
        return NS_PER_SECOND

    def sleep_until(self, instant_ns: int) -> None:
        assert self.slept == []
        self.slept.append(instant_ns)
        self.units.is_failing = True
        with pytest.raises(EngineError):
            self.reservation.commit(2)
        self.units.is_failing = False

    async def sleep_until_async(self, instant_ns: int) -> None:
        self.sleep_until(instant_ns)


@pytest.mark.parametrize(
    "wait",
    [
        lambda front: front.acquire([("a", None, 2), ("b", None, 1)]),
        lambda front: asyncio.run(front.acquire_async([("a", None, 2), ("b", None, 1)])),
        lambda front: front.reserve("a", 2, timeout="1s").infos,
    ],
    ids=["acquire", "acquire_async", "reserve"],
)
def test_failed_settlement_is_handed_over_in_a_wait(wait: Callable[[Front[str]], list[RateInfo]]) -> None:
    """By its next try, which then has the units."""
    units = Units()
    clock = Failing(units)
    front = Front(units, settlements=clock.reservation._settlements, clock=clock)
    assert all(info.allowed for info in wait(front))
    assert (clock.slept, units.spent["a"]) == ([2 * NS_PER_SECOND], 4)


def test_first_settlement_counts_though_it_failed() -> None:
    """A second one hands over what the first one has said."""
    units = Units()
    front = Front(units)
    reservation = front.reserve("a", 3)
    units.is_failing = True
    with pytest.raises(EngineError):
        reservation.commit(1)
    units.is_failing = False
    reservation.commit(0)
    assert units.spent == {"a": 1}


@pytest.mark.parametrize(("is_remote", "left"), [(False, 0), (True, 4)])
def test_dropped_reservations_are_left_to_later_operations(is_remote: bool, left: int) -> None:  # noqa: FBT001
    """Where no finalizer may settle: to the next one, or to as many as there are if each waits for a server."""
    units = Units(is_remote=is_remote, settles_dropped=False)
    front = Front(units)
    held = [front.reserve(f"k{number}", 1, THREE) for number in range(5)]
    held.clear()
    gc.collect()
    assert sum(units.spent.values()) == 5
    front.peek("other")
    assert sum(units.spent.values()) == left


def test_dropped_reservation_is_settled_at_once_where_it_may() -> None:
    """Units in flight end; the cost of a quota stands."""
    units = Units()
    held = [Front(units).reserve([("in flight", THREE, 2), ("spent", None, 2)])]
    held.clear()
    gc.collect()
    assert units.spent == {"in flight": 0, "spent": 2}


def test_close_ends_units_in_flight_alone() -> None:
    """Spent units stay spent, and nothing comes back afterwards."""
    units = Units()
    front = Front(units)
    reservation = front.reserve([("in flight", THREE, 2), ("spent", None, 2)])
    front.close()
    assert units.spent == {"in flight": 0, "spent": 2}
    with pytest.raises(StoreClosedError):
        reservation.refund()
    assert units.spent == {"in flight": 0, "spent": 2}
    front.close()


def test_close_ends_what_another_thread_takes_meanwhile() -> None:
    """In an operation that it began before: whether the store has begun to look at what is in flight, or not."""
    units = Units()
    front = Front(units)
    takes = [Take(f"k{number}", THREE) for number in range(2)]
    held = [front.reserve("a", 2, THREE)]
    looks = 0

    def add(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal looks
        if event == "call" and frame.f_code is WeakSet.__iter__.__code__ and looks < len(takes):
            take = takes[looks]
            looks += 1
            held.append(Reservation(units.reserve([take]), front._settlements, units))

    sys.setprofile(add)
    try:
        front.close()
    finally:
        sys.setprofile(None)
    assert len(held) == 3
    assert units.spent == {"a": 0, "k0": 0, "k1": 0}


def test_reservation_of_a_store_that_was_closed_meanwhile_holds_nothing() -> None:
    """An operation may be under way in another thread when the store is closed."""
    units = Units()
    front = Front(units)
    take = Take("a", THREE)
    decided = units.reserve([take])
    front._settlements.close()
    reservation = Reservation(decided, front._settlements, units)
    assert (reservation.allowed, units.spent) == (True, {"a": 0})


def test_closed_front_refuses_before_it_looks_at_arguments() -> None:
    """Each operation: a caller hears first that the store is closed."""
    front = Front(Units())
    front.close()
    wrong: list[Any] = [5, None]
    for call in (front.take, front.peek, front.get, front.reset, front.reserve, front.take_all):
        for value in wrong:
            with pytest.raises(StoreClosedError):
                call(value)


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_forked_child_settles_nothing(fork: Fork) -> None:
    """Neither what its parent has reserved, nor what its parent has left for later, nor when it closes."""
    units = Units(settles_dropped=False)
    front = Front(units)
    reservation, dropped = front.reserve("a", 3, THREE), [front.reserve("b", 3, THREE)]
    dropped.clear()
    gc.collect()

    def commit() -> None:
        reservation.commit()
        front.peek("c")
        assert units.spent == {"a": 3, "b": 3}

    def close() -> None:
        front.close()
        assert units.spent == {"a": 3, "b": 3}

    assert [ended(in_child(child, fork)) for child in (commit, close)] == [0, 0]
    reservation.commit()
    front.peek("c")
    assert units.spent == {"a": 0, "b": 0}


def test_key_of_another_type_is_refused() -> None:
    """By the types that the back end names."""
    with pytest.raises(ConfigurationError, match="give a str"):
        Front(Units()).get(5)  # type: ignore[arg-type]
