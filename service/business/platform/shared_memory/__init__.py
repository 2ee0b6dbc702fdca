"""The table of the limiter, in shared memory."""

from service.business.platform.shared_memory.limits import StoreLimits

__all__ = ["StoreLimits"]
