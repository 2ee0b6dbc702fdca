"""How the service logs: by gunicorn's handlers, wherever these write to, as lines of text or of JSON."""

from __future__ import annotations

import logging
from typing import Final

from gunicorn.config import Config
from gunicorn.glogging import Logger
from pythonjsonlogger.msgspec import MsgspecFormatter

# Whose records go to gunicorn's error log beside its own.
_JOINED: Final = ("shm_store", "service")
_FIELDS: Final = {"asctime": "time", "levelname": "level", "name": "logger", "process": "pid"}


class TextLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's own format, for the limiter and the service as well."""

    def setup(self, cfg: Config) -> None:
        """Do as gunicorn does, and have the others' records go the same way."""
        super().setup(cfg)
        for name in _JOINED:
            joined = logging.getLogger(name)
            joined.handlers, joined.propagate = self.error_log.handlers, False
            joined.setLevel(self.error_log.level)


class JsonLogger(TextLogger):
    """An object for each record, with the fields that it carries."""

    def setup(self, cfg: Config) -> None:
        """Do the same, and change the format."""
        super().setup(cfg)
        formatter = MsgspecFormatter(
            [*_FIELDS, "message"], rename_fields=dict(_FIELDS), datefmt="%Y-%m-%dT%H:%M:%S%z", exc_info_as_array=True
        )
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(formatter)


LOGGERS: Final[dict[str, type[Logger]]] = {"text": TextLogger, "json": JsonLogger}
