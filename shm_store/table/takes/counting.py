"""Counting: what a transaction counts of its takes, in their stripes (I9) and by their keys."""

from __future__ import annotations

from collections.abc import Iterable

from shm_store.rate_info import RateInfo
from shm_store.table.locking.stripes import Stripes
from shm_store.table.records.labels import Labels
from shm_store.table.segment.layout import OTHER, REFUSED, SHADOW
from shm_store.table.takes.found import Found


class Counting:
    """The counters of one table."""

    def __init__(self, stripes: Stripes, labels: Labels | None) -> None:
        self._records = stripes.records
        self._outcomes = stripes.outcomes
        self._labels = labels

    def takes(
        self, founds: list[Found], infos: list[RateInfo], enforced: int, *, is_denied: bool, stores: bool
    ) -> None:
        """Raise counters of its stripe and of its key for each take; without `stores`, no unit was to be taken.

        The first `enforced` takes are not in shadow mode; with `is_denied`, one of these was denied.
        """
        records, outcomes, labels = self._records, self._outcomes, self._labels
        # `zip` would cost 100 ns more.
        for position, found in enumerate(founds):
            is_allowed, stripe = infos[position].allowed, found.stripe
            if not stores or (is_allowed and is_denied):
                records[stripe][OTHER] += 1
                continue
            if is_allowed or position < enforced:
                counter = outcomes[stripe][0 if is_allowed else 1]
                counter[()] = counter[()] + 1
                if found.is_refused:
                    records[stripe][REFUSED] += 1
            else:
                records[stripe][OTHER] += 1
                records[stripe][SHADOW] += 1
            # With flags that are not stored, it is the slot of another key: this one was denied, and got none.
            if labels is not None and found.number >= 0 and found.flags is None:
                labels.count(found.place.set_index, found.number, allowed=is_allowed)

    def nothing(self, stripes: Iterable[int]) -> None:
        """Count a hold of stripes that decided nothing."""
        for stripe in stripes:
            self._records[stripe][OTHER] += 1
