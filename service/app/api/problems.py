"""Answers every error with a problem document (RFC 9457), whatever the client accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NoReturn

import falcon
import msgspec

from service.business.features.limits import LimitNotFoundError, LimitRefusedError, TableUnavailableError
from service.business.features.links import CodeTakenError, LinkNotFoundError, StorageUnavailableError
from shm_store.errors import excerpt

_PROBLEM_JSON: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 5

_log = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem document.

    Attributes:
        title: The status in words.
        status: The HTTP status.
        detail: The fault of this request; left out if there is none.
    """

    title: str
    status: int
    detail: str | None = None


def serialize_problem(_req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    """Write an HTTP error as a problem document.

    Falcon's own serializer negotiates: it knows no problem+json, and answers `Accept: text/html` with an empty body.
    """
    status = error.status_code
    resp.data = msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, error.description))
    resp.content_type = _PROBLEM_JSON


def _not_found(_req: falcon.Request, _resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> NoReturn:
    raise falcon.HTTPNotFound(description=excerpt(error)) from error


def _taken(_req: falcon.Request, _resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> NoReturn:
    raise falcon.HTTPConflict(description=str(error)) from error


def _refused(_req: falcon.Request, _resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> NoReturn:
    raise falcon.HTTPUnprocessableEntity(description=str(error)) from error


def _unavailable(_req: falcon.Request, _resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> NoReturn:
    # The client need not know paths of this machine; the operator must.
    _log.error("request answered with 503: %s", error)
    raise falcon.HTTPServiceUnavailable(
        description="What this needs cannot be reached now: try again.", retry_after=_RETRY_AFTER_S
    ) from error


def _unexpected(req: falcon.Request, _resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> NoReturn:
    # Falcon would write it to the server's standard error, past the log and its format.
    # Not the path: of an operator's request it has the key.
    _log.error("request failed: %s %s", req.method, req.uri_template or "of no route", exc_info=error)
    raise falcon.HTTPInternalServerError from error


ERROR_HANDLERS: Final[dict[type[Exception], Callable[..., NoReturn]]] = {
    Exception: _unexpected,
    LinkNotFoundError: _not_found,
    CodeTakenError: _taken,
    StorageUnavailableError: _unavailable,
    LimitNotFoundError: _not_found,
    LimitRefusedError: _refused,
    TableUnavailableError: _unavailable,
}
