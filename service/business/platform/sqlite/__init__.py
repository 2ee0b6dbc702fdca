"""Storage in one SQLite file that all workers share."""

from service.business.platform.sqlite.connections import Connections
from service.business.platform.sqlite.links import SCHEMA, SqliteLinks

__all__ = ["SCHEMA", "Connections", "SqliteLinks"]
