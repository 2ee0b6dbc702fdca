"""What the admin API takes, the limiter takes: the types say once more what the library knows, and never more."""

from __future__ import annotations

from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from service.business.data import limits
from shm_store.durations import NS_PER_SECOND, to_ns
from shm_store.operate.query import Order, Query
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, LIMIT_MAX


@given(st.from_regex(limits._WRITTEN))
def test_every_duration_of_the_api_is_one_of_the_store(text: str) -> None:
    """Whatever is described as good is read, and is an interval that a quota may have."""
    to_ns("interval", text, minimum_ns=INTERVAL_MIN_NS, maximum_ns=INTERVAL_MAX_NS)


def test_bounds_of_the_api_are_those_of_the_store() -> None:
    """The least and the most of both are the same."""
    assert limits.LIMIT_MAX == LIMIT_MAX
    assert limits._INTERVAL_MIN_S * NS_PER_SECOND == INTERVAL_MIN_NS
    assert limits._INTERVAL_MAX_S * NS_PER_SECOND == INTERVAL_MAX_NS


def test_query_of_the_api_is_one_of_the_table() -> None:
    """Each has the fields of the other, and as many orders."""
    assert {field.name for field in msgspec.structs.fields(limits.LimitQuery)} == set(Query.__struct_fields__)
    assert set(get_args(limits.Order)) == set(get_args(Order))
