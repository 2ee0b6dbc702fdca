"""The form of `@limited` for the limit of another service: no second has more calls than the limit."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_store import Config, ShmStore, limited
from shm_store.durations import NS_PER_SECOND
from shm_store.testing import FakeClock

README: Final = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
#: As the README shows it, and limits that leave a remainder of a second.
FORMS: Final = [
    *re.findall(r"(?m)^@(limited\(\"10/second\".*\))$", README),
    'limited("7/second", algorithm="gcra", burst=1, key="api.example.org")',
    'limited("999/second", algorithm="gcra", burst=1, key="api.example.org")',
]
# Times between two calls: none, a part of a second, and some seconds.
IDLE_NS: Final = st.one_of(st.just(0), st.integers(0, NS_PER_SECOND), st.integers(0, 5 * NS_PER_SECOND))
# More than the limit, and not so many that one waits for longer than the README's timeout.
CALLERS: Final = 25
keeps_the_fixtures: Final = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(segment_name: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShmStore]:
    """A store by a clock that passes over each sleep."""
    monkeypatch.setattr("time.sleep", clock.advance)
    with ShmStore.open(Config(initial_size=8, name=segment_name), clock=clock.__call__) as store:
        yield store


def _decorator(form: str, store: ShmStore) -> Callable[..., Any]:
    decorator: Callable[..., Any] = eval(form, {"limited": partial(limited, store=store)})  # noqa: S307 - as above
    return decorator


def _calls(form: str, store: ShmStore, clock: FakeClock, idle_ns: list[int]) -> list[int]:
    """Return the instants of calls, each made some time after the end of the one before."""
    store.reset("api.example.org")
    calls: list[int] = []
    call = _decorator(form, store)(lambda: calls.append(clock()))
    for each in idle_ns:
        clock.advance_to(clock() + each)
        call()
    return calls


def _most_in_a_second(calls: list[int]) -> int:
    """Return the most calls in a second, of all that begin with one of them: no other has more."""
    return max(sum(begin <= call < begin + NS_PER_SECOND for call in calls) for begin in calls)


def test_readme_shows_the_form() -> None:
    assert len(FORMS) == 3


@pytest.mark.parametrize("form", FORMS)
@keeps_the_fixtures
@given(idle_ns=st.lists(IDLE_NS, min_size=1, max_size=60))
def test_no_second_has_more_than_the_limit(store: ShmStore, clock: FakeClock, form: str, idle_ns: list[int]) -> None:
    """Wherever the second begins, and whatever the pauses before and between the calls."""
    limit = int(re.findall(r"\d+", form)[0])
    assert _most_in_a_second(_calls(form, store, clock, idle_ns)) <= limit


def test_no_second_has_more_calls_of_threads(segment_name: str, clock: FakeClock) -> None:
    """Of threads that call at once, one is served at a time."""
    served = Queue[int]()
    with ShmStore.open(Config(initial_size=8, name=segment_name), clock=clock) as store:
        call = _decorator(FORMS[0], store)(lambda: served.put(clock()))
        threads = [threading.Thread(target=call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        calls = [served.get(timeout=10)]
        for left in range(CALLERS - 1, 0, -1):
            clock.wait_for_sleepers(left)
            clock.advance_to(clock.sleepers()[0])
            calls.append(served.get(timeout=10))
        for thread in threads:
            thread.join()
    assert len(calls) == CALLERS
    assert _most_in_a_second(calls) == 10


@pytest.mark.parametrize("form", FORMS[:2])
def test_demand_without_pause_gets_the_limit_each_second(store: ShmStore, clock: FakeClock, form: str) -> None:
    limit = int(re.findall(r"\d+", form)[0])
    assert _most_in_a_second(_calls(form, store, clock, [0] * (5 * limit))) == limit


def test_default_form_has_nearly_twice_the_limit_at_worst(store: ShmStore, clock: FakeClock) -> None:
    """A window whose units go at its end is followed by another."""
    idle_ns = [0, NS_PER_SECOND * 9 // 10, *[0] * 19]
    assert _most_in_a_second(_calls('limited("10/second", key="api.example.org")', store, clock, idle_ns)) == 19
