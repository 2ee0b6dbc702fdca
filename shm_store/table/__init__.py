"""Internal. The shared table: its byte map, its segment, stripes, seats and buckets, and recovery from death."""

#: See `shm_store.process.unwinding`.
IS_STORE_OPERATION = True
