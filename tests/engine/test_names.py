"""The names of keys on the server."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from shm_store.redis.names import Names

NAMES = Names("shm-store")
# What the form of a name is made of, in any order; and whatever text there is, lone surrogates too.
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
    """What a cluster hashes, by its specification."""
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
    """No key is another one's, whatever a client writes into it, and none is two."""
    assert (NAMES.bucket(one) == NAMES.bucket(other)) == (one == other)


@settings(deadline=None)
@given(KEYS, KEYS)
def test_different_kinds_never_share_a_name(one: str, other: str) -> None:
    """What is a bucket of one key is nothing else of any other, also under prefixes that begin with one another."""
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
    """All that one request is charged to can be taken at once in a cluster: buckets, units in flight, leases."""
    keys = [f"{policy}:{scope}{who}" for policy, scope in policies]
    names = [name for key in keys for name in (*NAMES.all(key), *NAMES.leased(key))]
    assert len({_hash_tag(name) for name in names}) == 1
    assert len({key_slot(name) for name in names}) == 1
    assert len({NAMES.bucket(key) for key in keys}) == len(keys)


@settings(deadline=None)
@given(KEYS)
def test_every_name_has_a_hash_tag(key: str) -> None:
    """No key chooses its tag, nor has none: a client's braces decide over no slot but its own."""
    name = NAMES.bucket(key)
    assert name.startswith(b"shm-store:{")
    assert key_slot(name) == key_slot(_hash_tag(name))


@pytest.mark.parametrize("size", [257, 10_000, 1_000_000])
def test_long_keys_have_short_names(size: int) -> None:
    """A client that writes a megabyte into a header does not have the server keep it, and is still one of its own."""
    names = {NAMES.bucket(f"policy:header:{'a' * size}{end}") for end in "bc"}
    assert len(names) == 2
    assert max(map(len, names)) < 100


def test_long_policies_have_short_names() -> None:
    """A caller that makes keys of its own may put a path before who is charged, and a client choose that."""
    names = {NAMES.bucket(f"{'a' * 1_000_000}:client:{end}") for end in "bc"}
    assert len(names) == 2
    assert max(map(len, names)) < 100


@pytest.mark.parametrize("who", ["client:" + "é" * 249, "client:" + "%" * 249], ids=["letters", "escaped"])
def test_names_are_bounded_by_the_longest_that_is_kept(who: str) -> None:
    """The longest text that is written out is bounded in bytes as well, whatever it is made of."""
    assert len(NAMES.bucket(f"policy:{who}")) < 1_024
