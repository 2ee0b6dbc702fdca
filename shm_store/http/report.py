"""What the middleware of every framework tells about the requests of its process."""

from __future__ import annotations

from shm_store.http.request_limiter import RequestLimiter


class Report:
    """Tells how requests have fared, in this process."""

    def __init__(self, limiter: RequestLimiter) -> None:
        """Report on what `limiter` has decided."""
        self._limiter = limiter

    @property
    def errors(self) -> dict[str, int]:
        """How often the store failed in this process, by the name of the error's type."""
        return self._limiter.errors

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How the policies have decided in this process: by policy, how many requests it has counted as what.

        `allowed`, `denied`, `overruled` (not denied by this policy, and not served), `shadow_denied`, `errors`.
        """
        return self._limiter.counts

    @property
    def requests(self) -> dict[str, int]:
        """What became of the limited requests of this process, each counted once.

        `allowed`, `denied`, `failed` (answered 503), `unlimited` (served although a policy could not decide).
        """
        return self._limiter.requests
