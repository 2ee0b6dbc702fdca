"""The records of a segment: slots, labels, and tallies."""

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
