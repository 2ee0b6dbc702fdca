"""The root of all errors, and the errors about arguments and settings.

One rule holds for the arguments of every public function, on every store:

* A value that cannot be used raises a `ConfigurationError`, for a cost a `CostError`. Both are `ValueError`s.
* A value of the wrong type raises a `ConfigurationTypeError` or a `CostTypeError`. These are the same errors and
  `TypeError`s as well. `True` and `False` are never integers.
* The call that is wrong raises the error, and changes nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from shm_store.core.quoting import named, shown


class StoreError(Exception):
    """Root of all errors of this package; pickles with its fields.

    Attributes:
        fields: The names of its fields.
        is_failure: Whether the store itself has failed, which a policy's `on_error` is for. False for what a setting, a
            call or a client's request can cause: the HTTP layer answers 503, and lets no such request through.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    is_failure: ClassVar[bool] = True

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field) for field in self.fields)


class ConfigurationError(StoreError, ValueError):
    """A setting, or an argument in the role of one, has a value that cannot be used."""

    fields = ("setting", "value", "remedy")
    is_failure = False

    def __init__(self, setting: str, value: object, remedy: str) -> None:
        super().__init__(f"{named(setting)} is {shown(value)}: {remedy}")
        self.setting = setting
        self.value = value
        self.remedy = remedy

    def of(self, setting: str) -> Self:
        """Return the same error about a setting of another name."""
        return type(self)(setting, self.value, self.remedy)


class ConfigurationTypeError(ConfigurationError, TypeError):
    """A setting, or an argument in the role of one, is of a type that cannot be used."""


def unusable(setting: str, value: object, remedy: str, *types: type) -> ConfigurationError:
    """Return the error about a value that cannot be used: a `ConfigurationTypeError` if it is of none of `types`."""
    has_type = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    return (ConfigurationError if has_type else ConfigurationTypeError)(setting, value, remedy)


class CostError(StoreError, ValueError):
    """The cost is not a positive integer, or no wait would ever make room for it.

    Attributes:
        cost: The cost.
        limit: Most units at once.
        index: Which of the takes of one call it is, from 0.
    """

    fields = ("cost", "limit", "index")
    is_failure = False

    def __init__(self, cost: object, limit: int, index: int = 0) -> None:
        super().__init__(f"cost is {shown(cost)}: give an integer from 1 to {limit}, the most units at once")
        self.cost = cost
        self.limit = limit
        self.index = index


class CostTypeError(CostError, TypeError):
    """The cost is no `int`."""


def unusable_cost(cost: object, limit: int, index: int = 0) -> CostError:
    """Return the error about a cost that a bucket cannot have."""
    return (CostError if type(cost) is int else CostTypeError)(cost, limit, index)
