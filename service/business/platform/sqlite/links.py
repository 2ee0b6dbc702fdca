"""Links in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from service.business.data import Link
from service.business.features.links import CodeTakenError, StorageUnavailableError
from service.business.platform.sqlite.connections import Connections

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS links (
    code       TEXT    PRIMARY KEY,
    url        TEXT    NOT NULL,
    created_at TEXT    NOT NULL, -- ISO 8601, UTC
    hits       INTEGER NOT NULL
) STRICT, WITHOUT ROWID
"""


class SqliteLinks:
    """Keeps links in a table of their own; implements `LinkStorage`.

    Args:
        connections: Connections to a database with `SCHEMA` in place.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def add(self, link: Link) -> None:
        """Insert the link, in one statement so that of two with the same code only one gets it."""
        row = (link.code, link.url, link.created_at.isoformat(), link.hits)
        with self._connection() as connection:
            try:
                connection.execute("INSERT INTO links (code, url, created_at, hits) VALUES (?, ?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise CodeTakenError(link.code) from error

    def page(self, after: str, size: int) -> list[Link]:
        """Read on from `after` in the index, so that a late page costs what the first one does."""
        return self._links(
            "SELECT code, url, created_at, hits FROM links WHERE code > ? ORDER BY code LIMIT ?", (after, size)
        )

    def get(self, code: str) -> Link | None:
        """Read the link."""
        return _first(self._links("SELECT code, url, created_at, hits FROM links WHERE code = ?", (code,)))

    def hit(self, code: str) -> Link | None:
        """Add to the count in the database itself: reading it first would lose hits of other workers."""
        return _first(
            self._links(
                "UPDATE links SET hits = hits + 1 WHERE code = ? RETURNING code, url, created_at, hits", (code,)
            )
        )

    def remove(self, code: str) -> bool:
        """Delete the link."""
        with self._connection() as connection:
            return connection.execute("DELETE FROM links WHERE code = ?", (code,)).rowcount > 0

    def _links(self, statement: str, values: tuple[str | int, ...]) -> list[Link]:
        with self._connection() as connection:
            # To the last row: an UPDATE with RETURNING commits only when all its rows have been read.
            rows = connection.execute(statement, values).fetchall()
        return [Link(code, url, datetime.fromisoformat(created_at), hits) for code, url, created_at, hits in rows]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connections.get()
        except (sqlite3.Error, OSError) as error:
            raise StorageUnavailableError(str(self._connections.path), str(error)) from error


def _first(links: list[Link]) -> Link | None:
    return links[0] if links else None
