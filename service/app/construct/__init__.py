"""Builds the concrete things and puts them into each other's hands; nothing else does."""

from service.app.construct.application import asgi, prepare_store, wsgi
from service.app.construct.logs import LOGGERS
from service.app.construct.server import announcement, application_uri

__all__ = ["LOGGERS", "announcement", "application_uri", "asgi", "prepare_store", "wsgi"]
