"""The counts that a test expects of a middleware."""

from __future__ import annotations


def outcomes(**counts: int) -> dict[str, int]:
    """Return the outcomes of a policy; those left out are 0."""
    return dict.fromkeys(("allowed", "denied", "overruled", "shadow_denied", "errors"), 0) | counts


def requests(**counts: int) -> dict[str, int]:
    """Return the requests by their ends; those left out are 0."""
    return dict.fromkeys(("allowed", "denied", "failed", "unlimited"), 0) | counts
