"""Nearly every request takes a short way. Its outcome, header fields and counts are those of the long way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import falcon
import falcon.testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm_store import Config, ShmStore
from shm_store.core.algorithms import ALGORITHMS
from shm_store.falcon import Headers, RateLimitMiddleware
from shm_store.http.outcome import UNLIMITED
from shm_store.http.taking import Undecided
from shm_store.policy import Policy
from shm_store.testing import FakeClock
from tests.http.exchange import INTEGER_MAX
from tests.segments import new_segment_name

CLIENTS: Final = ("203.0.113.7", "203.0.113.8")
EXAMPLES: Final = 150


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def store(clock: FakeClock) -> Iterator[ShmStore]:
    config = Config(limit=3, initial_size=1024, stripes=1, name=new_segment_name())
    opened = ShmStore.open(config, clock=clock)
    yield opened
    opened.unlink()
    opened.close()


@st.composite
def _policies(draw: st.DrawFn) -> list[Policy]:
    algorithms, intervals = st.sampled_from(sorted(ALGORITHMS)), st.sampled_from(["s", "min", "h"])
    return [
        Policy(
            name=f"p{number}",
            quota=f"{draw(st.integers(1, 7) | st.sampled_from([INTEGER_MAX, INTEGER_MAX + 1]))}/{draw(intervals)}",
            algorithm=draw(algorithms),
            mode=draw(st.sampled_from(["enforce", "enforce", "shadow"])),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


def _counted(middleware: RateLimitMiddleware) -> Counter[Any]:
    counts: Counter[Any] = Counter(middleware.requests)
    for name, outcomes in middleware.counts.items():
        counts.update({(name, outcome): times for outcome, times in outcomes.items()})
    for name, tally in middleware._limiter._running.tallies.items():
        counts[name, "near"] = tally.counts.near_limit
    return counts


def test_short_way_is_the_long_way(store: ShmStore, clock: FakeClock) -> None:
    """Both make one outcome of a request's answers, and raise the same counters."""
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(
        policies=_policies(),
        asked=st.lists(st.tuples(st.sampled_from(CLIENTS), st.sampled_from(["/", "/a"])), min_size=4, max_size=12),
        headers=st.builds(Headers, version=st.sampled_from(["draft-11", "draft-11", None]), legacy=st.booleans()),
        override=st.sampled_from([None, None, 2]),
    )
    def check(policies: list[Policy], asked: Sequence[tuple[str, str]], override: int | None, headers: Headers) -> None:
        store.reset_all()
        middleware = RateLimitMiddleware(store, policies=policies, headers=headers)
        if override is not None:
            store.set(f"p0:client:{CLIENTS[0]}", override, "1h")
        ruleset, deciding = middleware._limiter._running.plan.early, middleware._limiter.deciding
        assert ruleset.said is not None
        for address, path in asked:
            request = falcon.Request(falcon.testing.create_environ(path, remote_addr=address))
            before = _counted(middleware)
            outcome = middleware._limiter.decide(request, "GET", path)
            between = _counted(middleware)
            undecided = Undecided()
            charge = deciding._charge(request, "GET", path, ruleset, undecided, before=UNLIMITED)
            assert ruleset.charges[ruleset.said(request)] == charge
            again = deciding._conclude(request, path, (charge, outcome.decisions, ()), undecided)
            assert (again, undecided) == (outcome, {})
            assert between - before == _counted(middleware) - between
            seen["allowed" if outcome.answer is None else "denied"] += 1
            clock.advance(0.25)

    check()
    assert min(seen["allowed"], seen["denied"]) > EXAMPLES
