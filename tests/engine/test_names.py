"""The names of keys on the server."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from shm_store.redis.names import Names

NAMES = Names("shm-store")
# The pieces that names are made of, in any order; KEYS adds any other text. Both have lone surrogates.
PIECES = st.lists(
    st.sampled_from(
        [
            "\ud800",
            "\udfff",
            "é",
            "\0",
            "{",
            "}",
            "%",
            "%25",
            "%7D",
            "%-",
            ":",
            "client:",
            "header:",
            "key:",
            "global",
            "absent",
            "key-invalid",
            "route=",
            "method=",
            "preflight:",
            "a",
            "\n",
            "x" * 257,
        ]
    )
).map("".join)
KEYS = PIECES | st.text(st.characters(), max_size=40)
WHO = st.tuples(st.sampled_from(["client:", "header:", "key:"]), KEYS).map("".join) | st.sampled_from(
    ["global", "absent", "key-invalid"]
)
POLICY = st.text("abc-{}%", min_size=1, max_size=8)
SCOPE = st.sampled_from(
    ["", "route=/users/{id}:", "method=GET:", "route=/:method=POST:", "preflight:", "method=OPTIONS:preflight:"]
)


def _hash_tag(name: bytes) -> bytes:
    """Return the part of a name that a cluster hashes, by its specification."""
    found = re.search(rb"\{([^}]+)\}", name, re.DOTALL)
    assert found is not None
    return found[1]


@settings(deadline=None)
@given(KEYS, KEYS)
@example("p:client:a}b", "p:client:a%7Db")
@example("", "%")
@example("a:client:x", "client:x}a:")
@example("a:absent", "absent}a:")
@example("p:client:a}b", "b}p:client:a")
@example("x" * 257, "%-" + "0" * 32)
@example("x" * 257 + ":client:a", "client:a")
def test_different_keys_never_share_a_name(one: str, other: str) -> None:
    """Two keys have one name only if they are equal, whatever a client writes into them."""
    assert (NAMES.bucket(one) == NAMES.bucket(other)) == (one == other)


@settings(deadline=None)
@given(KEYS, KEYS)
def test_different_kinds_never_share_a_name(one: str, other: str) -> None:
    """Buckets, units in flight and leases never share a name, even if one prefix begins with another."""
    groups = [
        {NAMES.bucket(key) for key in (one, other)},
        *({NAMES.flight(key)[at] for key in (one, other)} for at in (0, 1)),
        {NAMES.leased(key)[1] for key in (one, other)},
        {Names("shm-store:").bucket(key) for key in (one, other)},
    ]
    assert len(set().union(*groups)) == sum(map(len, groups))


@settings(deadline=None)
@given(WHO, st.lists(st.tuples(POLICY, SCOPE), min_size=2, max_size=4, unique=True))
def test_policies_of_one_client_share_a_slot(who: str, policies: list[tuple[str, str]]) -> None:
    """All names of one client share a slot, so that a cluster can decide several policies in one script."""
    keys = [f"{policy}:{scope}{who}" for policy, scope in policies]
    names = [name for key in keys for name in (*NAMES.all(key), *NAMES.leased(key))]
    assert len({_hash_tag(name) for name in names}) == 1
    assert len({key_slot(name) for name in names}) == 1
    assert len({NAMES.bucket(key) for key in keys}) == len(keys)


@settings(deadline=None)
@given(KEYS)
def test_every_name_has_a_hash_tag(key: str) -> None:
    """Every name has a hash tag, and braces that a client writes into a key cannot move its ends."""
    name = NAMES.bucket(key)
    assert name.startswith(b"shm-store:{")
    assert key_slot(name) == key_slot(_hash_tag(name))


@pytest.mark.parametrize("size", [257, 10_000, 1_000_000])
def test_long_keys_have_short_names(size: int) -> None:
    """A header of a megabyte takes little room on the server, and still has a bucket of its own."""
    names = {NAMES.bucket(f"policy:header:{'a' * size}{end}") for end in "bc"}
    assert len(names) == 2
    assert max(map(len, names)) < 100


def test_long_policies_have_short_names() -> None:
    """An application's own keys may begin with a long text that the client chooses, such as a path."""
    names = {NAMES.bucket(f"{'a' * 1_000_000}:client:{end}") for end in "bc"}
    assert len(names) == 2
    assert max(map(len, names)) < 100


@pytest.mark.parametrize("who", ["client:" + "é" * 249, "client:" + "%" * 249], ids=["letters", "escaped"])
def test_names_are_bounded_by_the_longest_that_is_kept(who: str) -> None:
    """The longest text that a name contains in full is bounded in bytes as well, whatever its characters."""
    assert len(NAMES.bucket(f"policy:{who}")) < 1_024
