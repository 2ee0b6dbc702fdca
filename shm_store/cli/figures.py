"""Writes figures for people: counts, rates, times, sizes, quotas, bars and sparklines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shm_store.durations import NS_PER_SECOND, to_text
from shm_store.operate.entry import Entry

_LEVELS: Final = " ▁▂▃▄▅▆▇█"
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def count(number: int | None) -> str:
    """Return a count, or a dash where nothing is counted."""
    return "-" if number is None else f"{number:,}"


def things(number: int, noun: str) -> str:
    """Return how many there are of a thing.

    >>> things(1, "block"), things(1_000, "block")
    ('1 block', '1,000 blocks')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def rate(number: float) -> str:
    """Return a rate per second, with a decimal place while it is small.

    >>> rate(1234.5), rate(3.25), rate(0)
    ('1,234', '3.2', '0')
    """
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.1f}"


def seconds(number: float) -> str:
    """Return a time as people say it.

    >>> seconds(0.0031), seconds(12.34), seconds(600), seconds(9_000)
    ('3.1 ms', '12.3 s', '10 min', '2.5 h')
    """
    if number < 1:
        return f"{number * 1_000:.3g} ms" if number else "0 s"
    if number < 2 * _MINUTE:
        return f"{number:.3g} s"
    for unit, size, below in (("min", _MINUTE, 2 * _HOUR), ("h", _HOUR, 2 * _DAY)):
        if number < below:
            return f"{number / size:.3g} {unit}"
    return f"{number / _DAY:,.0f} d"


def size(number: int) -> str:
    """Return a number of bytes.

    >>> size(5_557_760)
    '5.3 MiB'
    """
    if number < 2**20:
        return f"{number / 2**10:.1f} KiB"
    return f"{number / 2**20:.1f} MiB" if number < 2**30 else f"{number / 2**30:.1f} GiB"


def percent(part: int, whole: int) -> str:
    """Return a part of a whole in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def quota(entry: Entry) -> str:
    """Return the limit of a key: as it is written for `set`, or how many may be in flight; of a lease, its number."""
    if not entry.limit:
        return "-"
    if entry.pid is not None:
        return f"{entry.limit} at once"
    if not entry.interval:
        # Of a lease, which knows no interval.
        return str(entry.limit)
    return f"{entry.limit}/{to_text(round(entry.interval * NS_PER_SECOND))}"


def bar(part: int, whole: int, width: int) -> str:
    """Return a bar of so many cells, one at least where there is anything."""
    filled = min(max(round(width * part / whole), bool(part)), width) if whole else 0
    return "█" * filled + "░" * (width - filled)


def sparkline(values: Sequence[float | None], peak: float) -> str:
    """Return one column for each value, as high as it is beside `peak`; None is a time without a look."""
    return "".join(" " if value is None else _LEVELS[_level(value, peak)] for value in values)


def _level(value: float, peak: float) -> int:
    # Nothing at all looks different from next to nothing.
    return max(2, round(value / peak * (len(_LEVELS) - 1))) if value > 0 else 1
