"""The sweeper of a segment: what it does, how a process starts it, and what keeps it alive."""

from shm_store.sweeper.sweeping import main

__all__ = ["main"]
