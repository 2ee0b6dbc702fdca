"""Stripes, the seats that hold them, and recovery from death."""

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
