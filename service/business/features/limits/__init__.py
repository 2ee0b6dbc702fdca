"""Limits: list, look up, override, reset, block and unblock those of keys; how their table fares."""

from service.business.features.limits.errors import LimitNotFoundError, LimitRefusedError, TableUnavailableError
from service.business.features.limits.limits import Limits
from service.business.features.limits.table import LimitTable

__all__ = ["LimitNotFoundError", "LimitRefusedError", "LimitTable", "Limits", "TableUnavailableError"]
