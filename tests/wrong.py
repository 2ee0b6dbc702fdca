"""Wrong arguments: of each kind of argument the values of other types, and those of its type that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, NamedTuple

from shm_store import Quota, StoreError
from shm_store.core.quoting import shown

NAN: Final = float("nan")
HUGE: Final = 10**5_000
LONG: Final = "9" * 1_100_000


class Index:
    """An object that may stand for an integer, as the integers of NumPy may."""

    def __index__(self) -> int:
        return 1


class Nameless:
    """An object that has no text."""

    def __repr__(self) -> str:
        raise AttributeError


#: At least one value of every type that a caller may give by mistake.
VALUES: Final[tuple[Any, ...]] = (
    None,
    False,
    True,
    0,
    1,
    1.0,
    NAN,
    "",
    "x",
    b"",
    b"x",
    bytearray(),
    [],
    ["x"],
    (),
    {},
    {"x": 1},
    set(),
    object(),
    int,
    Index(),
    Nameless(),
    len,
    timedelta(seconds=1),
)


def is_none(value: object) -> bool:
    return value is None


class Kind(NamedTuple):
    """The values that an argument may have.

    Attributes:
        types: Its types; bool is none of them, unless it is named.
        unusable: Values of these types that cannot be used.
        also: Tells other values that may be given.
        others: Further values that are, or contain, values of other types.
    """

    types: tuple[type, ...]
    unusable: tuple[Any, ...] = ()
    also: Callable[[Any], bool] = lambda _value: False
    others: tuple[Any, ...] = ()

    def wrong(self) -> Iterator[tuple[Any, type[Exception]]]:
        """Yield values that a call must refuse, and the standard error that its error is as well."""
        for value in VALUES:
            if not self._is_typed(value) and not self.also(value):
                yield value, TypeError
        for value in self.others:
            yield value, TypeError
        for value in self.unusable:
            yield value, ValueError

    def _is_typed(self, value: object) -> bool:
        if isinstance(value, bool):
            return bool in self.types
        return isinstance(value, self.types)


TEXT: Final = Kind((str,))
LIMIT: Final = Kind((int,), (0, -1, 2**63, HUGE))
QUOTA: Final = Kind((Quota,), also=is_none)
DURATION: Final = Kind((int, float, str, timedelta), (0, -1, NAN, float("inf"), 1e308, "", "x", LONG, timedelta.max))
#: A duration that may be nothing.
SECONDS: Final = Kind(DURATION.types, DURATION.unusable[1:])
TIMEOUT: Final = Kind(SECONDS.types, SECONDS.unusable, is_none)


def integer(least: int, most: int) -> Kind:
    return Kind((int,), (least - 1, most + 1, -HUGE, HUGE))


def choice(*, optional: bool = False) -> Kind:
    return Kind((str,), ("", "x"), is_none) if optional else Kind((str,), ("", "x"))


def refused(call: Callable[[Any], object], kind: Kind, setting: str) -> list[str]:
    """Return one line for each value that a call must refuse, and takes or refuses in another way."""
    return [text for value, error in kind.wrong() if (text := _fault(call, value, error, setting))]


def _fault(call: Callable[[Any], object], value: object, expected: type[Exception], setting: str) -> str:
    given = shown(value)[:60]
    try:
        call(value)
    except (StoreError, TypeError, ValueError) as error:
        if not isinstance(error, StoreError) or not isinstance(error, expected):
            return f"{given}: {error!r} is no StoreError that is a {expected.__name__}"
        if expected is ValueError and isinstance(error, TypeError):
            return f"{given}: {error!r} is a TypeError for a value of the right type"
        if not str(error).startswith(setting) or " is " not in str(error) or "\n" in str(error):
            return f"{given}: {str(error)[:200]!r} does not name {setting}"
    except Exception as error:  # noqa: BLE001 - whatever else it is, it is wrong
        return f"{given}: {error!r}"
    else:
        return f"{given}: it is taken"
    return ""
