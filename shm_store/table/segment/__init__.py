"""The segment: its byte map, its files, its mapping and its lifetime."""

#: See `shm_store.process.unwinding`.
IS_STORE_OPERATION = True
