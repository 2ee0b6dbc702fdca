"""The table's use of the operating system: the owners of files, locks, and semaphores."""

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
