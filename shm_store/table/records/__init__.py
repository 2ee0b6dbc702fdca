"""The records of a segment: slots, labels, and tallies."""

#: See `shm_store.process.unwinding`.
IS_STORE_OPERATION = True
