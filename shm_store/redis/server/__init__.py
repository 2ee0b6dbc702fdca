"""How a call gets to the server and back: addresses, connections, deadlines, and failures."""

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
