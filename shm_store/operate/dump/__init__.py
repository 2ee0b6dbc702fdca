"""Dumps: a table's buckets, overrides and blocks in a file, to be loaded into a table of another geometry or layout."""

from shm_store.operate.dump.loading import Loaded, load
from shm_store.operate.dump.saving import dump

__all__ = ["Loaded", "dump", "load"]

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
