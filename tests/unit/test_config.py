"""Durations, quotas, configurations and the errors they raise."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from rich.pretty import pretty_repr

import shm_store
from shm_store import Config, ConfigurationError, Quota, RateInfo, StoreError
from shm_store.durations import to_ns

S = 10**9


@pytest.mark.parametrize(
    ("written", "ns"),
    [
        ("1min", 60 * S),
        ("12hours", 43_200 * S),
        ("500ms", S // 2),
        ("90s", 90 * S),
        ("90", 90 * S),
        ("1.5h", 5_400 * S),
        ("minute", 60 * S),
        (" 2 days ", 172_800 * S),
        ("PT1H30M", 5_400 * S),
        ("1h30m", 5_400 * S),
        ("1h 30min", 5_400 * S),
        ("2d12h", 216_000 * S),
        ("1m30.5s", 90_500_000_000),
        ("1s500ms", 3 * S // 2),
        ("P1D", 86_400 * S),
        (0.1, S // 10),
        (2, 2 * S),
        (timedelta(milliseconds=3), 3_000_000),
    ],
)
def test_duration_is_read_in_every_form(written: str | float | timedelta, ns: int) -> None:
    """Units, ISO 8601, numbers of seconds and timedeltas all mean nanoseconds, exactly."""
    assert to_ns("interval", written, minimum_ns=0, maximum_ns=10**18) == ns


@pytest.mark.parametrize(
    "written",
    ["", "soon", "1 fortnight", "-1s", "P1Y", "1m30", "30m1h", "1h1h", "1h30x", "h30m", float("nan"), True, None, []],
)
def test_duration_that_is_none_is_refused(written: object) -> None:
    """Anything else raises an error that names the setting and the value."""
    with pytest.raises(ConfigurationError, match="interval is "):
        to_ns("interval", written, minimum_ns=0, maximum_ns=10**18)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("100/minute", Quota(100, 60)),
        ("5/500ms", Quota(5, 0.5)),
        ("1000/12h", Quota(1000, "12hours")),
        ("1 / s", Quota(1, timedelta(seconds=1))),
    ],
)
def test_quota_is_parsed(text: str, quota: Quota) -> None:
    """Quotas are written limit/interval, and equal ones compare equal however they were written."""
    assert Quota.parse(text) == quota


@pytest.mark.parametrize("text", ["", "100", "/minute", "x/minute", "0/minute", "1/", "-1/s", "1/0s", "1.5/s", "1/s/s"])
def test_quota_that_is_none_is_refused(text: str) -> None:
    """Anything else raises ConfigurationError."""
    with pytest.raises(ConfigurationError):
        Quota.parse(text)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("limit", 0),
        ("limit", 2**63),
        ("limit", "5"),
        ("limit", True),
        ("interval", "0.5ms"),
        ("interval", "101 years"),
        ("algorithm", "guess"),
        ("ttl_interval", "1ms"),
        ("min_ttl", "-1s"),
        ("initial_size", 0),
        ("initial_size", 2**26 + 1),
        ("name", ""),
        ("name", "a/b"),
        ("name", "a\0"),
        ("name", "sem.a"),
        ("name", ".hidden"),
        ("name", "x" * 201),
        ("stripes", 257),
        ("lock_timeout", "2min"),
        ("on_full", "panic"),
        ("mode", 0o400),
        ("mode", 0o1777),
        ("mode", 0o640),
        ("mode", 0o662),
        ("owner", ""),
        ("owner", "a\0"),
        ("owner", -1),
        ("owner", 2**32 - 1),
        ("owner", True),
    ],
)
def test_config_names_the_bad_setting(setting: str, value: object) -> None:
    """A value out of range raises one line that names the setting and the value."""
    with pytest.raises(ConfigurationError, match=f"^{setting} is ") as caught:
        Config(**{setting: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_config_prints_the_mode_as_users_write_it() -> None:
    """In octal, for `rich` as well; an error keeps a number that is no octal one, such as 600 without the prefix."""
    assert "mode=0o600, " in repr(Config())
    assert eval(repr(Config(mode=0o660, limit=7))) == Config(mode=0o660, limit=7)  # noqa: S307 - our own text
    assert "mode=0o666" in pretty_repr(Config(mode=0o666))
    for mode, written in ((600, "600"), (0o400, "0o400"), ("660", "'660'"), (0o1777, "1023")):
        with pytest.raises(ConfigurationError) as caught:
            Config(mode=mode)  # type: ignore[arg-type]
        remedy = "give permission bits in octal, from 0o600, which the owner needs, to 0o777"
        assert str(caught.value) == f"mode is {written}: {remedy}"


@pytest.mark.parametrize("written", [repr, str, lambda info: pretty_repr(info, max_width=200)])
def test_rate_info_prints_seconds(written: Callable[[RateInfo], str]) -> None:
    """Its fields are nanoseconds, which look like seconds; users give and read seconds."""
    info = RateInfo(False, 5, 0, 1_500_000_000, 250_000_000)
    expected = "RateInfo(allowed=False, limit=5, remaining=0, reset_after=1.5, retry_after=0.25)"
    assert written(info) == expected
    assert written(RateInfo(True, 5, 4, 0)).endswith("reset_after=0.0, retry_after=0.0)")


def test_errors_of_waiting_have_seconds() -> None:
    """In the unit of the timeout that a user gives."""
    acquired = shm_store.AcquireTimeoutError("a", 5 * S // 2, 9 * S)
    assert (acquired.timeout, acquired.retry_after) == (2.5, 9.0)
    assert shm_store.AcquireTimeoutError("a", None, 0).timeout is None
    assert shm_store.StripeTimeoutError("n", 3, S // 10, (1, 2)).timeout == 0.1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda quota: pickle.loads(pickle.dumps(quota))])  # noqa: S301
def test_quota_of_another_process_is_the_same_to_the_nanosecond(copied: Callable[[Quota], Quota]) -> None:
    """Processes that count by two intervals would each undo what the other has counted."""
    quota = Quota.parse("7/9000000123456789ns", algorithm="gcra", burst=3)
    twin = copied(quota)
    assert (twin, twin.interval_ns) == (quota, 9_000_000_123_456_789)


def test_quota_is_parsed_with_what_stands_beside_it() -> None:
    assert Quota.parse("10/s", algorithm="gcra", burst=1) == Quota(10, "1s", 1, "gcra")
    with pytest.raises(ConfigurationError, match="burst is 1: leave it out"):
        Quota.parse("10/s", burst=1)


def test_config_refuses_unknown_fields() -> None:
    """A misspelt setting is an error, not a default."""
    with pytest.raises(msgspec.ValidationError, match="intervall"):
        msgspec.convert({"intervall": "1s"}, Config)
    assert msgspec.convert({"interval": "2min", "min_ttl": 3}, Config) == Config(interval=120, min_ttl="3s")


@pytest.mark.parametrize(
    "error",
    [
        shm_store.ConfigurationError("limit", 0, "more"),
        shm_store.ConfigurationTypeError("limit", "5", "less"),
        shm_store.CostError(0, 5),
        shm_store.CostTypeError("1", 5, 2),
        shm_store.LayoutMismatchError("n", "d", "r"),
        shm_store.TableFullError("n", 8),
        shm_store.StripeTimeoutError("n", 3, 10**8, (1, 2)),
        shm_store.StoreClosedError("n"),
        shm_store.SeatsExhaustedError("n", 512),
        shm_store.BackendError("n", "o", "r", "m"),
        shm_store.OwnershipError("n", 1234, 0, "m"),
        shm_store.OwnershipError("n", 1234, 0, "m", "its mode is wrong"),
    ],
)
def test_error_pickles_with_its_fields(error: StoreError) -> None:
    """An error crosses a process boundary whole."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert [getattr(copy, field) for field in error.fields] == [getattr(error, field) for field in error.fields]
    assert isinstance(copy, StoreError)
