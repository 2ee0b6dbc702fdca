"""The table's use of the operating system: the owners of files, locks, and semaphores."""
