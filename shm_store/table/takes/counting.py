"""Counting: what a transaction counts of its takes, in their stripes (I9) and by their keys.

A denied call takes nothing. So this also replaces the answers of its allowed takes: they have the units that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from mmap import mmap
from typing import Final

from shm_store.rate_info import RateInfo
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.labels import Labels
from shm_store.table.segment.layout import OTHER, REFUSED, SHADOW, WORD
from shm_store.table.takes.found import Found

_read_state: Final = struct.Struct("@4Q").unpack_from


class Counting:
    """The counters of one table."""

    def __init__(self, stripes: Stripes, memory: mmap, labels: Labels | None) -> None:
        self._memory = memory
        self._records = stripes.records
        self._outcomes = stripes.outcomes
        self._labels = labels

    def taken(self, founds: list[Found], infos: list[RateInfo]) -> None:
        """Count the takes of a call that takes; those that it denies are in shadow mode."""
        for position, found in enumerate(founds):
            if infos[position].allowed:
                counter = found.allowed
                counter[()] = counter[()] + 1
                self._count_by_key(found, allowed=True)
            else:
                self._count_shadow(found)

    def denied(  # noqa: PLR0917 - names would cost each denial
        self,
        founds: list[Found],
        costs: Sequence[int],
        infos: list[RateInfo],
        enforced: int,
        now_ns: int,
        is_repeated: bool,  # noqa: FBT001 - as above
    ) -> None:
        """Count the takes of a call that takes nothing, and replace the answers of those that were allowed.

        The first `enforced` takes are not in shadow mode. If it `is_repeated`, a key may come twice, so that an answer
        counts earlier takes of its key as well.
        """
        memory, records, outcomes = self._memory, self._records, self._outcomes
        # `zip` would cost 100 ns more.
        for position, found in enumerate(founds):
            info = infos[position]
            if info.allowed:
                counts, remaining, wait_ns = found.counts, info.remaining + costs[position], info.reset_after_ns
                assert counts is not None
                # In an open window, the time until all units are there is the same without the take.
                if is_repeated or not (found.ends_ns and counts.counts_in_window):
                    # A bucket that a hint keeps is as its slot says.
                    state = _read_state(memory, found.at * WORD) if found.ends_ns else found.state
                    if is_repeated:
                        remaining = found.step(state, now_ns, costs[position])[1] + costs[position]
                    full_at_ns = counts.full_at(state)
                    wait_ns = full_at_ns - now_ns if full_at_ns > now_ns else 0
                infos[position] = RateInfo(True, found.most, remaining, wait_ns)
                records[found.stripe][OTHER] += 1
            elif position < enforced:
                counter = outcomes[found.stripe][1]
                counter[()] = counter[()] + 1
                if found.is_refused:
                    records[found.stripe][REFUSED] += 1
                if self._labels is not None:
                    self._count_by_key(found, allowed=False)
            else:
                self._count_shadow(found)

    def nothing(self, stripes: Iterable[int]) -> None:
        """Count a hold of stripes that decided nothing."""
        for stripe in stripes:
            self._records[stripe][OTHER] += 1

    def _count_shadow(self, found: Found) -> None:
        record = self._records[found.stripe]
        record[OTHER] += 1
        record[SHADOW] += 1
        self._count_by_key(found, allowed=False)

    def _count_by_key(self, found: Found, *, allowed: bool) -> None:
        # With flags that are not stored, it is the slot of another key: this one was denied, and got none.
        if self._labels is not None and found.number >= 0 and found.flags is None:
            self._labels.count(found.place.set_index, found.number, allowed=allowed)
