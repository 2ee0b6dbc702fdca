"""`python -m shm_store.sweeper`: the sweeper as a process of its own."""

from shm_store.sweeper import main

main()
