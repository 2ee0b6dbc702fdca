"""Whatever clients choose for a key, it cannot steer the terminal, break a table, or pass for another."""

from __future__ import annotations

import json
import shlex
import unicodedata

import pytest
from rich.cells import cell_len

from shm_store.cli.escaping import SHOWN_MAX, one_line, visible
from shm_store.core import digest
from tests.cli.conftest import OpenTable, Run

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "c1": "\x9b31m\x85",
    "markup": "[red]x[/red][link=http://x]",
    "emoji code": ":smile:",
    "newlines": "a\nb\r\nc\td\x0b\x0c",
    "separators": "a\u2028b\u2029c\u00a0d",
    "surrogate": "a\ud800b",
    "bidi override": "\u202eevil\u2066\u2069\u200f",
    "right to left": "\u05e9\u05dc\u05d5\u05dd",
    "combining": "e" + "\u0301" * 40,
    "no width": "\u200b\u1160\ufe0f",
    "pictures": "\U0001f469\u200d\U0001f680",
    "delete": "a\x7fb",
    "nul": "a\x00b",
    "backslash": "\\x1b",
    "empty": "",
    "wide": "\u65e5\u672c\u8a9e",
}
HUGE = "h" * 65_536


def _is_tame(text: str) -> bool:
    """Whether a text has only characters that a terminal shows, one after the other, in the cells they seem to take."""
    return all(
        each == "\n"
        or (
            each.isprintable()
            and not unicodedata.category(each).startswith("M")
            and unicodedata.bidirectional(each) not in {"R", "AL", "AN", "RLO", "LRO"}
        )
        for each in text
    )


@pytest.mark.parametrize("key", HOSTILE.values(), ids=HOSTILE.keys())
def test_visible_is_one_tame_line(key: str) -> None:
    """An escaped key has neither newlines nor anything without a width."""
    shown = visible(key)
    assert _is_tame(shown)
    assert "\n" not in shown
    assert cell_len(shown) >= len(shown)


def test_visible_tells_keys_apart() -> None:
    """An escape, and the text of that escape, are two keys, and look like it."""
    assert visible("\x1b") == r"\x1b"
    assert visible(r"\x1b") == r"\\x1b"
    assert visible("日本") == "日本"
    assert visible("\u202e\U0001f680\ud800") == r"\u202e\U0001f680\ud800"
    assert one_line("a\\b\n") == "a\\b\\x0a"


def test_visible_is_bounded() -> None:
    """A key of 64 KiB is a line that ends."""
    assert visible(HUGE) == "h" * SHOWN_MAX + "…"


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--limit", "5"], ["ls", "--blocked"], ["top", "--count", "1"]])
def test_lists_are_tame(run: Run, open_table: OpenTable, arguments: list[str]) -> None:
    """Every key is one row, and no row says anything to the terminal."""
    store = open_table(label_size=1024, initial_size=1024)
    for key in [*HOSTILE.values(), HUGE]:
        store.take(key)
        store.block(key, "1h")
        # The operator chooses names of policies, and any characters in them.
        store.tally(key[:60].encode("utf-8", "replace").decode())
    said = run(*arguments, *(["--interval", "10ms"] if arguments[0] == "top" else []))
    assert said.code == 0
    assert _is_tame(said.out)
    if arguments == ["ls"]:
        assert said.out.count("\n") == len(HOSTILE) + 2
        assert "[red]x[/red][link=http://x]" in said.out
        assert ":smile:" in said.out
    assert _is_tame(run("status").out)


@pytest.mark.parametrize("key", [*HOSTILE.values(), HUGE], ids=[*HOSTILE.keys(), "huge"])
def test_commands_on_a_key_are_tame(run: Run, open_table: OpenTable, key: str) -> None:
    """Every command prints the key escaped, or not at all; JSON has it as it is, in ASCII."""
    store = open_table(label_size=1024)
    assert run("get", "--", key).code == 1
    for arguments in (
        ["set", "--", key, "7/hour"],
        ["block", "--for", "1h", "--", key],
        ["get", "--", key],
        ["watch", "--count", "1", "--", key],
        ["unblock", "--", key],
        ["reset", "--", key],
        ["reset", "--", key],
        ["unblock", "--", key],
    ):
        said = run(*arguments)
        assert _is_tame(said.out + said.err)
        assert (said.out + said.err).count("\n") <= 7
    store.take(key)
    for arguments in (["get", "--json", "--", key], ["ls", "--json"]):
        said = run(*arguments)
        assert said.out.isascii()
        assert "\x7f" not in said.out
        (entry,) = json.loads(said.out)["entries"]
        assert entry["key"] == (key if key != HUGE else "h" * 1024 + "…")


@pytest.mark.parametrize("key", ["api:x$(id)", "api:x`id`", "api:x;id", "api:x'\"id", "api:x y", "#api:x1"])
def test_suggested_key_is_one_word_for_a_shell(run: Run, open_table: OpenTable, key: str) -> None:
    """A pasted suggestion runs nothing: clients choose keys."""
    open_table().take(key)
    said = run("get", digest.written(key[:-1]))
    assert said.code == 1
    _, _, suggested = said.err.partition("; did you mean ")
    assert shlex.split(suggested.removesuffix("?\n")) == [digest.written(key)]
