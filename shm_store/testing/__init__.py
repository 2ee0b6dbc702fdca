"""For tests of programs that use a limiter: a clock that stands still until a test advances it."""

from shm_store.testing.clock import FakeClock

__all__ = ["FakeClock"]

IS_STORE_OPERATION = True  # see `shm_store.process.unwinding`
