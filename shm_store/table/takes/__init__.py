"""Every take of a table: what decides on it, what it stores, and what a process remembers of it."""

#: See `shm_store.process.unwinding`.
IS_STORE_OPERATION = True
