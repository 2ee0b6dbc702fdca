"""The types that go in and out."""

from service.business.data.limits import Limit, LimitPage, LimitQuery, NewBlock, NewOverride
from service.business.data.links import Link, LinkPage, NewLink, PageQuery
from service.business.data.probes import Health, Pong
from service.business.data.table import PolicyCounts, ProcessSeats, Status, TableStats

__all__ = [
    "Health",
    "Limit",
    "LimitPage",
    "LimitQuery",
    "Link",
    "LinkPage",
    "NewBlock",
    "NewLink",
    "NewOverride",
    "PageQuery",
    "PolicyCounts",
    "Pong",
    "ProcessSeats",
    "Status",
    "TableStats",
]
