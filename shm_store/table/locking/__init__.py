"""Stripes, the seats that hold them, and recovery from death."""

#: See `shm_store.process.unwinding`.
IS_STORE_OPERATION = True
