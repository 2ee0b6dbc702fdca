"""Reads what clients send: JSON bodies of a bounded length and queries, into the types of `business.data`."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import falcon
import falcon.asgi
import msgspec
from falcon.media import Handlers, JSONHandler

from service.app.api.reading import UnreadableError, read

BODY_LENGTH_MAX: Final = 16_384
_RESPONDERS: Final = {"POST": "on_post", "PUT": "on_put"}

_T = TypeVar("_T", bound=msgspec.Struct)


def json_handlers() -> Handlers:
    """Return media handlers that read and write JSON with msgspec, and refuse every other type."""
    return Handlers({falcon.MEDIA_JSON: JSONHandler(dumps=msgspec.json.encode, loads=_decode)})


class ReadBody:
    """Reads the body of a POST or a PUT into `req.context.body` before the responder runs.

    Only here does it matter that ASGI must await a body: responders find it read, and are the same for both protocols.
    """

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Read the body for WSGI.

        Raises:
            falcon.HTTPError: 411 without its length, 413 if too long, 415 if not JSON by its type, 400 if there is none
                or it is not JSON.
        """
        if _expects_body(req, resource):
            req.context.body = req.get_media()

    async def process_resource_async(
        self, req: falcon.asgi.Request, _resp: falcon.asgi.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Do the same for ASGI."""
        if _expects_body(req, resource):
            req.context.body = await req.get_media()


def body_as(req: falcon.Request, kind: type[_T]) -> _T:
    """Return the body that `ReadBody` read, as a `kind`.

    Raises:
        falcon.HTTPUnprocessableEntity: It is none; the error says where it differs.
    """
    try:
        return read(req.context.body, kind)
    except UnreadableError as error:
        raise falcon.HTTPUnprocessableEntity(description=str(error)) from error


def query_as(req: falcon.Request, kind: type[_T]) -> _T:
    """Return the query parameters as a `kind`.

    Raises:
        falcon.HTTPBadRequest: They are none; the error says where they differ.
    """
    try:
        return read(req.params, kind, strict=False)
    except UnreadableError as error:
        raise falcon.HTTPBadRequest(description=f"Query: {error}") from error


def _expects_body(req: falcon.Request, resource: object) -> bool:
    """Return whether a request has a body to read; check that its length is given and not too large."""
    responder = _RESPONDERS.get(req.method)
    if responder is None or not hasattr(resource, responder):
        return False
    length = req.content_length
    if length is None and req.get_header("transfer-encoding") is not None:
        raise falcon.HTTPLengthRequired(description="Send the body with a Content-Length, not in chunks.")
    if length is None:
        raise falcon.HTTPBadRequest(description="Send a body, with a Content-Length.")
    if length > BODY_LENGTH_MAX:
        raise falcon.HTTPContentTooLarge(description=f"The body may have {BODY_LENGTH_MAX} bytes at most.")
    return True


def _number(text: str) -> float:
    value = float(text)
    # In JSON 5.0 is an integer as well (JSON Schema, Core, section 6.1.1).
    return int(value) if value.is_integer() else value


_decoder: Final = msgspec.json.Decoder(float_hook=_number)


def _decode(text: str) -> object:
    try:
        return _decoder.decode(text)
    except RecursionError as error:
        # Otherwise sixteen kilobytes of "[" would be answered with 500.
        raise msgspec.DecodeError("nested too deeply") from error
