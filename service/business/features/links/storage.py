"""What the links feature needs of a storage."""

from __future__ import annotations

from typing import Protocol

from service.business.data import Link


class LinkStorage(Protocol):
    """Keeps links by their code; every method may raise StorageUnavailableError."""

    def add(self, link: Link) -> None:
        """Keep a new link.

        Raises:
            CodeTakenError: A link of that code is kept already.
        """
        ...

    def page(self, after: str, size: int) -> list[Link]:
        """Return at most `size` links whose codes sort after `after`, in the order of their codes."""
        ...

    def get(self, code: str) -> Link | None:
        """Return the link, or None."""
        ...

    def hit(self, code: str) -> Link | None:
        """Count a hit, exactly one however many processes do so at once, and return the link, or None."""
        ...

    def remove(self, code: str) -> bool:
        """Forget the link; return whether there was one."""
        ...
