"""Builds the concrete things and puts them into each other's hands; nothing else does."""

from service.app.construct.application import asgi, wsgi
from service.app.construct.logs import LOGGERS
from service.app.construct.reloads import check_reload
from service.app.construct.server import announcement, application_uri
from service.app.construct.stores import check_server, prepare_table

__all__ = [
    "LOGGERS",
    "announcement",
    "application_uri",
    "asgi",
    "check_reload",
    "check_server",
    "prepare_table",
    "wsgi",
]
