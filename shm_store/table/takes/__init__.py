"""Every take of a table: what decides on it, what it stores, and what a process remembers of it."""

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
