"""Decorators that mark responders with limits of their own, or exempt them from every limit.

A mark changes nothing in the responder. The middleware finds it by way of the application's router, before the
responder runs and together with all other policies of the request: one that is denied is charged to none.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from shm_store.errors import ConfigurationError, ConfigurationTypeError
from shm_store.http.options import CLIENT_KEY, unnamed_policy
from shm_store.http.planning.plan import Further
from shm_store.policy import Policy
from shm_store.policy.key_specification import Source
from shm_store.policy.policy import Absent, Mode, OnError
from shm_store.quota import Quota

_Responder = TypeVar("_Responder", bound=Callable[..., Any])

_ATTRIBUTE: Final = "__shm_store_marks__"
_NAME_LENGTH_MAX: Final = 64
# The limits of responders by their names.
_named: Final[dict[str, Policy]] = {}
# Middleware without a router, of before the first mark.
_unaware: Final[weakref.WeakSet[object]] = weakref.WeakSet()
_NO_ROUTER: Final = (
    "{} is marked with @limit or @exempt, which has no effect: RateLimitMiddleware has no router; give it that of the "
    "application, router = DefaultRouter(), falcon.App(router=router, middleware=[RateLimitMiddleware(..., "
    "router=router)])"
)
_WEBSOCKET: Final = "on_websocket"
_WEBSOCKET_REMEDY: Final = (
    "the middleware of Falcon does not limit WebSocket handshakes: put shm_store.asgi.RateLimitMiddleware in front of"
    " the application, with a policy for the path"
)

_log: Final = logging.getLogger("shm_store.falcon")


class Marks(Further):
    """The marks of a responder: its own limits, and whether it is exempt.

    Attributes:
        exempt: Whether no policy covers it.
    """

    #: The first responder that was marked in this process; None if there is none.
    first: str | None = None

    def __init__(self, policies: tuple[Policy, ...], *, exempt: bool) -> None:
        super().__init__(policies)
        self.exempt = exempt


def limit(
    quota: str | Quota | None = None,
    *,
    name: str | None = None,
    algorithm: str | None = None,
    burst: int | None = None,
    concurrency: int | None = None,
    key: Sequence[Source] = CLIENT_KEY,
    absent: Absent = "share",
    cost: int = 1,
    mode: Mode = "enforce",
    on_error: OnError = "allow",
    refund: Collection[int | str] | None = None,
) -> Callable[[_Responder], _Responder]:
    """Limit a responder, a suffixed one too: `@limit("5/minute")` above `def on_post(self, req, resp)`.

    The arguments are those of a Policy. Without a `name`, the policy's is made of the responder's module and name.

    The middleware must be given the application's router. Several decorators of one responder limit together.
    Responders that have equal decorators, with one name, share a limit; so do classes that inherit one. A policy of the
    middleware that has the same name takes precedence.

    Raises:
        ConfigurationError: A value cannot be used, another limit has the name, or what is decorated is no function.
    """
    options: dict[str, Any] = {
        "quota": quota,
        "algorithm": algorithm,
        "burst": burst,
        "concurrency": concurrency,
        "key": key,
        "absent": absent,
        "cost": cost,
        "mode": mode,
        "on_error": on_error,
        "refund": refund,
    }
    # Here, and not where it decorates: the error is of this call.
    named = unnamed_policy("limit", options) if name is None else Policy(name=name, **options)

    def mark(responder: _Responder) -> _Responder:
        _require_function(responder)
        if responder.__name__ == _WEBSOCKET:
            raise ConfigurationError("decorated", _place(responder), _WEBSOCKET_REMEDY)
        before = marks_of(responder)
        policy = named
        if name is None:
            policy = Policy(name=_name(responder, 0 if before is None else len(before.policies)), **options)
        if before is None:
            return _marked(responder, Marks((_claimed(policy),), exempt=False))
        if any(policy.name == other.name for other in before.policies):
            raise ConfigurationError("name", policy.name, "this responder has a limit of that name: choose another")
        return _marked(responder, Marks((_claimed(policy), *before.policies), exempt=before.exempt))

    return mark


def exempt(responder: _Responder) -> _Responder:
    """Exempt a responder, a suffixed one too, from every policy: `@exempt` above `def on_get(self, req, resp)`.

    The middleware must be given the application's router.

    Raises:
        ConfigurationTypeError: The decorated object is no function.
    """
    _require_function(responder)
    return _marked(responder, Marks((), exempt=True))


def marks_of(responder: object) -> Marks | None:
    """Return the marks of a responder, or of a function that wraps it as `functools.wraps` does."""
    return getattr(responder, _ATTRIBUTE, None)


def marked_policies() -> tuple[Policy, ...]:
    """Return all limits of responders that were marked so far."""
    return tuple(_named.values())


def needs_router(middleware: object) -> str | None:
    """Return what is wrong with middleware without a router; None while no responder is marked.

    The log tells it as soon as one is.
    """
    if Marks.first is None:
        _unaware.add(middleware)
        return None
    return _NO_ROUTER.format(Marks.first)


def _marked(responder: _Responder, marks: Marks) -> _Responder:
    setattr(responder, _ATTRIBUTE, marks)
    Marks.first = Marks.first or _place(responder)
    if _unaware:
        _unaware.clear()
        _log.error("%s", _NO_ROUTER.format(Marks.first))
    return responder


def _require_function(responder: object) -> None:
    if not inspect.isfunction(responder):
        raise ConfigurationTypeError("decorated", responder, "decorate a responder: a function on_get, on_post, ...")


def _claimed(policy: Policy) -> Policy:
    """Return the policy, if no other one of a responder has its name: each would undo what the other has counted."""
    if _named.setdefault(policy.name, policy) != policy:
        raise ConfigurationError(
            "name", policy.name, "another responder has another limit of that name: choose another"
        )
    return policy


def _name(responder: Callable[..., Any], before: int) -> str:
    """Return a name for the policy of a responder that has as many limits as `before`."""
    place = _place(responder)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", place) + (f"-{before + 1}" if before else "")
    if len(name) <= _NAME_LENGTH_MAX:
        return name
    # The end tells people which responder it is, and the hash tells it from others that end so.
    digest = hashlib.blake2b(f"{place}-{before}".encode(), digest_size=4).hexdigest()
    return f"{name[len(digest) + 1 - _NAME_LENGTH_MAX :]}-{digest}"


def _place(responder: Callable[..., Any]) -> str:
    return f"{responder.__module__}.{responder.__qualname__}"
