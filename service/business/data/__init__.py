"""The types that go in and out."""

from service.business.data.limits import Changed, Doubt, Limit, LimitPage, LimitQuery, NewBlock, NewOverride
from service.business.data.links import Link, LinkPage, NewLink, PageQuery
from service.business.data.probes import Health, Pong, SweeperState
from service.business.data.table import PolicyCounts, Process, RequestCounts, Status, TableStats

__all__ = [
    "Changed",
    "Doubt",
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
    "Process",
    "RequestCounts",
    "Status",
    "SweeperState",
    "TableStats",
]
