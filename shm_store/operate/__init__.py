"""The operator's view of a table, from outside, and the operator's work on it."""

from shm_store.core.tally import Counts, Requests
from shm_store.operate.entry import Entry, Used
from shm_store.operate.inspection import Inspection, tables
from shm_store.operate.query import Found, Query, select
from shm_store.operate.stats import Process, Stats

__all__ = [
    "Counts",
    "Entry",
    "Found",
    "Inspection",
    "Process",
    "Query",
    "Requests",
    "Stats",
    "Used",
    "select",
    "tables",
]

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
