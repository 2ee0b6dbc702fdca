"""Names for the segments of tests: no two alike, whatever else runs on the machine."""

from __future__ import annotations

import os
import uuid


def new_segment_name() -> str:
    return f"shm-store-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
