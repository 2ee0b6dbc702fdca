"""The segment: its byte map, its files, its mapping and its lifetime."""

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
