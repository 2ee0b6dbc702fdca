"""The form of an algorithm: its traits, and functions of a state and an instant.

All times are integer nanoseconds on the clock of the store, all counts are integers. Every word of a state is in
0 .. 2**64 - 1, provided that limits are at most 2**63 - 1, intervals at most 100 years, a full `burst` comes back
within 100 years, and the clock reads at most 2**63.

A bucket may owe units: `charge` spends what is not there, and takes are denied until the debt is paid off. An algorithm
that `books` may also decide a take now that comes due later. Units that are booked are spent. So a take never comes
before those that were booked earlier.

Every algorithm keeps these rules:

* A denial returns the state it was given.
* A stored state is trusted, however early the clock reads: a clock that stands still or steps back mints nothing.
* From the word `idle_at` on, a bucket is as good as a fresh one. Only a token bucket remembers where windows begin.
* `requoted` leaves no bucket idle later than the new quota can make one at that instant, even if the quota is the same.
* `refund` never mints: without the refunded units, every later take would have been allowed too.
* Under one quota, a window keeps its end until that instant (I12).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple, TypeAlias

#: The stored words of a bucket: four, of 64 bits. Word 1 is `idle_at` of every algorithm.
State: TypeAlias = tuple[int, int, int, int]
FRESH: Final[State] = (0, 0, 0, 0)

#: (allowed, remaining, reset_after_ns, retry_after_ns, state). `remaining` counts the units that a take could get now,
#: after this one if it is allowed. The bucket is full after `reset_after_ns`. If no other take comes, the same take is
#: allowed after `retry_after_ns`, which is 0 if it is allowed now. The caller stores `state`.
Decision: TypeAlias = tuple[bool, int, int, int, State]
#: (state, now_ns, cost) -> decision of a take of `cost` units, 1 to `burst`.
Step: TypeAlias = Callable[[State, int, int], Decision]

#: A view of one word, which `word[()]` reads and writes.
Word: TypeAlias = "memoryview[int]"

#: An instant that no clock reaches.
NEVER: Final = 2**63 - 1
#: 100 years: the longest interval, and how far ahead a bucket may owe or be booked.
LONGEST_NS: Final = 100 * 365 * 86_400 * 10**9
#: The largest word.
WORD_MAX: Final = 2**64 - 1
# The largest limit.
_UNITS_MAX: Final = 2**63 - 1


#: (value, now_ns, cost) -> (value after it, remaining, reset_after_ns, value of the second word after it), or None if
#: the take is denied. The value is that of the first word; the last of the answer is 0 if no second word changes.
TakeWithin: TypeAlias = Callable[[int, int, int], tuple[int, int, int, int] | None]


class Within(NamedTuple):
    """A stretch of time in which takes change one word of a state, or two, and nothing else.

    It holds until `ends_ns`, or until the bucket gets another quota. Refunds may come in between.

    Attributes:
        word: The position of the first of these words in the state.
        ends_ns: The first instant after the stretch.
        take: Decides a take; see `TakeWithin`.
        second: The position of the other word, which is stored later; between the stores, the state is as `ordered`
            says. None if there is one word.
    """

    word: int
    ends_ns: int
    take: TakeWithin
    second: int | None = None


def zero() -> int:
    """Return 0: the epoch of a clock that counts from UTC's zero."""
    return 0


