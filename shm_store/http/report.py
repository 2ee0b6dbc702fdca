"""Report: the counts of requests, decisions and errors that the middleware of every framework offers."""

from __future__ import annotations

from shm_store.http.request_limiter import RequestLimiter


class Report:
    """Counts of the requests of this process."""

    def __init__(self, limiter: RequestLimiter) -> None:
        self._limiter = limiter

    @property
    def errors(self) -> dict[str, int]:
        """How often the store failed in this process, by the name of the error's type."""
        return self._limiter.errors

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Requests of this process by policy and by its decision.

        The decisions are `allowed`, `denied`, `overruled` (not denied by this policy, and not served), `shadow_denied`
        and `errors`.
        """
        return self._limiter.counts

    @property
    def requests(self) -> dict[str, int]:
        """Limited requests of this process by their outcome, each counted once.

        The outcomes are `allowed`, `denied`, `failed` (answered 503) and `unlimited` (served although a policy could
        not decide).
        """
        return self._limiter.requests
