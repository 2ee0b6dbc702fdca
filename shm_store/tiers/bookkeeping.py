"""BookkeepingStore: limits that hosts share, and the books that each host keeps of them for operators."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Final

from shm_store.core.backend import Backend
from shm_store.core.front import Front
from shm_store.core.validation import require_instance
from shm_store.store import ShmStore
from shm_store.tiers.server import Server


class BookkeepingStore(Front[str]):
    """A store on Redis or Valkey beside a table of this host; implements `RateLimiter` and `Bookkeeping`.

    The server decides. The table has what the host's processes tell operators: how policies decide, and of which
    denials the log has told. Overrides are the server's.

    Attributes:
        has_fallback: Whether it decides while the server fails.
        tally: See Bookkeeping.
        request_tally: See Bookkeeping.
        begins_burst: See Bookkeeping.
        digest: See Bookkeeping; other hosts have other digits.
        garbage_collect: Reclaim the slots of expired buckets of the table in one whole pass; return how many.
    """

    has_fallback: ClassVar[bool] = False

    def __init__(self, shared: Server, table: ShmStore) -> None:
        """Decide by `shared`, and count in `table`; both are closed with this store.

        Raises:
            ConfigurationTypeError: One of them is another store.
        """
        self._shared: Final = require_instance("shared", shared, Server, "give RedisStore.open(url)")
        self._table: Final = require_instance("table", table, ShmStore, "give ShmStore.open(Config(...))")
        super().__init__(self._deciding(), clock=shared.clock)
        self.tally, self.request_tally = table.tally, table.request_tally
        self.begins_burst, self.digest = table.begins_burst, table.digest
        self.garbage_collect = table.garbage_collect

    def answered(self) -> None:
        """Take note of an answer that the server gave to a call past this store."""

    def close(self) -> None:
        """End what is in flight, and let go of the server and the table; may be called again."""
        self._settlements.close()
        self._shared.close()
        self._table.close()

    def _opening(self) -> partial[Any]:
        return partial(type(self), self._shared, self._table)

    def _deciding(self) -> Backend[str]:
        """Return what decides."""
        return self._shared.backend
