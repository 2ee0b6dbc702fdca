"""The limiter accepts all that the admin API accepts: the types repeat the library's rules, and allow no more."""

from __future__ import annotations

from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.business.data import limits
from shm_store import ConfigurationError, Quota
from shm_store.operate import Query


@given(st.from_regex(limits._WRITTEN))
def test_every_duration_of_the_api_is_one_of_the_store(text: str) -> None:
    """Every text that the API's pattern allows is an interval that a quota may have."""
    Quota(1, text)


def test_bounds_of_the_api_are_those_of_the_store() -> None:
    """The least and the most of both are the same."""
    least, most = limits._INTERVAL_MIN_S, limits._INTERVAL_MAX_S
    Quota(1, least)
    Quota(limits.LIMIT_MAX, most)
    for limit, interval in ((limits.LIMIT_MAX + 1, most), (1, least / 2), (1, most + 1)):
        with pytest.raises(ConfigurationError):
            Quota(limit, interval)


def test_query_of_the_api_is_one_of_the_table() -> None:
    """Each has the fields of the other, and as many orders."""
    assert {field.name for field in msgspec.structs.fields(limits.LimitQuery)} == set(Query.__struct_fields__)
    assert set(get_args(limits.Order)) == set(get_args(get_type_hints(Query)["sort"]))
