"""Decorators that mark responders with limits of their own, or exempt them from every limit.

A mark changes nothing in the responder. The middleware finds it by way of the application's router, before the
responder runs and together with all other policies of the request: one that is denied is charged to none.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from shm_store.errors import ConfigurationError
from shm_store.http.options import CLIENT_KEY
from shm_store.policy import Policy
from shm_store.policy.policy import Mode, OnError
from shm_store.policy.recipe import Source
from shm_store.quota import Quota

_Responder = TypeVar("_Responder", bound=Callable[..., Any])

_ATTRIBUTE: Final = "__shm_store_marks__"
_NAME_LENGTH_MAX: Final = 64


class Marks:
    """What a responder is marked with.

    Attributes:
        policies: Its own limits.
        exempt: Whether no policy covers it.
    """

    #: The first responder that was marked in this process; None if there is none.
    first: str | None = None

    def __init__(self, policies: tuple[Policy, ...], *, exempt: bool) -> None:
        """Mark with both."""
        self.policies = policies
        self.exempt = exempt


def limit(
    quota: str | Quota | None = None,
    *,
    name: str | None = None,
    algorithm: str | None = None,
    burst: int | None = None,
    concurrency: int | None = None,
    key: Sequence[Source] = CLIENT_KEY,
    cost: int = 1,
    mode: Mode = "enforce",
    on_error: OnError = "allow",
    refund: Collection[int | str] | None = None,
) -> Callable[[_Responder], _Responder]:
    """Limit a responder, a suffixed one too: `@limit("5/minute")` above `def on_post(self, req, resp)`.

    The middleware must be given the application's router. Several decorators of one responder limit together. Whoever
    inherits a responder shares its limits.

    Args:
        quota: As of a Policy, like all others.
        name: The policy's name; made of the responder's module and name if None.
        algorithm: See Policy.
        burst: See Policy.
        concurrency: See Policy.
        key: See Policy.
        cost: See Policy.
        mode: See Policy.
        on_error: See Policy.
        refund: See Policy.

    Raises:
        ConfigurationError: A value cannot be used, or what is decorated is no function.
    """

    def mark(responder: _Responder) -> _Responder:
        policy = Policy(
            name=_name(responder) if name is None else name,
            quota=quota,
            algorithm=algorithm,
            burst=burst,
            concurrency=concurrency,
            key=key,
            cost=cost,
            mode=mode,
            on_error=on_error,
            refund=refund,
        )
        before = marks_of(responder)
        policies = (policy,) if before is None else (policy, *before.policies)
        return _marked(responder, Marks(policies, exempt=before is not None and before.exempt))

    return mark


def exempt(responder: _Responder) -> _Responder:
    """Exempt a responder, a suffixed one too, from every policy: `@exempt` above `def on_get(self, req, resp)`.

    The middleware must be given the application's router.

    Raises:
        ConfigurationError: What is decorated is no function.
    """
    return _marked(responder, Marks((), exempt=True))


def marks_of(responder: object) -> Marks | None:
    """Return the marks of a responder, or of a function that wraps it as `functools.wraps` does."""
    return getattr(responder, _ATTRIBUTE, None)


def _marked(responder: _Responder, marks: Marks) -> _Responder:
    if not inspect.isfunction(responder):
        raise ConfigurationError("decorated", responder, "decorate a responder: a function on_get, on_post, ...")
    setattr(responder, _ATTRIBUTE, marks)
    Marks.first = Marks.first or f"{responder.__module__}.{responder.__qualname__}"
    return responder


def _name(responder: Callable[..., Any]) -> str:
    """Return a name for the policy of a responder: its end is what tells responders apart."""
    full = f"{getattr(responder, '__module__', '')}.{getattr(responder, '__qualname__', '')}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", full)[-_NAME_LENGTH_MAX:]
