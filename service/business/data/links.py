"""A short link, what makes one, and a page of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

URL_LENGTH_MAX: Final = 2048
PAGE_SIZE_MAX: Final = 100

Code = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{3,32}\Z")]


class NewLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends to make a link.

    Attributes:
        url: Where the link leads: an absolute `http` or `https` URL, in ASCII as RFC 3986 writes them.
        code: The name the client wants for it, 3 to 32 letters, digits, `_` and `-`; one is made when it is left out.

    Raises:
        ValueError: `url` is not such a URL.
    """

    url: Annotated[str, msgspec.Meta(max_length=URL_LENGTH_MAX, extra_json_schema={"format": "uri"})]
    # Not None: left out is one thing, and null would be another way to say it.
    code: Code | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Check the URL, which is sent back as a header: nothing in it may end the header or change its encoding."""
        if not _is_web_url(self.url):
            raise ValueError(
                "`url` must be an absolute http or https URL without spaces, and with characters outside ASCII "
                "percent-encoded, for example 'https://example.org/page'"
            )


class Link(msgspec.Struct, frozen=True):
    """A short link.

    Attributes:
        code: Its name; the redirect is at `/r/<code>`.
        url: Where it leads.
        created_at: When it was made, in UTC.
        hits: How often it was followed.
    """

    code: str
    url: str
    created_at: datetime
    hits: int = 0


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of the links, in the order of their codes.

    Attributes:
        limit: Links on the page at most.
        after: The page begins after this code; empty for the first page.
    """

    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_SIZE_MAX)] = 50
    after: Annotated[str, msgspec.Meta(max_length=32)] = ""


class LinkPage(msgspec.Struct, frozen=True):
    """A page of links.

    Attributes:
        links: The links, in the order of their codes.
        next: The `after` of the next page; null when this is the last one.
    """

    links: list[Link]
    next: str | None


def _is_web_url(url: str) -> bool:
    if not all("!" <= character <= "~" for character in url):
        return False
    try:
        parts = urlsplit(url)
        # Reading the port is what checks it.
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
