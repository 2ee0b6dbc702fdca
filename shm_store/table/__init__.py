"""Internal. The shared table: its byte map, its segment, stripes, seats and buckets, and recovery from death."""

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
