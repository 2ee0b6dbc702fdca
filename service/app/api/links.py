"""Resources of the links feature."""

from __future__ import annotations

import falcon

from service.app.api.bodies import body_as, query_as
from service.business.data import NewLink, PageQuery
from service.business.features.links import Links


class LinkCollection:
    """`/v1/links`: all links."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List a page of them."""
        resp.media = self._links.page(query_as(req, PageQuery))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make one."""
        link = self._links.create(body_as(req, NewLink))
        resp.status = falcon.HTTP_201
        resp.location = f"/v1/links/{link.code}"
        resp.media = link


class LinkItem:
    """`/v1/links/{code}`: one link."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def on_get(self, _req: falcon.Request, resp: falcon.Response, code: str) -> None:
        """Describe it."""
        resp.media = self._links.get(code)

    def on_delete(self, _req: falcon.Request, resp: falcon.Response, code: str) -> None:
        """Delete it."""
        self._links.delete(code)
        resp.status = falcon.HTTP_204


class FollowLink:
    """`/r/{code}`: the short link itself."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def on_get(self, _req: falcon.Request, resp: falcon.Response, code: str) -> None:
        """Count a hit and redirect."""
        link = self._links.follow(code)
        resp.status = falcon.HTTP_302
        # Not through `resp.location`, which would rewrite the URL that its maker gave.
        resp.set_header("location", link.url)
        # A redirect from a cache would not be counted.
        resp.cache_control = ["no-store"]
