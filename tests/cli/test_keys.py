"""`get`, `set`, `reset`, `block` and `unblock` do to a key what they say, in every process at once."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator

import pytest

from shm_store import Config, Quota, ShmStore
from tests.cli.conftest import OpenTable, Run, spend
from tests.fork import ended, in_child

KEY = "api:hot"

Ask = Callable[[], tuple[bool, int, int]]


@pytest.fixture
def ask_other(open_table: OpenTable, segment_name: str) -> Iterator[Ask]:
    """Have another process take a unit of KEY, of which it has a hint; return what it was told."""
    open_table(limit=50)
    (asked, ask), (answer, answered) = os.pipe(), os.pipe()

    def serve() -> None:
        os.close(ask)
        with ShmStore.open(Config(name=segment_name, limit=50, interval="1h", **_GEOMETRY)) as store:  # type: ignore[arg-type]
            while os.read(asked, 1):
                info = store.take(KEY)
                os.write(answered, struct.pack("?qq", info.allowed, info.limit, info.remaining))

    child = in_child(serve)

    def call() -> tuple[bool, int, int]:
        os.write(ask, b"?")
        allowed, limit, remaining = struct.unpack("?qq", os.read(answer, 24))
        return allowed, limit, remaining

    for expected in (49, 48, 47, 46):
        assert call() == (True, 50, expected)
    yield call
    os.close(ask)
    assert ended(child) == 0
    for fd in (asked, answer, answered):
        os.close(fd)


_GEOMETRY = {"initial_size": 256, "stripes": 2, "label_size": 64}


def test_block_and_unblock_reach_a_process_that_has_a_hint(run: Run, ask_other: Ask) -> None:
    """A key is denied everywhere from the command on, and goes on where it was afterwards."""
    assert run("block", KEY, "--for", "1h").code == 0
    assert ask_other()[0] is False
    assert run("unblock", KEY).code == 0
    assert ask_other() == (True, 50, 45)


def test_set_and_reset_reach_a_process_that_has_a_hint(run: Run, ask_other: Ask) -> None:
    """A quota of its own counts at once, with what is spent, and is gone at once."""
    assert run("set", KEY, "1000/hour").code == 0
    assert ask_other() == (True, 1000, 995)
    assert run("set", KEY, "1000/hour", "--full").code == 0
    assert ask_other() == (True, 1000, 999)
    assert run("reset", KEY).code == 0
    assert ask_other() == (True, 50, 49)


def test_set_gives_a_client_that_has_spent_all_nothing_at_once(run: Run, ask_other: Ask) -> None:
    """Not 10 units more, and not by setting it again and again."""
    while ask_other()[0]:
        pass
    for quota in ("10/hour", "10/hour", "20/hour", "10/hour"):
        assert run("set", KEY, quota).code == 0
        assert ask_other() == (False, int(quota.partition("/")[0]), 0)
    assert run("set", KEY, "10/hour", "--full").code == 0
    assert ask_other() == (True, 10, 9)


def test_get_and_ls_show_an_override_before_its_first_take(run: Run, open_table: OpenTable) -> None:
    """Its quota and that it is full; it has no algorithm yet."""
    store = open_table()
    assert run("set", KEY, "7/hour").code == 0
    said = run("get", KEY).out
    assert "7/1h" in said
    assert " by " not in said
    assert "7/1h" in run("ls").out
    store.take(KEY, 1, Quota(10, "1s", burst=40, algorithm="gcra"))
    assert "7/1h, burst 40 by gcra" in run("get", KEY).out


def test_get_shows_a_key(run: Run, open_table: OpenTable) -> None:
    """Limit, what is left, and how often it was taken from; as text, too."""
    store = open_table()
    spend(store, KEY, 7)
    (entry,) = run("get", KEY, "--json").json["entries"]
    assert (entry["key"], entry["limit"], entry["remaining"], entry["allowed"], entry["denied"]) == (KEY, 5, 0, 5, 2)
    text = run("get", KEY).out
    for part in (KEY, f"#{entry['digest']}", "5/1h by token-bucket", "0, full in", "5 allowed, 2 denied"):
        assert part in text


def test_get_names_a_burst(run: Run, open_table: OpenTable) -> None:
    """A burst that is not the limit is said."""
    open_table().take(KEY, 1, Quota(10, "1s", burst=40, algorithm="gcra"))
    assert "10/1s, burst 40 by gcra" in run("get", KEY).out


def test_get_takes_a_digest(run: Run, open_table: OpenTable) -> None:
    """A key is found by its digest, whatever the case of that, and with its block."""
    store = open_table()
    spend(store, KEY, 1)
    store.block(KEY, "1h")
    digest = store.inspect().digest(KEY)
    assert run("get", f"#{digest}").out == run("get", f"#{digest.upper()}").out
    (entry,) = run("get", f"#{digest}", "--json").json["entries"]
    assert entry["key"] == KEY
    assert entry["blocked_for"] > 0


def test_get_hash_keeps_the_text_to_itself(run: Run, open_table: OpenTable) -> None:
    """A digest shows the units that are left, and no text of the key."""
    store = open_table()
    spend(store, KEY, 1)
    for arguments in (["--hash"], ["--hash", "--json"]):
        said = run("get", f"#{store.digest(KEY)}", *arguments)
        assert said.code == 0
        assert KEY not in said.out


@pytest.mark.parametrize("key", ["#0123456789abcdef", "#", "##", "#1"])
def test_key_that_begins_with_a_hash_is_written_with_two(run: Run, open_table: OpenTable, key: str) -> None:
    """Every command takes it so, and shows it so: what `ls` shows can be given to `get`."""
    store = open_table()
    spend(store, key, 1)
    assert run("get", f"#{key}", "--json").json["entries"][0]["key"] == key
    assert f"#{key}\n" in run("ls").out
    assert run("ls", "--key", f"#{key}", "--json").json["entries"][0]["key"] == key
    assert run("set", f"#{key}", "9/min").out.startswith(f'"#{key}" has 9/1min')
    assert store.get(key)[0] == 9
    assert run("reset", f"#{key}").code == 0
    assert store.get(key) == (0, 0)


@pytest.mark.parametrize("label_size", [0, 8, 64])
def test_each_command_takes_a_digest(run: Run, open_table: OpenTable, label_size: int) -> None:
    """As `ls` shows it, in either case of its letters; whether the table keeps the text, a part of it, or none."""
    store = open_table(label_size=label_size, limit=50)
    key = "default:client:203.0.113.7"
    spend(store, key, 3)
    name = f"#{store.digest(key)}"
    assert run("set", name, "1000/hour").code == 0
    assert store.get(key)[0] == 1000
    assert run("block", name.upper(), "--for", "1h").code == 0
    assert not store.take(key).allowed
    assert run("unblock", name).code == 0
    assert store.take(key).allowed
    assert run("ls", "--key", name, "--json").json["entries"][0]["digest"] == name[1:]
    assert run("ls", "--key", f"{name[:5]}*", "--json").json["entries"][0]["digest"] == name[1:]
    assert run("reset", name).code == 0
    assert store.get(key) == (0, 0)
    assert run("ls", "--json").json["entries"] == []


@pytest.mark.parametrize("label_size", [0, 64])
def test_digest_of_a_block_alone_is_unblocked(run: Run, open_table: OpenTable, label_size: int) -> None:
    """A block outlives its bucket; its digest still names it."""
    store = open_table(label_size=label_size)
    store.block(KEY, "1h")
    assert run("unblock", f"#{store.digest(KEY)}").code == 0
    assert store.take(KEY).allowed


def test_digest_of_a_block_alone_has_no_quota_where_no_text_is_kept(run: Run, open_table: OpenTable) -> None:
    """Half a fingerprint belongs to no certain key; nothing is stored."""
    store = open_table(label_size=0)
    store.block(KEY, "1h")
    said = run("set", f"#{store.digest(KEY)}", "5/min")
    assert (said.code, said.out) == (2, "")
    assert "give the text of the key" in said.err
    assert run("ls", "--overrides", "--json").json["entries"] == []


@pytest.mark.parametrize(
    "arguments", [["get"], ["set", "5/min"], ["block", "--for", "1h"], ["unblock"], ["reset"], ["watch"]]
)
def test_digest_of_no_key_is_1(run: Run, open_table: OpenTable, arguments: list[str]) -> None:
    """No command makes a key of a digest that no key of the table has."""
    open_table()
    command, *more = arguments
    said = run(command, "#0123456789abcdef", *more)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith('shm-store: there is no key "#0123456789abcdef" in segment')
    assert run("ls", "--json").json["entries"] == []


@pytest.mark.parametrize("key", ["#", "#0123456789abcde", "#0123456789abcdef0", "#0123456789abcdeg", "#client"])
@pytest.mark.parametrize(
    "arguments",
    [["get"], ["set", "5/min"], ["block", "--for", "1h"], ["unblock"], ["reset"], ["watch"], ["ls", "--key"]],
)
def test_ill_formed_digest_is_2(run: Run, open_table: OpenTable, arguments: list[str], key: str) -> None:
    """The line describes the form of a digest, and of a key that begins with a hash."""
    open_table()
    command, *more = arguments
    given = [*more, key] if command == "ls" else [key, *more]
    said = run(command, *given)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"shm-store: KEY is '{key}': write a digest as # and 16 hexadecimal digits")


def test_set_and_block_tell_that_no_take_has_met_the_key(run: Run, open_table: OpenTable) -> None:
    """They succeed, and tell it in text and in JSON; again, as long as only operators know the key."""
    store = open_table()
    note = "no bucket of this key exists yet: check the spelling, keys look like default:client:203.0.113.7"
    for arguments in (["set", KEY, "5/min"], ["block", KEY, "--for", "1h"]):
        for _ in range(2):
            said = run(*arguments)
            assert (said.code, said.out.splitlines()[1:]) == (0, [note])
            document = run(*arguments, "--json").json
            assert (document["exists"], document["note"], document["near"]) == (False, note, [])
    store.unblock(KEY)
    store.take(KEY)
    for arguments in (["set", KEY, "5/min"], ["block", KEY, "--for", "1h"]):
        assert run(*arguments).out.count("\n") == 1
        document = run(*arguments, "--json").json
        assert (document["exists"], document["note"], document["near"]) == (True, None, [])


@pytest.mark.parametrize(
    ("key", "near", "policy"),
    [
        (
            "defualt:client:203.0.113.7",
            ["default:client:203.0.113.7"],
            "this table has no policy 'defualt', the nearest is default",
        ),
        ("client:203.0.113.7", ["default:client:203.0.113.7"], "no policy 'client', it has create, default"),
        ("default:client:203.0.113.77", ["default:client:203.0.113.7"], ""),
        ("default:client:203.0.13.7", ["default:client:203.0.113.7"], ""),
        ("create:client:2001:db8::/46", ["create:client:2001:db8::/64"], ""),
        ("nothing:like:any", [], "no policy 'nothing', it has create, default"),
    ],
)
def test_set_suggests_keys_and_policies_that_are_there(
    run: Run, open_table: OpenTable, key: str, near: list[str], policy: str
) -> None:
    """A slip in the policy, or anywhere else, brings up the right key."""
    store = open_table()
    for name, who in (("default", "203.0.113.7"), ("create", "2001:db8::/64"), ("create", "198.51.100.9")):
        store.tally(name)
        store.take(f"{name}:client:{who}")
    document = run("set", key, "5/min", "--json").json
    assert document["near"] == near
    assert (policy in document["note"]) if policy else ("no policy" not in document["note"])
    said = run("block", key, "--for", "1h").out
    assert ("did you mean" in said) == bool(near)
    assert all(each in said for each in near)
    assert run("reset", key).code == 0
    assert run("unblock", key).code == 0
    assert all(each in run("get", key).err for each in near)


def test_set_on_a_table_without_texts_suggests_no_key(run: Run, open_table: OpenTable) -> None:
    """Digests are like nothing."""
    store = open_table(label_size=0)
    store.take("default:client:203.0.113.7")
    assert run("set", "default:client:203.0.113.8", "5/min", "--json").json["near"] == []


@pytest.mark.parametrize("key", ["nobody", "#0123456789abcdef"])
def test_get_of_no_key_is_1(run: Run, open_table: OpenTable, key: str) -> None:
    """There is one line on stderr, and nothing on stdout."""
    open_table()
    for arguments in (["get", key], ["get", key, "--json"]):
        said = run(*arguments)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f'shm-store: there is no key "{key}" in segment')


@pytest.mark.parametrize("quota", ["50/minute", "50/1min", "50/60"])
def test_set_reads_quotas(run: Run, open_table: OpenTable, quota: str) -> None:
    """The forms that Quota.parse reads, in text and as JSON."""
    store = open_table()
    said = run("set", KEY, quota)
    assert (said.code, said.out.splitlines()[0]) == (0, f'"{KEY}" has 50/1min until it is reset')
    document = run("set", KEY, quota, "--json").json
    assert (document["limit"], document["interval"], document["key"]) == (50, 60.0, KEY)
    assert store.get(KEY) == (50, 50)
    assert run("ls", "--overrides", "--json").json["entries"][0]["digest"] == document["digest"]


def test_reset_forgets_one_key(run: Run, open_table: OpenTable) -> None:
    """The command forgets its spent units; a second time there is nothing."""
    store = open_table()
    spend(store, KEY, 2)
    spend(store, "other", 2)
    said = run("reset", KEY, "--json").json
    assert (said["key"], said["digest"], said["reset"]) == (KEY, store.digest(KEY), 1)
    assert run("reset", KEY).code == 1
    assert (store.get(KEY), store.get("other")) == ((0, 0), (5, 3))


def test_reset_all_asks_and_keeps_blocks(spawn: Run, open_table: OpenTable) -> None:
    """Every key is forgotten only after the user agrees; blocked keys stay blocked."""
    store = open_table()
    spend(store, KEY, 2)
    store.set("vip", 100, "1h")
    store.block("bad", "1h")
    for answer in ("n\n", ""):
        said = spawn("reset", "--all", given=answer)
        assert (said.code, said.out) == (2, "")
        assert said.err.endswith("shm-store: nothing was done\n")
    assert store.get(KEY) == (5, 3)
    said = spawn("reset", "--all", "--json", given="y\n")
    assert (said.code, said.json["reset"]) == (0, 2)
    assert (store.get(KEY), store.get("vip")) == ((0, 0), (0, 0))
    assert not store.take("bad").allowed
    assert spawn("reset", "--all", "--yes").code == 0


@pytest.mark.parametrize("arguments", [["reset"], ["reset", KEY, "--all"]])
def test_reset_wants_one_of_two(run: Run, open_table: OpenTable, arguments: list[str]) -> None:
    """Neither a key nor --all, or both, is a mistake, and nothing is forgotten."""
    store = open_table()
    spend(store, KEY, 2)
    assert run(*arguments).code == 2
    assert store.get(KEY) == (5, 3)


def test_block_and_unblock_say_what_they_did(run: Run, open_table: OpenTable) -> None:
    """In text, and as JSON; what is not blocked cannot be unblocked."""
    open_table()
    assert run("block", KEY, "--for", "90s").out.startswith(f'"{KEY}" is blocked for 90s\n')
    assert run("block", KEY, "--for", "90s", "--json").json["blocked_for"] == 90.0
    assert run("unblock", KEY).out == f'"{KEY}" is no longer blocked\n'
    assert run("unblock", KEY).code == 1
    run("block", KEY, "--for", "90s")
    assert run("unblock", KEY, "--json").json["unblocked"] is True


def test_keys_may_begin_with_a_dash(run: Run, open_table: OpenTable) -> None:
    """After -- a dash is part of the key."""
    store = open_table()
    assert run("block", "--for", "1h", "--", "-k").code == 0
    assert not store.take("-k").allowed
