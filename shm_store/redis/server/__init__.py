"""How a call gets to the server and back: addresses, connections, deadlines, and failures."""

#: See `shm_store.process.unwinding`.
IS_STORE_OPERATION = True
