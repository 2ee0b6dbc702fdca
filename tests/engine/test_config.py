"""The settings of a store on Redis or Valkey."""

from __future__ import annotations

import pytest

from shm_store.errors import ConfigurationError
from shm_store.redis import RedisConfig, RedisStore

YEAR_S = 365 * 86_400


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("min_ttl", 0),
        ("min_ttl", 100 * YEAR_S),
        ("timeout", 0.001),
        ("timeout", 60),
        ("backoff", 0.001),
        ("backoff", 3_600),
        ("in_flight_ttl", 1),
        ("in_flight_ttl", 86_400),
        ("prefix", "a"),
        ("prefix", "Az09._:-" * 25),
        ("limit", 1),
        ("limit", 2**52 - 1),
    ],
)
def test_bounds_are_included(setting: str, value: object) -> None:
    """The first and the last value of each range are used as they are."""
    config = RedisConfig(**{setting: value})  # type: ignore[arg-type]
    assert getattr(config, setting) == value
    RedisStore.open("redis://h", config).close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("min_ttl", -0.001),
        ("min_ttl", 100 * YEAR_S + 1),
        ("timeout", 0.000_999),
        ("timeout", 60.001),
        ("timeout", "soon"),
        ("timeout", None),
        ("backoff", 0.000_999),
        ("backoff", 3_600.001),
        ("in_flight_ttl", 0.999),
        ("in_flight_ttl", 86_400.001),
        ("prefix", ""),
        ("prefix", "a" * 201),
        ("prefix", "a{b"),
        ("prefix", "a}b"),
        ("prefix", "a/b"),
        ("prefix", "a\n"),
        ("prefix", b"a"),
        ("limit", 0),
        ("limit", 2**52),
        ("algorithm", "luck"),
    ],
)
def test_beyond_the_bounds_is_refused_by_name(setting: str, value: object) -> None:
    """What lies outside a range is an error that names the setting, before anything is connected."""
    with pytest.raises(ConfigurationError) as caught:
        RedisStore.open("redis://h", RedisConfig(**{setting: value}))  # type: ignore[arg-type]
    assert caught.value.setting == setting


def test_durations_compare_by_their_length() -> None:
    """Settings that say the same are the same, however they are written."""
    one = RedisConfig(interval="1min", min_ttl="600s", timeout="100ms", backoff=1, in_flight_ttl="0.25min")
    assert one == RedisConfig()
    assert one.seconds("timeout") == 0.1


def test_unknown_settings_are_refused() -> None:
    """A setting that is misspelt is an error, not a default."""
    with pytest.raises(TypeError):
        RedisConfig(time_out=1)  # type: ignore[call-arg]
