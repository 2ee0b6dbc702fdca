"""Checks the arguments of a call, before a store acquires any stripe or asks any server.

A wrong type is a `ConfigurationTypeError`, a wrong value a `ConfigurationError`: see `shm_store.errors`. The one check
that comes later is that of a cost, as only the bucket tells the most units at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import import_module
from io import TextIOBase
from os import PathLike, fspath
from typing import Any, Final, TypeAlias, TypeGuard, TypeVar

from shm_store.core.backend import Take
from shm_store.core.limiter import KeyReserve
from shm_store.core.quoting import excerpt, shown
from shm_store.errors import ConfigurationError, ConfigurationTypeError, unusable
from shm_store.quota import Concurrency, Quota

T = TypeVar("T")

_STORE_METHODS: Final = ("take", "take_all", "reserve")
# Collections that are no list, though their elements can be read like those of one.
_NO_LISTS: Final = (str, bytes, bytearray, memoryview, Mapping)


Kinds: TypeAlias = tuple[type[Quota] | type[Concurrency], ...]
#: What `take_all` takes from, and what `reserve` does.
QUOTAS: Final[Kinds] = (Quota,)
LIMITS: Final[Kinds] = (Quota, Concurrency)


def take_of(key: str, cost: int, quota: Quota) -> Take:
    """Return the take of one key; raise ConfigurationTypeError if the key or the quota is of another type."""
    if type(key) is not str:
        require_key(key)
    if not isinstance(quota, Quota):
        raise not_a_quota("quota", quota)
    return Take(key, quota, cost)


def reserved_takes(
    key: str | Sequence[KeyReserve], cost: int, quota: Quota | Concurrency | None, shadow: object, default: Quota
) -> list[Take]:
    """Return the takes of a call of `reserve`, which has one key or a list of takes; see `checked_takes`."""
    if isinstance(key, str):
        asked = default if quota is None else quota
        if shadow == () and isinstance(asked, LIMITS):
            # Nearly every reservation: the loop below would cost 1 µs more.
            return [Take(key, asked, cost)]
        return checked_takes([(key, quota, cost)], shadow, default, LIMITS)
    require_takes(key, cost, quota)
    if not key:
        raise ConfigurationError("takes", key, "give at least one")
    return checked_takes(key, shadow, default, LIMITS)


def require_takes(key: object, cost: object, quota: object) -> None:
    """Raise ConfigurationError unless `key` is a list of takes, without a cost and a quota beside it."""
    if not is_list(key):
        raise ConfigurationTypeError("key", key, "give a str, or a list of (key, quota or None, cost)")
    if type(cost) is not int or cost != 1 or quota is not None:
        raise ConfigurationError("takes", key, "leave out cost and quota: each take has its own")


def checked_takes(takes: object, shadow: object, default: Quota, kinds: Kinds) -> list[Take]:
    """Return the takes of a call, with the `default` quota where they name none; `kinds` are the quotas there may be.

    Raises:
        ConfigurationError: They are no list of takes, a key comes with two quotas, or `shadow` is no collection of
            their positions.
    """
    if not is_list(takes):
        raise ConfigurationTypeError("takes", takes, "give a list of (key, quota or None, cost)")
    positions = _positions(shadow, len(takes))
    quotas: dict[tuple[str, bool], Quota | Concurrency] = {}
    checked = []
    for index, take in enumerate(takes):
        if not isinstance(take, tuple) or len(take) != 3:
            raise unusable(f"takes[{index}]", take, "give (key, quota or None, cost)", tuple)
        key, quota, cost = take
        if not isinstance(key, str):
            require_key(key, f"key of takes[{index}]")
        asked = default if quota is None else quota
        if not isinstance(asked, kinds):
            raise not_a_quota(f"quota of takes[{index}]", asked)
        # A bucket is counted under one quota at a time: two would each undo what the other has counted.
        if quotas.setdefault((key, isinstance(asked, Quota)), asked) != asked:
            raise ConfigurationError(f"quota of takes[{index}]", asked, "give each quota of a call a key of its own")
        checked.append(Take(key, asked, cost, index in positions))
    return checked


def require_key(key: object, setting: str = "key") -> None:
    """Raise ConfigurationTypeError unless `key` can name a bucket."""
    if not isinstance(key, str):
        raise ConfigurationTypeError(setting, key, f"give a str, not {type(key).__name__}")


def not_a_quota(setting: str, value: object) -> ConfigurationError:
    """Return what to raise about a `value` that is no quota, or none for this operation."""
    remedy = "reserve it" if isinstance(value, Concurrency) else "give a Quota, for example Quota.parse('100/minute')"
    return ConfigurationTypeError(setting, value, remedy)


def require_limit(limit: object) -> None:
    """Raise ConfigurationTypeError unless a call can reserve by `limit`."""
    if not isinstance(limit, LIMITS):
        raise ConfigurationTypeError("limit", limit, "give a Quota, or a Concurrency")


def require_instance(setting: str, value: T, kind: type, remedy: str) -> T:
    """Return `value`; raise ConfigurationTypeError unless it is a `kind`."""
    if not isinstance(value, kind):
        raise ConfigurationTypeError(setting, value, remedy)
    return value


def require_function(setting: str, value: T, remedy: str) -> T:
    """Return `value`; raise ConfigurationTypeError unless it can be called."""
    if not callable(value):
        raise ConfigurationTypeError(setting, value, remedy)
    return value


def require_application(value: T, kind: str, arguments: int, remedy: str) -> T:
    """Return `value`; raise ConfigurationTypeError unless a server of a kind can call it with so many arguments."""
    require_function("app", value, f"give the {kind} application that this one stands in front of")
    if not accepts(value, arguments):
        raise ConfigurationTypeError("app", value, remedy)
    return value


def accepts(function: Any, arguments: int) -> bool:  # noqa: ANN401 - whatever was given for a function
    """Return whether a function can be called with so many arguments, by its signature if it has one."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError, NameError):
        # Some built-in functions have none, and the names in annotations may not exist.
        return True
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def require_flag(setting: str, value: bool) -> bool:  # noqa: FBT001 - that is what it checks
    """Return `value`, or raise ConfigurationTypeError unless it is a `bool`."""
    return require_instance(setting, value, bool, "give True or False")


