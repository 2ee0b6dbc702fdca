"""Messages of errors and lines of the log: at most a hundred characters of a value, in one line, whatever it is."""

from __future__ import annotations

import logging
import re
from typing import Final

import pytest

from shm_store import (
    AcquireTimeoutError,
    BackendError,
    ConfigurationError,
    CostError,
    EngineError,
    LayoutMismatchError,
    NoRoomError,
    OwnershipError,
    Quota,
    RateInfo,
    SeatsExhaustedError,
    StoreClosedError,
    StoreError,
    StripeTimeoutError,
    TableFullError,
)
from shm_store.core.quoting import SHOWN_MAX, excerpt, named, shown
from shm_store.core.tally import Tally
from shm_store.falcon.requests import FALCON
from shm_store.http.client.clients import Clients
from shm_store.http.denial_log import DenialLog
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.rules import made
from shm_store.policy import Policy
from tests.http.failing_store import FailingStore

LONG: Final = "a\n\x1b" * 20_000
_RUN: Final = re.compile(f"x{{{SHOWN_MAX + 1}}}")


class _Unwritable:
    def __repr__(self) -> str:
        raise RecursionError


@pytest.mark.parametrize(
    "value",
    [
        "x" * 60_000,
        b"x" * 60_000,
        LONG,
        ["x" * 60_000],
        {"x" * 60_000: 1},
        16**5_000,
        [16**5_000],
        -(16**5_000),
        float("nan"),
        "\udcff" * 500,
        "\0" * 500,
        _Unwritable(),
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_is_shown_in_one_short_line(value: object) -> None:
    """An ellipsis stands for the rest of a long value; one that cannot be written is named by its type."""
    for text in (shown(value), str(ConfigurationError("limit", value, "give less"))):
        assert text.isprintable(), repr(text)
        assert len(text) <= SHOWN_MAX + len("...") + len("limit is : give less")


def test_name_and_excerpt_stay_as_they_are_while_short() -> None:
    """A name is quoted only if it is long or not printable; an excerpt has the beginning and the end."""
    assert (named("min_ttl"), named("a" * SHOWN_MAX)) == ("min_ttl", "a" * SHOWN_MAX)
    assert named("a\nb") == "'a\\nb'"
    assert named("") == "''"
    assert len(named("a" * (SHOWN_MAX + 1))) == SHOWN_MAX + len("...")
    assert excerpt("Invalid value\n (at line 1)") == "Invalid value (at line 1)"
    text = excerpt(f"Duplicate key {'x' * 5_000} (at line 1, column 9)")
    assert text.startswith("Duplicate key xxx")
    assert text.endswith("xxx (at line 1, column 9)")
    assert len(text) == SHOWN_MAX + len("...")


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("x" * 5_000, "v", "r"),
        CostError(16**5_000, 1),
        LayoutMismatchError("x" * 200, "d", "r"),
        TableFullError("x" * 200, 1),
        StripeTimeoutError("x" * 200, 1, 1, ()),
        AcquireTimeoutError("x" * 60_000, None, 0),
        StoreClosedError("x" * 200),
        NoRoomError("x" * 200, 9, 1),
        OwnershipError("x" * 200, 1, 2, "r"),
        SeatsExhaustedError("x" * 200, 1),
        BackendError("x" * 200, "o", "r", "m"),
        EngineError("x" * 5_000, "o", "r", "m"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_repeats_little_and_keeps_its_fields(error: StoreError) -> None:
    """The message is cut; the field has the whole value."""
    assert not _RUN.search(str(error))
    first = getattr(error, error.fields[0])
    assert len(str(first)) > 150 if isinstance(first, str) else first == 16**5_000


def test_logs_repeat_little_of_what_a_client_sends(caplog: pytest.LogCaptureFixture) -> None:
    """A denial with `log_keys`, and the errors of an address and of a key function, have no more than that."""
    log = logging.getLogger("shm_store.test")
    store = FailingStore(StoreClosedError("s"))
    policy = Policy(name="p", quota=Quota(1, 60))
    rule = made(policy, FALCON, Clients(), Tally(), ErrorLog(log))
    with caplog.at_level(logging.INFO, log.name):
        denial_log = DenialLog(log, store, show_keys=True)
        denial_log.record(rule, f"p:{'x' * 60_000}", RateInfo(False, 1, 0, 1, 1))
        denial_log.record(rule, f"p:{LONG}", RateInfo(False, 1, 0, 1, 1))
        for peer in ("x" * 60_000, LONG):
            with pytest.raises(ConfigurationError) as refused:
                Clients(unknown="error").key(peer, None)
            ErrorLog(log).record(refused.value, "request answered with 503")
    assert len(caplog.messages) == 4
    for record, message in zip(caplog.records, caplog.messages, strict=True):
        assert message.isprintable()
        assert not _RUN.search(message)
        assert all(len(str(value)) < 1_000 for value in vars(record).values())
