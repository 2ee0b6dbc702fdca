"""The operator's view of a table, from outside, and the operator's work on it."""

from shm_store.core.digest import Digest, read_key
from shm_store.core.tally import Counts, Requests
from shm_store.operate.entry import Entry, Used
from shm_store.operate.inspection import Inspection, tables
from shm_store.operate.query import Query, Selection, select
from shm_store.operate.spelling import Doubt, doubt
from shm_store.operate.stats import Process, Stats

__all__ = [
    "Counts",
    "Digest",
    "Doubt",
    "Entry",
    "Inspection",
    "Process",
    "Query",
    "Requests",
    "Selection",
    "Stats",
    "Used",
    "doubt",
    "read_key",
    "select",
    "tables",
]

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