class Algorithm(ABC):
    """How the units of one quota are counted. A subclass is an algorithm, an instance is bound to a quota.

    Args:
        limit: Units per interval.
        interval_ns: The interval.
        burst: Most units at once: `limit`, unless the algorithm has a burst.
        epoch: Returns the instant of UTC's zero on the clock, negative if it lies before the clock's zero. Only an
            algorithm with aligned windows calls it, when a window opens.

    Attributes:
        name: The public name.
        code: The number that a table or a server stores, 0 to 7.
        has_burst: Whether a quota may have a burst other than its limit.
        is_aligned: Whether windows begin at multiples of the interval in UTC.
        books: Whether takes can be booked ahead.
        counts_in_window: Whether units of one window are of no use in the next.
        refunds_by_window: Whether a refund reads only word 2 of the state that the take has left, its window's end.
        lua: The names of its parts of the server's scripts, in their order. The last is its own; it defines a local
            table of that name with the same functions.
        limit: See above.
        interval_ns: See above.
        burst: See above.
        quota: The three of them.
        epoch: See above.
        step: Decides a take.
    """

    name: ClassVar[str]
    code: ClassVar[int]
    has_burst: ClassVar[bool] = False
    is_aligned: ClassVar[bool] = False
    books: ClassVar[bool] = False
    counts_in_window: ClassVar[bool] = False
    refunds_by_window: ClassVar[bool] = False
    lua: ClassVar[tuple[str, ...]]

    step: Step

    def __init__(self, limit: int, interval_ns: int, burst: int, epoch: Callable[[], int] = zero) -> None:
        self.limit = limit
        self.interval_ns = interval_ns
        self.burst = burst
        self.quota = limit, interval_ns, burst
        self.epoch = epoch
        self.step = self._step()

    @abstractmethod
    def _step(self) -> Step:
        """Return `step`, a closure that captures integers: it has no attribute to look up."""

    @abstractmethod
    def within(self, state: State, word: Callable[[int], Word]) -> Within | None:
        """Return the stretch in which takes change one word of `state`, or two.

        Args:
            state: The state that a take has left.
            word: Returns a view of a word of the stored state.

        Returns:
            None if there is no such stretch: no window is open, or takes change more words. Such a bucket is found anew
            for each take, which costs several times as much.
        """

    def ordered(self, state: State, after: State) -> tuple[int, ...] | None:
        """Return the words in which two states differ, in an order in which they may be stored one by one.

        A process may die between two of these stores. Every prefix of them leaves a state that `step` accepts. It
        allows no take that both `state` and `after` deny. It denies no take that both allow, but for a nanosecond.

        Returns:
            None if there is no such order, and all of them must be stored or none.
        """
        changed = tuple(word for word in range(len(FRESH)) if state[word] != after[word])
        return changed if len(changed) <= 1 else None

    def book(self, state: State, now_ns: int, cost: int, patience_ns: int) -> Decision:
        """Decide a take that may come due up to `patience_ns` later; one that cannot be booked is decided by `step`.

        Returns:
            The decision. Of a take that is allowed, `retry_after_ns` is the time until it comes due, 0 for now, and
            `remaining` counts the units left then. A take that comes due too late is denied, with the same time.
        """
        del patience_ns
        return self.step(state, now_ns, cost)

    @abstractmethod
    def charge(self, state: State, now_ns: int, units: int) -> State:
        """Return `state` with units charged that were used already, whether they are there or not.

        It owes the units of at most 100 years.
        """

    @abstractmethod
    def spent(self, state: State, now_ns: int) -> int:
        """Return the units that are not available, rounded up: more than `burst` if some are owed or booked.

        They may also exceed a limit that was lowered.
        """

    @abstractmethod
    def owed(self, state: State, now_ns: int) -> int:
        """Return how many of the spent units are owed or booked: they do not come back first."""

    def current(self, state: State, now_ns: int) -> State:
        """Return a state with the same future, in which no window of a debt has passed."""
        del now_ns
        return state

    @abstractmethod
    def full_at(self, state: State) -> int:
        """Return the first instant, maybe a past one, from which no unit is missing if no take comes."""

    @abstractmethod
    def opened(self, units: int, now_ns: int) -> State:
        """Return the state of a bucket that was fresh, and of which `units` are spent now; 0 or more."""

    def requoted(self, state: State, old: Algorithm, now_ns: int) -> State:
        """Return a state of `old` under this quota, which holds at once.

        Units that are spent now stay spent, and what is owed or booked stays so. `gcra` forgives units beyond its burst
        that are neither.
        """
        if type(old) is type(self):
            return self._requoted(state, old, now_ns)
        owed = old.owed(state, now_ns)
        # More than any limit has would change nothing, and not fit into the words after some turns.
        after = self.opened(min(old.spent(state, now_ns) - owed, _UNITS_MAX), now_ns)
        return self.charge(after, now_ns, owed) if owed else after

    @abstractmethod
    def _requoted(self, state: State, old: Algorithm, now_ns: int) -> State:
        """Return a state of the same algorithm under this quota."""

    @abstractmethod
    def refund(self, state: State, taken: State, now_ns: int, units: int) -> State:
        """Return `state` with `units` given back of the take that left `taken`; `state` itself if there are none."""
