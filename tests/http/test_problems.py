"""Problem documents as they go over the wire."""

from __future__ import annotations

import json

from shm_store.http.problems import QUOTA_EXCEEDED_BODY, TEMPORARY_REDUCED_CAPACITY_BODY


def test_quota_exceeded_names_the_violated_policy() -> None:
    """A denial's body has the registered type, its status, and the policy under the name the draft gives the member."""
    assert json.loads(QUOTA_EXCEEDED_BODY) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "violated-policies": ["default"],
    }


def test_temporary_reduced_capacity_blames_no_policy() -> None:
    """When the store fails nobody has violated anything."""
    assert json.loads(TEMPORARY_REDUCED_CAPACITY_BODY) == {
        "type": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "title": "Request cannot be satisfied due to temporary server capacity constraints",
        "status": 503,
    }
