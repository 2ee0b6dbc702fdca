"""The types that go in and out."""

from service.business.data.links import Link, LinkPage, NewLink, PageQuery
from service.business.data.probes import Health, Pong

__all__ = ["Health", "Link", "LinkPage", "NewLink", "PageQuery", "Pong"]
