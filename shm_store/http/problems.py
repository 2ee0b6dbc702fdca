"""The problem documents (RFC 9457) a limiter answers with, encoded once so that a denial costs no rendering.

Types and titles are those of draft-ietf-httpapi-ratelimit-headers, section "Problem Types".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

PROBLEM_JSON: Final = "application/problem+json"
DEFAULT_POLICY: Final = "default"

_REGISTRY: Final = "https://iana.org/assignments/http-problem-types"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, rename={"violated_policies": "violated-policies"}):
    """A problem document.

    Attributes:
        type: URI that identifies the kind of problem.
        title: The kind of problem, in words.
        status: The HTTP status it is sent with.
        violated_policies: Names of the policies whose quota was exceeded; left out when empty.
    """

    type: str
    title: str
    status: int
    violated_policies: tuple[str, ...] = ()


TEMPORARY_REDUCED_CAPACITY: Final = Problem(
    type=f"{_REGISTRY}#temporary-reduced-capacity",
    title="Request cannot be satisfied due to temporary server capacity constraints",
    status=503,
)

TEMPORARY_REDUCED_CAPACITY_BODY: Final = msgspec.json.encode(TEMPORARY_REDUCED_CAPACITY)


# As many combinations of policies as are ever violated together, and some that a reload left behind.
@lru_cache(maxsize=256)
def quota_exceeded_body(violated: tuple[str, ...]) -> bytes:
    """Return the document that says which policies a request has violated."""
    return msgspec.json.encode(
        Problem(
            type=f"{_REGISTRY}#quota-exceeded",
            title="Request cannot be satisfied as assigned quota has been exceeded",
            status=429,
            violated_policies=violated,
        )
    )


QUOTA_EXCEEDED_BODY: Final = quota_exceeded_body((DEFAULT_POLICY,))
