"""Checks what a store is asked for, before it takes any stripe."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from shm_store.errors import ConfigurationError
from shm_store.limiter import KeyReserve
from shm_store.quota import Concurrency, Quota


class CheckedTake(NamedTuple):
    """One take of a call; whether the cost is one that its bucket can have is not known yet."""

    key: str
    quota: Quota | Concurrency
    cost: int
    shadow: bool


Kinds: TypeAlias = tuple[type[Quota] | type[Concurrency], ...]
#: What `take_all` takes from, and what `reserve` does.
QUOTAS: Final[Kinds] = (Quota,)
LIMITS: Final[Kinds] = (Quota, Concurrency)


def takes_of(key: str | Sequence[KeyReserve], cost: int, quota: Quota | Concurrency | None) -> Sequence[KeyReserve]:
    """Return what a call of `reserve` takes, whether it names one key or lists takes.

    Raises:
        ConfigurationError: The list is empty, or a cost or a quota stands beside it.
    """
    if isinstance(key, str):
        return [(key, quota, cost)]
    if (cost, quota) != (1, None):
        raise ConfigurationError("takes", key, "leave out cost and quota: each take has its own")
    # What is no list of takes, `checked_takes` will say.
    takes: Sequence[KeyReserve] = key
    if isinstance(takes, Sequence) and not takes:
        raise ConfigurationError("takes", key, "give at least one")
    return takes


def checked_takes(takes: object, shadow: object, default: Quota, kinds: Kinds) -> Iterator[CheckedTake]:
    """Yield the takes of a call, with the `default` quota where they name none; `kinds` are the quotas there may be.

    Raises:
        ConfigurationError: They are no list of takes, a key comes with two quotas, or `shadow` is no collection of
            their positions.
        TypeError: A key is no `str`.
    """
    if not isinstance(takes, Sequence) or isinstance(takes, str | bytes):
        raise ConfigurationError("takes", takes, "give a list of (key, quota or None, cost)")
    if not isinstance(shadow, Collection) or not all(type(at) is int and 0 <= at < len(takes) for at in shadow):
        raise ConfigurationError("shadow", shadow, f"give positions of the {len(takes)} takes, counted from 0")
    quotas: dict[tuple[str, bool], Quota | Concurrency] = {}
    for index, take in enumerate(takes):
        if not isinstance(take, tuple) or len(take) != 3:
            raise ConfigurationError(f"takes[{index}]", take, "give (key, quota or None, cost)")
        key, quota, cost = take
        require_key(key)
        asked = default if quota is None else quota
        if not isinstance(asked, kinds):
            raise not_a_quota(f"quota of takes[{index}]", asked)
        # A bucket is counted under one quota at a time: two would each undo what the other has counted.
        if quotas.setdefault((key, isinstance(asked, Quota)), asked) != asked:
            raise ConfigurationError(f"quota of takes[{index}]", asked, "give each quota of a call a key of its own")
        yield CheckedTake(key, asked, cost, index in shadow)


def require_key(key: object) -> None:
    """Raise TypeError unless `key` can name a bucket."""
    if not isinstance(key, str):
        raise TypeError(f"key is {key!r}: give a str, not {type(key).__name__}")


def not_a_quota(setting: str, value: object) -> ConfigurationError:
    """Return what to raise about a `value` that is no quota, or none for this operation."""
    remedy = "reserve it" if isinstance(value, Concurrency) else "give a Quota, for example Quota.parse('100/minute')"
    return ConfigurationError(setting, value, remedy)
