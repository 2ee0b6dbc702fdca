"""The links feature: the rules of short links, over any storage."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from service.business.data import Link, LinkPage, NewLink, PageQuery
from service.business.features.links.errors import CodeTakenError, LinkNotFoundError
from service.business.features.links.storage import LinkStorage

_ALPHABET: Final = string.ascii_letters + string.digits
# 62**7 codes: with a million links, about one new code in 3.5 million is taken at the first attempt.
_CODE_LENGTH: Final = 7
_ATTEMPTS: Final = 5


def random_code() -> str:
    """Return a code that nobody can guess from those made before."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Links:
    """Makes, lists, looks up, follows and deletes links.

    Args:
        storage: Keeps them.
        make_code: Makes the code of a link whose maker wants no particular one.
        now: Returns the time in UTC.
    """

    def __init__(
        self,
        storage: LinkStorage,
        *,
        make_code: Callable[[], str] = random_code,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._storage = storage
        self._make_code = make_code
        self._now = now

    def create(self, new: NewLink) -> Link:
        """Make a link and return it.

        Raises:
            CodeTakenError: The code that the client chose is taken.
        """
        if isinstance(new.code, str):
            return self._add(new.code, new.url)
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._add(self._make_code(), new.url)
            except CodeTakenError:
                continue
        return self._add(self._make_code(), new.url)

    def page(self, query: PageQuery) -> LinkPage:
        """Return a page of links."""
        found = self._storage.page(query.after, query.limit + 1)
        links, further = found[: query.limit], found[query.limit :]
        return LinkPage(links, links[-1].code if further else None)

    def get(self, code: str) -> Link:
        """Return a link; does not count as a hit.

        Raises:
            LinkNotFoundError: There is none.
        """
        return _found(code, self._storage.get(code))

    def follow(self, code: str) -> Link:
        """Count a hit and return the link, this hit included.

        Raises:
            LinkNotFoundError: There is none.
        """
        return _found(code, self._storage.hit(code))

    def delete(self, code: str) -> None:
        """Delete a link.

        Raises:
            LinkNotFoundError: There is none.
        """
        if not self._storage.remove(code):
            raise LinkNotFoundError(code)

    def _add(self, code: str, url: str) -> Link:
        link = Link(code, url, self._now())
        self._storage.add(link)
        return link


def _found(code: str, link: Link | None) -> Link:
    if link is None:
        raise LinkNotFoundError(code)
    return link
