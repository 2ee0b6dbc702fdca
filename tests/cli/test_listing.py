"""`ls` lists the keys that its options select, in the order that they name."""

from __future__ import annotations

import time

import pytest

from shm_store import Concurrency, Quota, RateInfo
from shm_store.table.leases import UNITS, Lease, Pending
from tests.cli.conftest import OpenTable, Run, spend


def _fill(open_table: OpenTable) -> None:
    store = open_table()
    spend(store, "api:a", 7)
    spend(store, "api:b", 2)
    spend(store, "web:c", 6)
    store.set("web:vip", 100, "1h")
    store.block("api:bad", "2h")


def _keys(ran_json: dict[str, list[dict[str, str]]]) -> list[str]:
    return [entry["key"] for entry in ran_json["entries"]]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ([], ["api:a", "api:b", "api:bad", "web:c", "web:vip"]),
        (["--denied"], ["api:a", "web:c"]),
        (["--blocked"], ["api:bad"]),
        (["--overrides"], ["web:vip"]),
        (["--policy", "web"], ["web:c", "web:vip"]),
        (["--key", "api:b*"], ["api:b", "api:bad"]),
        (["--key", "web:c"], ["web:c"]),
        (["--key", "api:*", "--denied"], ["api:a"]),
        (["--sort", "denied", "--denied"], ["api:a", "web:c"]),
        (["--sort", "allowed", "--limit", "3"], ["api:a", "web:c", "api:b"]),
        (["--sort", "remaining"], ["api:a", "api:bad", "web:c", "api:b", "web:vip"]),
        (["--sort", "limit", "--limit", "1"], ["web:vip"]),
        (["--sort", "reset", "--limit", "1"], ["web:vip"]),
        (["--policy", "nobody"], []),
    ],
)
def test_ls_filters_and_sorts(run: Run, open_table: OpenTable, arguments: list[str], keys: list[str]) -> None:
    """Filters go together; counts and limits come from the most down, all else from the least up."""
    _fill(open_table)
    assert _keys(run("ls", "--json", *arguments).json) == keys
    rows = run("ls", *arguments).out.splitlines()
    assert [line.split()[-1] for line in rows] == ["KEY", *keys]


def test_ls_says_how_many_were_left_off(run: Run, open_table: OpenTable) -> None:
    """What does not fit under --limit is counted, after the filters."""
    _fill(open_table)
    said = run("ls", "--limit", "2", "--key", "api:*")
    assert (said.out.count("\n"), said.err) == (3, "shm-store: 1 more; see them with --limit\n")
    assert run("ls", "--limit", "2", "--key", "api:*", "--json").json["left_off"] == 1


def test_ls_shows_what_was_taken(run: Run, open_table: OpenTable) -> None:
    """A row says the limit, what is left of it, until when, the takes, and what is special about the key."""
    _fill(open_table)
    store = open_table()
    spend(store, "api:stopped", 1)
    store.block("api:stopped", "3h")
    rows = {line.split()[-1]: line.split()[:-1] for line in run("ls").out.splitlines()}
    assert rows["api:a"] == ["5/1h", "0", "60", "min", "5", "2"]
    assert rows["api:b"] == ["5/1h", "3", "60", "min", "2", "0"]
    assert rows["api:stopped"] == ["5/1h", "0", "3", "h", "1", "0", "blocked"]
    assert rows["web:vip"] == ["100/1h", "100", "-", "0", "0", "override"]
    assert rows["api:bad"] == ["-", "0", "120", "min", "0", "0", "blocked"]


def test_ls_shows_what_was_issued_to_the_host(run: Run, open_table: OpenTable) -> None:
    """With what is left of it here, and the limit that it is of."""
    store = open_table()

    def ask(key: str, cost: int = 1, quota: Quota | None = None) -> RateInfo:
        pending = leasing.spend(key, cost, quota or store.quota, patience_ns=10**9)
        assert isinstance(pending, Pending)
        ends_ns = time.monotonic_ns() + 60 * 10**9
        lease = Lease(code=UNITS, limit=900, spent=101, most=300, ends_ns=ends_ns, resets_ns=ends_ns)
        leasing.deposit(pending, lease)
        return RateInfo(True, 900, 799, 0)

    leasing = store.leasing(ask, "", store.quota)
    leasing.take("shared")
    (entry,) = run("ls", "--json").json["entries"]
    assert (entry["algorithm"], entry["limit"], entry["remaining"]) == ("lease", 900, 199)
    assert run("ls").out.splitlines()[-1].split()[:2] == ["900", "199"]
    assert "900 by lease" in run("get", "shared").out


def test_ls_shows_what_is_in_flight(run: Run, open_table: OpenTable) -> None:
    """A key that a process has units in flight of comes with the process."""
    with open_table().reserve("jobs", 1, Concurrency(3)):
        (entry,) = run("ls", "--json").json["entries"]
        assert (entry["key"], entry["algorithm"], entry["remaining"]) == ("jobs", "concurrency", 2)
        assert f"pid {entry['pid']}" in run("ls").out


def test_ls_hash_keeps_texts_to_itself(run: Run, open_table: OpenTable) -> None:
    """With --hash the output has no key but its digest, by which `get` finds it."""
    spend(open_table(), "api:secret", 2)
    for arguments in (["ls", "--hash"], ["ls", "--hash", "--json"]):
        said = run(*arguments)
        assert "secret" not in said.out + said.err
    (entry,) = run("ls", "--hash", "--json").json["entries"]
    assert f"#{entry['digest']}" in run("ls", "--hash").out
    assert run("get", f"#{entry['digest']}", "--json").json["entries"][0]["key"] == "api:secret"


def test_ls_without_labels_shows_digests(run: Run, open_table: OpenTable) -> None:
    """Of a table that keeps no keys, `ls` shows the digests and a note on how to keep keys."""
    store = open_table(label_size=0)
    store.take("api:a", 1, Quota(7, "1min", algorithm="gcra"))
    said = run("ls")
    assert f"#{store.inspect().digest('api:a')}" in said.out
    assert "label_size" in said.err
    document = run("ls", "--json").json
    assert (document["labels"], document["entries"][0]["key"], document["entries"][0]["allowed"]) == (False, None, None)