def require_store(store: object) -> None:
    """Raise ConfigurationTypeError unless `store` has the methods of a RateLimiter that middleware calls."""
    if isinstance(store, type) or not all(callable(getattr(store, name, None)) for name in _STORE_METHODS):
        raise ConfigurationTypeError("store", store, "give a RateLimiter, for example ShmStore.open(Config(limit=100))")


def require_collection(setting: str, value: object, remedy: str) -> Iterable[Any]:
    """Return `value`; raise ConfigurationTypeError unless it can be read like a list.

    The characters of a text and the keys of a dict are no list.
    """
    if not isinstance(value, Iterable) or isinstance(value, _NO_LISTS):
        raise ConfigurationTypeError(setting, value, remedy)
    return value


def require_path(setting: str, path: object) -> None:
    """Raise ConfigurationTypeError unless `path` can be the path of a file."""
    if not isinstance(path, str | PathLike) or isinstance(fspath(path), bytes):
        raise ConfigurationTypeError(setting, path, "give the path of a file, as a str or a Path")


def require_binary(file: object, method: str) -> None:
    """Raise ConfigurationTypeError unless `file` is open to `read` or to `write` bytes."""
    if not callable(getattr(file, method, None)) or isinstance(file, type | TextIOBase):
        raise ConfigurationTypeError("file", file, f"give a file that is open for bytes: open(path, '{method[0]}b')")


def require_clock(clock: object) -> Callable[[], int]:
    """Return `clock`; raise ConfigurationError unless it can be called, and tells nanoseconds as an `int`."""
    remedy = "give a function that returns nanoseconds as an int, such as time.monotonic_ns"
    if not callable(clock):
        raise ConfigurationTypeError("clock", clock, remedy)
    try:
        now = clock()
    except Exception as error:
        raise ConfigurationError("clock", clock, f"{remedy}: it has raised {shown(error)}") from error
    if type(now) is not int or now < 0:
        raise ConfigurationError("clock", clock, f"{remedy}: it has returned {shown(now)}")
    return clock


def require_picklable(setting: str, value: object) -> None:
    """Raise ConfigurationError unless `value` can be sent to another process."""
    # Loaded when needed: most programs pickle no store.
    pickler = import_module("multiprocessing.reduction").ForkingPickler
    try:
        pickler.dumps(value)
    except Exception as error:
        remedy = f"a pickle of the store has it: give a function of a module, by its name; {excerpt(error)}"
        raise ConfigurationError(setting, value, remedy) from error


def _positions(shadow: object, takes: int) -> Collection[int]:
    """Return the positions in `shadow`, which are those of so many takes."""
    # The usual ones cost nothing.
    if type(shadow) in (tuple, list) and not shadow:
        return ()
    remedy = f"give a list of positions of the {takes} takes, counted from 0"
    if not isinstance(shadow, Collection) or isinstance(shadow, _NO_LISTS):
        raise ConfigurationTypeError("shadow", shadow, remedy)
    for at in shadow:
        if type(at) is not int or not 0 <= at < takes:
            raise unusable("shadow", at, remedy, int)
    return shadow


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Return whether a value is a list, or a tuple or another sequence that reads like one."""
    # Nearly always one of these; to ask an abstract class costs ten times as much.
    return type(value) in (list, tuple) or (isinstance(value, Sequence) and not isinstance(value, _NO_LISTS))
