"""The log of survived errors, on a clock that the test moves."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import StoreClosedError, TableFullError
from shm_store.http.error_log import ErrorLog
from shm_store.testing import FakeClock

CLOSED = StoreClosedError("s")
FULL = TableFullError("s", 128)


@pytest.fixture
def error_log(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> Iterator[ErrorLog]:
    with caplog.at_level(logging.ERROR):
        yield ErrorLog(logging.getLogger("test-error-log"), interval_ns=10 * NS_PER_SECOND, clock=clock)


def test_error_log_writes_the_first_error_at_once(error_log: ErrorLog, caplog: pytest.LogCaptureFixture) -> None:
    """The operator learns of a failure when it begins: its type, its message, and what became of the request."""
    error_log.record(CLOSED, "request let through")
    assert caplog.messages == [f"rate limiter failed, request let through: StoreClosedError: {CLOSED}"]


def test_error_log_keeps_quiet_within_the_interval(
    error_log: ErrorLog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand errors within ten seconds make one line, up to the last nanosecond."""
    for _ in range(1000):
        error_log.record(CLOSED, "o")
    clock.advance(10 - 1e-9)
    error_log.record(CLOSED, "o")
    assert len(caplog.messages) == 1


def test_error_log_says_what_it_left_out(
    error_log: ErrorLog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The next line has the number of errors of each type that were not logged; the count then begins anew."""
    for error in (CLOSED, CLOSED, CLOSED, FULL):
        error_log.record(error, "o")
    clock.advance(10)
    error_log.record(FULL, "o")
    clock.advance(10)
    error_log.record(FULL, "o")
    _, second, third = caplog.messages
    assert second.endswith("[3 more not logged since the previous line: StoreClosedError 2, TableFullError 1]")
    assert "more" not in third


def test_error_log_counts_what_it_does_not_write(error_log: ErrorLog) -> None:
    """Every error is counted by its type, logged or not, and the caller's copy changes nothing."""
    for error in (CLOSED, CLOSED, FULL):
        error_log.record(error, "o")
    error_log.counts.clear()
    assert error_log.counts == {"StoreClosedError": 2, "TableFullError": 1}


def test_error_log_starts_at_any_clock(caplog: pytest.LogCaptureFixture) -> None:
    """A clock whose zero is far away, as after a boot or in the future, does not silence the first error."""
    for now_ns in (0, -(10**18), 10**18):
        ErrorLog(logging.getLogger("test-error-log"), clock=lambda now_ns=now_ns: now_ns).record(CLOSED, "o")  # type: ignore[misc]
    assert len(caplog.messages) == 3
