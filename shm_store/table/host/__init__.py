"""The table's use of the operating system: the owners of files, locks, and semaphores."""

#: See `shm_store.process.unwinding`.
IS_STORE_OPERATION = True
