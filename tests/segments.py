"""Segments of tests: names of which no two are alike, whatever else runs on the machine, and what is behind them."""

from __future__ import annotations

import os
import uuid

from shm_store import ShmStore


def new_segment_name() -> str:
    return f"shm-store-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def attached(name: str) -> ShmStore:
    """Return a store on the segment `name`, which is there."""
    store = ShmStore.attach(name)
    assert store is not None
    return store
