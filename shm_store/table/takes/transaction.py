"""The transaction: every take of the table, of one key or of several, decided and stored under one hold.

It acquires the stripes, reads the clock and the slots, and applies the step function of each bucket. If all allow, it
stores what they change, all of it or nothing. It counts each take, and releases the stripes. `Finding` does what is
rare: it finds a key whose slot this process does not know as it is now.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from shm_store.core.algorithms import FRESH, Algorithm, State
from shm_store.errors import ConfigurationError, StoreError, unusable_cost
from shm_store.process import forks, identity
from shm_store.rate_info import RateInfo
from shm_store.table.locking.journal import Journal
from shm_store.table.locking.seats import Seats
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.labels import Labels
from shm_store.table.records.record import ARITHMETIC, Owner
from shm_store.table.segment.layout import BUSY, IDLE, JOURNAL_WORDS, SEAT_PHASES, WORD
from shm_store.table.segment.mapping import Segment
from shm_store.table.takes.counting import Counting
from shm_store.table.takes.finding import Finding
from shm_store.table.takes.found import Found, doubtful_owners

_read_state: Final = struct.Struct("@4Q").unpack_from
# The state of a slot, and its tag.
_read: Final = struct.Struct("@4Q24xQ").unpack_from
#: Takes of one call, for each stripe of their keys: a journal has room for all words of so many states.
TAKES_MAX: Final = JOURNAL_WORDS // (2 * len(FRESH))


class Transaction:
    """Decides on the takes of one table."""

    def __init__(
        self,
        segment: Segment,
        seats: Seats,
        stripes: Stripes,
        journal: Journal,
        finding: Finding,
        *,
        labels: Labels | None,
        clock: Callable[[], int],
    ) -> None:
        """Bind to the parts of a table; `clock` returns nanoseconds, and is read once in each transaction."""
        self._memory = segment.memory
        self._words = segment.words
        self._seats = seats
        self._stripes = stripes
        self._journal = journal
        self._finding = finding
        self._labels = labels
        self._counting = Counting(stripes, segment.memory, labels)
        self._clock = clock
        self._acquire = [semaphore.acquire for semaphore in segment.semaphores]
        self._release = [semaphore.release for semaphore in segment.semaphores]

    def run(  # noqa: C901, PLR0912, PLR0915 - one frame from the first stripe to the last, see docs/design.md
        self,
        founds: list[Found],
        costs: Sequence[int],
        shadows: int = 0,
        *,
        stores: bool = True,
        afters: list[State] | None = None,
        dead: Collection[Owner] | None = None,
        patience_ns: int = 0,
    ) -> tuple[list[RateInfo], bool, list[Found]]:
        """Decide on takes together, and take all or nothing.

        Args:
            founds: What each take is from, as hints have it, or still to be found. Afterwards, as it was found.
            costs: The units of each.
            shadows: How many takes, the last ones, are in shadow mode: they deny nothing.
            stores: Whether units are taken; else it only answers what a take would.
            afters: Gets the state of each take's bucket after all of them.
            dead: The dead processes this one knows of; None before it has looked.
            patience_ns: How much later than now a take may come due; of one take alone.

        Returns:
            The answer of each take; whether one that is not in shadow mode was denied, so that nothing was taken; and
            the takes that differ from their hints. If nothing was taken, an allowed take's answer has the units left.

        Raises:
            CostError: A cost is no integer from 1 to the most units of its bucket.
            TableFullError: A new key's set has no slot to give up.
            ConfigurationError: There are more than TAKES_MAX takes for each stripe.
        """
        seats, stripes, acquire, release = self._seats, self._stripes, self._acquire, self._release
        enforced, memory = len(founds) - shadows, self._memory
        # A key may come twice: its second take is decided on what the first one leaves, by the index of its slot.
        states: dict[int, State] | None = None
        order: list[int] = []
        for found in founds:
            order.append(found.stripe)
        if len(order) > 1:
            order.sort()
            if len(order) > TAKES_MAX and len(order) > TAKES_MAX * len({*order}):
                remedy = f"take from at most {TAKES_MAX} keys at once for each stripe, or use more stripes"
                raise ConfigurationError("takes", f"{len(order)} keys in {len({*order})} stripes", remedy)
        if not forks.settled[()]:
            forks.catch_up()
        # CPython switches threads, and runs signal handlers, at calls and jumps: not within this line.
        seat, seats.spare = seats.spare, None
        if seat is None or stripes.is_closed:
            seat = stripes.lease(seat)
        held = now_ns = 0
        try:
            for stripe in order:
                # In line what `Waits.acquire` tries first.
                seat[SEAT_PHASES + stripe] = BUSY
                if not acquire[stripe](False):
                    if held and stripe == order[held - 1]:
                        # This call holds it itself: another of its keys is in the same stripe.
                        order = sorted({*order})
                        if len({found.key.fingerprint for found in founds}) < len(founds):
                            states = {}
                        continue
                    stripes.waits.acquire(seat, stripe)
                held += 1
            now_ns = self._clock()
            infos: list[RateInfo] = []
            log: list[int] = []
            rare: list[Found] = []
            doubtful: Collection[Owner] = ()
            is_denied = False
            for found in founds:
                # `zip` would cost 100 ns more.
                cost = costs[len(infos)]
                if (
                    now_ns < found.ends_ns
                    and found.tagged[()] == found.tag
                    and states is None
                    and type(cost) is int
                    and cost > 0
                    and not patience_ns
                ):
                    # Called by a name of its own: as an attribute it would cost 30 ns more.
                    within = found.within
                    after = within(found.word[()], now_ns, cost)
                    if after is not None:
                        value, remaining, reset_ns, later = after
                        log += found.index, value
                        if found.second_index is not None:
                            log += found.second_index, later
                        infos.append(RateInfo(True, found.most, remaining, reset_ns))
                        continue
                    if cost <= found.most:
                        state = _read_state(memory, found.at * WORD)
                        _, remaining, reset_ns, retry_ns, _ = found.step(state, now_ns, cost)
                        infos.append(RateInfo(False, found.most, remaining, reset_ns, retry_ns))
                        is_denied = is_denied or len(infos) <= enforced
                        continue
                at = len(infos)
                info = self._decided(founds, at, cost, now_ns, states, log, rare, enforced, dead, stores, patience_ns)
                infos.append(info)
                is_denied = is_denied or (not info.allowed and at < enforced)
            if rare and dead is None and (is_denied or shadows):
                doubtful = doubtful_owners(founds, infos)
            if rare and (is_denied or not stores):
                for found in rare:
                    found.after = found.state
            if doubtful or not stores:
                self._counting.nothing(order)
            else:
                if rare:
                    self._place(seat, order, founds, infos, is_denied=is_denied)
                if is_denied:
                    self._counting.denied(founds, costs, infos, enforced, now_ns, states is not None)
                else:
                    if len(log) == 2:
                        # One word is one store: there is no half of it.
                        self._words[log[0]] = log[1]
                    elif log and len(founds) == 1 and not patience_ns:
                        self._store(seat, order, founds[0], log)
                    elif log:
                        self._journal.write(seat, order, log)
                    if shadows or self._labels is not None:
                        self._counting.taken(founds, infos)
                    else:
                        for found in founds:
                            counter = found.allowed
                            counter[()] = counter[()] + 1
                if afters is not None:
                    for found in founds:
                        afters.append(_read_state(memory, found.at * WORD))
            while held:
                held -= 1
                stripe = order[held]
                release[stripe]()
                seat[SEAT_PHASES + stripe] = IDLE
        except BaseException as error:
            stripes.settle(seat, order, held=held)
            # Not of the clock, the user's code. No `try` of its own: the opcode that begins one is in no other.
            if now_ns and isinstance(error, ARITHMETIC) and not isinstance(error, StoreError):
                raise stripes.damaged(error) from error
            raise
        # Outside the `try`: settle would return it a second time.
        seats.spare = seat
        if doubtful:
            # `Seats.lost` must not take this frame for one that uses it. And each look is a file to be read.
            del seat
            gone = {owner for owner in doubtful if not identity.is_alive(*owner)}
            founds[:] = [Found(found.key, found.asked) for found in founds]
            return self.run(founds, costs, shadows, stores=stores, afters=afters, dead=gone, patience_ns=patience_ns)
        return infos, is_denied, rare

    def _decided(  # noqa: C901, PLR0912, PLR0917 - what `run` knows; an object for it would cost every take
        self,
        founds: list[Found],
        position: int,
        cost: int,
        now_ns: int,
        states: dict[int, State] | None,
        log: list[int],
        rare: list[Found],
        enforced: int,
        dead: Collection[Owner] | None,
        stores: bool,  # noqa: FBT001 - as above
        patience_ns: int,
    ) -> RateInfo:
        """Decide a take that no hint decides: its hint does not hold, its cost is wrong, or its key comes twice."""
        found = founds[position]
        is_known = now_ns < found.ends_ns and found.tagged[()] == found.tag
        if is_known:
            state = _read_state(self._memory, found.at * WORD)
        else:
            if enforced and len(founds) == 1:
                found = founds[0] = self._finding.find(found, now_ns, (), dead or ())
            else:
                found = self._finding.find_among(founds, position, enforced, now_ns, dead or ())
            state = found.state
        if states is not None:
            state = states.get(found.at, state)
        if type(cost) is not int or cost < 1 or cost > found.most:
            raise unusable_cost(cost, found.most, position)
        counts, decide = found.counts, found.step
        if patience_ns and isinstance(counts, Algorithm):
            decide = partial(counts.book, patience_ns=patience_ns)
        is_allowed, remaining, reset_ns, retry_ns, after = decide(state, now_ns, cost)
        if is_allowed and found.victim is not None and stores and len(founds) == 1:
            # Alone, it needs no log: its slot is vacant until the last store.
            assert counts is not None
            self._finding.fill(found, after + counts.quota)
            return RateInfo(True, found.most, remaining, reset_ns)
        if not is_known:
            found.after = after
            rare.append(found)
        if is_allowed:
            at = found.at
            first, idle_at, third, fourth = state
            word_0, word_1, word_2, word_3 = after
            if word_0 != first:
                log += at, word_0
            if word_1 != idle_at:
                log += at + 1, word_1
            if word_2 != third:
                log += at + 2, word_2
            if word_3 != fourth:
                log += at + 3, word_3
            if states is not None:
                states[at] = after
        return RateInfo(is_allowed, found.most, remaining, reset_ns, retry_ns)

    def _place(
        self, seat: memoryview, order: Sequence[int], founds: list[Found], infos: list[RateInfo], *, is_denied: bool
    ) -> None:
        """Give new keys their slots, fresh until the log is stored; store the limits that other keys have adopted."""
        # `zip` would cost 100 ns more.
        for position, found in enumerate(founds):
            if found.flags is None:
                continue
            if found.victim is None:
                # They hold from now on, even if a take is denied.
                self._journal.write(seat, order, self._finding.change(found))
            elif not is_denied and infos[position].allowed:
                assert found.counts is not None
                self._finding.fill(found, FRESH + found.counts.quota)

    def _store(self, seat: memoryview, order: Sequence[int], found: Found, log: list[int]) -> None:
        """Store the log of one take, all of it or nothing; word by word if each prefix of these stores is safe."""
        words = self._words
        if found.ends_ns:
            # Within a stretch, the words are logged in the order in which they may be stored.
            for index in range(0, len(log), 2):
                words[log[index]] = log[index + 1]
            return
        first, idle_at, third, fourth, tag = _read(self._memory, found.at * WORD)
        if tag == found.tag and isinstance(found.counts, Algorithm):
            state = first, idle_at, third, fourth
            self._journal.advance(seat, order, found.counts, found.at, state, found.after)
        else:
            self._journal.write(seat, order, log)
