"""Reads the ways a person writes a duration into integer nanoseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from shm_store.errors import ConfigurationError, unusable

#: A number of seconds, text such as `"100ms"` or `"1h30m"`, or a `timedelta`.
if TYPE_CHECKING:
    Duration = float | str | timedelta
else:
    # msgspec cannot decode a union of `str` and `timedelta`; a timedelta still works in a constructor call.
    Duration = float | str

__all__ = ["Duration", "to_text"]

NS_PER_SECOND = 1_000_000_000

_UNITS_NS: dict[str, int] = {
    name: size
    for size, names in (
        (1, "ns nanosecond nanoseconds"),
        (1_000, "us µs microsecond microseconds"),
        (1_000_000, "ms millisecond milliseconds"),
        (NS_PER_SECOND, "s sec secs second seconds"),
        (60 * NS_PER_SECOND, "m min mins minute minutes"),
        (3_600 * NS_PER_SECOND, "h hr hrs hour hours"),
        (86_400 * NS_PER_SECOND, "d day days"),
        (604_800 * NS_PER_SECOND, "w week weeks"),
    )
    for name in names.split()
}
# More than any duration has; Python refuses to write integers of thousands of digits.
_SECONDS_MAX = 10**30
# Longer than any duration that a person writes, and short enough for what `decimal` computes.
_LENGTH_MAX = 100
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_WRITTEN = re.compile(rf"(?P<number>{_NUMBER})?\s*(?P<unit>[a-zµ]+)?", re.IGNORECASE)
# Of several units, each with its number, the largest first: `1h30m`.
_PART = re.compile(rf"({_NUMBER})\s*([a-zµ]+)\s*", re.IGNORECASE)
_PARTS = re.compile(rf"({_PART.pattern}){{2,}}", re.IGNORECASE)
_REMEDY = "write a duration such as '500ms', '90s', '1h30m', '12hours', 'PT1H', or a number of seconds"


def to_ns(setting: str, value: Duration, *, minimum_ns: int, maximum_ns: int) -> int:
    """Return `value` in nanoseconds, rounded to the nearest one.

    Args:
        setting: Name of the setting, for errors.
        value: Seconds as a number, a `timedelta`, or text. Text is a number of seconds, a number with a unit (`500ms`,
            `12hours`), a unit alone, several with the largest unit first (`1h30m`), or ISO 8601 (`PT1H30M`).
        minimum_ns: The least that is accepted.
        maximum_ns: The most that is accepted.

    Raises:
        ConfigurationError: The value is not a duration or is out of range.
    """
    ns = _read(value)
    if ns is None:
        raise unusable(setting, value, _REMEDY, int, float, str, timedelta)
    if not minimum_ns <= ns <= maximum_ns:
        raise ConfigurationError(setting, value, f"give a duration from {to_text(minimum_ns)} to {to_text(maximum_ns)}")
    return ns


def to_text(ns: int) -> str:
    """Return `ns` in the largest unit that expresses it whole: `90s`, `12h`, `500ms`.

    >>> to_text(90 * NS_PER_SECOND)
    '90s'
    """
    for unit in ("d", "h", "min", "s", "ms", "us"):
        if ns and ns % _UNITS_NS[unit] == 0:
            return f"{ns // _UNITS_NS[unit]}{unit}"
    return f"{ns}ns" if ns else "0s"


def _read(value: object) -> int | None:
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1) * 1_000
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _SECONDS_MAX:
        number = Decimal(str(value))
        return _round(number * NS_PER_SECOND) if number.is_finite() else None
    if isinstance(value, str) and len(value) <= _LENGTH_MAX:
        return _read_text(value.strip())
    return None


def _read_text(text: str) -> int | None:
    if text[:1] in ("P", "p"):
        try:
            return _read(msgspec.convert(text, timedelta))
        except (msgspec.ValidationError, UnicodeError):
            return None
    if _PARTS.fullmatch(text):
        return _read_parts(_PART.findall(text))
    match = _WRITTEN.fullmatch(text)
    if match is None or not text:
        return None
    unit_ns = _UNITS_NS.get((match["unit"] or "s").lower())
    return None if unit_ns is None else _round(Decimal(match["number"] or 1) * unit_ns)


def _read_parts(parts: list[tuple[str, str]]) -> int | None:
    units_ns = [_UNITS_NS.get(unit.lower(), 0) for _, unit in parts]
    # One that comes twice, or out of order, is a slip: `30m1h`, `1h1h`.
    if 0 in units_ns or any(after >= before for before, after in pairwise(units_ns)):
        return None
    return _round(sum((Decimal(number) * ns for (number, _), ns in zip(parts, units_ns, strict=True)), Decimal(0)))


def _round(ns: Decimal) -> int:
    return int(ns.to_integral_value(rounding=ROUND_HALF_EVEN))
