"""The journal: the log of an operation in the segment, however long, and what is left of it after a death."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shm_store import Config
from shm_store.table.locking.journal import Journal
from shm_store.table.records.record import ARITHMETIC
from shm_store.table.segment import lifetime
from shm_store.table.segment.layout import JOURNAL_LENGTH, JOURNAL_WORDS, SEAT_COMMITTED, SLOT_WORDS
from shm_store.table.segment.mapping import Segment

STRIPES = 3


class DiedError(Exception):
    """The operation ends here."""


@pytest.fixture
def segment(segment_name: str) -> Iterator[Segment]:
    segment = lifetime.open_or_create(Config(name=segment_name, initial_size=128 * STRIPES, stripes=STRIPES))
    yield segment
    segment.close()


def _seat(segment: Segment) -> memoryview:
    geometry = segment.header.geometry
    return segment.words[geometry.seat_at(0) :][: geometry.seat_words]


def _log(segment: Segment, pairs: int, begin: int = 1) -> list[int]:
    """Return a log of so many words of slots; the first value is `begin` from the end of a word."""
    geometry = segment.header.geometry
    slots = [range(geometry.slots_at(index), geometry.set_at(index + 1)) for index in range(geometry.sets)]
    indices = [at for slot in slots for at in slot][:pairs]
    assert len(indices) == pairs
    return [each for value, at in enumerate(indices, begin) for each in (at, 2**64 - value)]


def _stored(segment: Segment, log: list[int]) -> list[int]:
    return [segment.words[at] for at in log[::2]]


def _die(_log: list[int]) -> None:
    raise DiedError


@pytest.mark.parametrize("stripes", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("pairs", [0, 1, 32, 33, 200, JOURNAL_WORDS // 2, JOURNAL_WORDS // 2 + 1, JOURNAL_WORDS])
def test_log_is_stored_by_the_operation_or_after_its_death(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, stripes: tuple[int, ...], pairs: int
) -> None:
    """One that is longer than a journal goes on in that of the next stripe; a log of before does not count."""
    if 2 * pairs > JOURNAL_WORDS * len(stripes):
        pairs = JOURNAL_WORDS // 2 * len(stripes)
    journal, seat, geometry = Journal(segment), _seat(segment), segment.header.geometry
    older = _log(segment, JOURNAL_WORDS // 2, begin=10_000)
    for stripe in range(STRIPES):
        journal.write(seat, (stripe,), older)
    segment.words[geometry.sets_at : geometry.labels_at] = memoryview(
        bytes(8 * geometry.sets * geometry.set_words)
    ).cast("Q")
    log = _log(segment, pairs)
    with monkeypatch.context() as dying:
        dying.setattr(journal, "_store", _die)
        with pytest.raises(DiedError):
            journal.write(seat, stripes, log)
    assert seat[SEAT_COMMITTED] == 1
    assert not any(_stored(segment, older))
    journal.finish(seat, stripes)
    assert seat[SEAT_COMMITTED] == 0
    assert _stored(segment, log) == log[1::2]
    assert sum(map(bool, segment.words[geometry.sets_at : geometry.labels_at])) == pairs
    journal.write(seat, stripes, [each for at in log[::2] for each in (at, 3)])
    assert _stored(segment, log) == [3] * pairs


def test_nothing_is_stored_before_the_commit(segment: Segment) -> None:
    """A log that was written in part, or whose value is no word, is none."""
    journal, seat, log = Journal(segment), _seat(segment), _log(segment, SLOT_WORDS)
    with pytest.raises(ARITHMETIC):
        journal.write(seat, (0,), [*log, log[0], 2**64])
    assert seat[SEAT_COMMITTED] == 0
    journal.finish(seat, (0,))
    assert not any(_stored(segment, log))


@pytest.mark.parametrize("length", [3, JOURNAL_WORDS, 2**64 - 1])
def test_damaged_journal_is_finished(segment: Segment, length: int) -> None:
    """Indices of no word of the segment, and a length of no log, end no recovery."""
    journal, seat, geometry = Journal(segment), _seat(segment), segment.header.geometry
    at = geometry.stripe_at(0) + JOURNAL_LENGTH
    segment.words[at : at + 5] = memoryview(bytearray(40)).cast("Q")
    segment.words[at], segment.words[at + 1], segment.words[at + 2] = length, 2**63, 5
    segment.words[at + 3], segment.words[at + 4] = geometry.slots_at(0), 6
    seat[SEAT_COMMITTED] = 1
    before = segment.words[0]
    journal.finish(seat, (0, 1, 2))
    assert seat[SEAT_COMMITTED] == 0
    assert segment.words[geometry.slots_at(0)] == (0 if length == 3 else 6)
    segment.words[0] = before
    seat[SEAT_COMMITTED] = 1
    journal.finish(seat, ())
    assert seat[SEAT_COMMITTED] == 0
