"""`top` shows what happens, fits into the terminal, and leaves it as it was."""

from __future__ import annotations

import io
import json
import re
import signal

import msgspec
import pytest
from rich.console import Console

from shm_store.cli.commands.sampling import Frame, Rates, Sampler
from shm_store.cli.commands.screen import columns, drawn
from shm_store.cli.pacing import affordable
from shm_store.core.tally import Counts, Requests
from shm_store.operate.entry import Used
from tests.cli.conftest import OpenTable, Run, command, spend
from tests.cli.terminals import Terminal

KEY = "api:hot"
_TOP = command("top", "--interval", "100ms")
_ROW = re.compile(rf"^ *([\d.,]+) +([\d.,]+)  {KEY}\b", re.MULTILINE)


def _rates(text: str) -> list[tuple[float, float]]:
    return [(float(allowed.replace(",", "")), float(denied.replace(",", ""))) for allowed, denied in _ROW.findall(text)]


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (40, 8)])
def test_top_is_legible(open_table: OpenTable, size: tuple[int, int]) -> None:
    """The key that is taken from is there with its rate, and no line wraps or scrolls, whatever the size."""
    store = open_table(label_size=1024)
    store.take("x" * 3000)
    with Terminal(_TOP, *size) as terminal:
        terminal.until(lambda text: any(sum(row) > 0 for row in _rates(text)), lambda: spend(store, KEY, 20))
        assert terminal.is_unbroken
        first, *_ = terminal.text.splitlines()
        assert first.startswith(store.config.name[: size[0] // 3])
        assert re.search(r"every .*\d\d:\d\d:\d\d$", first)
        assert "denied " in terminal.text
        assert "sweeper  none" in terminal.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_restores_the_terminal(open_table: OpenTable, number: signal.Signals) -> None:
    """The other screen is left, the cursor is back, and the settings are what they were."""
    open_table()
    with Terminal(_TOP, 80, 24) as terminal:
        terminal.until(lambda text: "BUSIEST KEYS" in text)
        assert terminal.attributes != terminal.before
        assert terminal.raw.rfind(b"\x1b[?1049h") > terminal.raw.rfind(b"\x1b[?1049l")
        assert terminal.end(number) == 0
        assert terminal.attributes == terminal.before
        assert terminal.raw.rfind(b"\x1b[?1049l") > terminal.raw.rfind(b"\x1b[?1049h")
        assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")
        assert b"Traceback" not in terminal.raw


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_top_ends_by_a_key(open_table: OpenTable, key: str) -> None:
    """The keys q and Ctrl-C end it, and then are again what they were."""
    open_table()
    with Terminal(_TOP, 80, 24) as terminal:
        terminal.until(lambda text: "BUSIEST KEYS" in text)
        assert terminal.press(key) == 0
        assert terminal.attributes == terminal.before


def test_top_follows_the_size_of_the_terminal(open_table: OpenTable) -> None:
    """A terminal that becomes wider has both lists side by side, without waiting for the next frame."""
    open_table()
    with Terminal(command("top", "--interval", "1h"), 80, 24) as terminal:
        terminal.until(lambda text: "BUSIEST KEYS" in text)
        terminal.resize(160, 40)
        terminal.until(lambda text: re.search(r"BUSIEST KEYS .*MOST DENIED", text) is not None)


def test_top_shows_hostile_keys_escaped(open_table: OpenTable) -> None:
    """A key that clears the screen is a row on it."""
    store = open_table()
    with Terminal(_TOP, 80, 24) as terminal:
        terminal.until(lambda text: r"\x1b[2J\x0a[red]" in text, lambda: spend(store, "\x1b[2J\n[red]\u202e", 2))
        assert terminal.is_unbroken


def test_top_hides_keys(open_table: OpenTable) -> None:
    """With --hash, `top` shows digests instead of keys."""
    store = open_table()
    digest = store.inspect().digest(KEY)
    with Terminal([*_TOP, "--hash"], 80, 24) as terminal:
        terminal.until(lambda text: f"#{digest}" in text, lambda: spend(store, KEY, 2))
        assert KEY.encode() not in terminal.raw


def test_top_without_labels_shows_policies(open_table: OpenTable) -> None:
    """Without labels, `top` shows that the table keeps no keys, and the decisions of each policy."""
    store = open_table(label_size=0)
    tally = store.tally("writes")

    def count() -> None:
        tally.allowed[()] += 1

    with Terminal(_TOP, 80, 24) as terminal:
        terminal.until(lambda text: re.search(r"[1-9].*  writes$", text, re.MULTILINE) is not None, count)
        assert "label_size is 0" in terminal.text
        assert terminal.is_unbroken


def test_top_prints_frames_for_programs_and_pipes(run: Run, open_table: OpenTable) -> None:
    """`--count` is the number of frames: JSON objects, one a line, or blocks of text."""
    spend(open_table(), KEY, 2)
    said = run("top", "--count", "2", "--interval", "10ms", "--json")
    frames = [json.loads(line) for line in said.out.splitlines()]
    assert [(frame["occupied"], frame["busiest"], frame["sweeper"]) for frame in frames] == [(1, [], "none")] * 2
    text = run("top", "--count", "2", "--interval", "10ms").out
    assert text.count("BUSIEST KEYS") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_top_ends_when_the_segment_is_removed(open_table: OpenTable, spawn: Run) -> None:
    """When its segment is removed, `top` reports that and exits, instead of showing old figures for ever."""
    open_table()
    with Terminal(_TOP, 80, 24) as terminal:
        terminal.until(lambda text: "BUSIEST KEYS" in text)
        assert spawn("unlink", "--force").code == 0
        assert terminal.end_of_its_own() == 1
        terminal.until(lambda text: "the segment was removed" in text)
        assert terminal.attributes == terminal.before


def test_sampler_counts_between_two_looks(open_table: OpenTable) -> None:
    """A look counts the takes since the look before, by key, and each of them once."""
    store = open_table()
    spend(store, KEY, 2)
    sampler = Sampler(store.inspect())
    tally = store.tally("api")
    spend(store, KEY, 4)
    spend(store, "api:cold", 1)
    tally.denied[()] += 1
    store.request_tally().denied[()] += 1
    frame = sampler.look()
    took = frame.rates.end - frame.rates.begin
    assert (round(frame.rates.allowed * took), round(frame.rates.denied * took)) == (4, 1)
    assert frame.keys is not None
    assert {used.key: (used.allowed, used.denied) for used in frame.keys} == {KEY: (3, 1), "api:cold": (1, 0)}
    assert frame.policies == {"api": Counts(denied=1)}
    assert frame.requests == Requests(denied=1)
    again = sampler.look()
    assert (again.keys, again.rates.allowed, again.policies) == ([], 0.0, {"api": Counts()})
    assert again.requests == Requests()
    assert again.history == (frame.rates, again.rates)


def test_sampler_takes_no_stripe(open_table: OpenTable) -> None:
    """A look needs nothing that a worker might wait for, or hold."""
    store = open_table()
    sampler = Sampler(store.inspect())
    spend(store, KEY, 1)
    for semaphore in store._table.segment.semaphores:
        assert semaphore.acquire(False)
    assert sampler.look().rates.allowed > 0
    for semaphore in store._table.segment.semaphores:
        semaphore.release()


def test_affordable_lengthens_the_interval() -> None:
    """Looks take at most a fiftieth of the time; a cheap look keeps the interval that the user chose."""
    assert affordable(1.0, 0.001) == 1.0
    assert affordable(0.1, 0.05) == 2.5


def test_columns_put_rates_where_they_belong() -> None:
    """The last minute from left to right; a long look fills the columns of its time, and of several the peak."""
    history = [Rates(100, 110, 5, 1), Rates(110, 115, 7, 0), Rates(115, 120, 9, 2)]
    assert columns(history, 6, denied=False) == [None, None, None, None, 5, 9]
    assert columns(history, 12, denied=True) == [None] * 8 + [1, 1, 0, 2]
    assert columns([], 3, denied=True) == [None, None, None]


def test_top_tells_requests_from_takes(open_table: OpenTable) -> None:
    """The head has what became of requests, and what was taken, of which a request may make several."""
    store = open_table()
    sampler = Sampler(store.inspect())
    spend(store, KEY, 3)
    requests = store.request_tally()
    requests.allowed[()] += 1
    requests.unlimited[()] += 1
    frame = msgspec.structs.replace(sampler.look(), rates=Rates(0, 1, 3.0, 0.0))
    console = Console(width=100, height=24, file=io.StringIO())
    with console.capture() as capture:
        console.print(drawn(frame, 1.0, 100, 24, hash_=False))
    assert "requests 2/s served, 0/s denied, 0/s answered 503" in capture.get()
    assert "3 takes/s" in capture.get()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (80, 8), (80, 7), (20, 3), (1, 1)])
@pytest.mark.parametrize("has_keys", [True, False])
def test_frames_fit(open_table: OpenTable, width: int, height: int, *, has_keys: bool) -> None:
    """With more keys and policies than there is room for, a frame has no more lines than the terminal."""
    keys = [Used(key=f"api:{n}" + "k" * n, digest="0" * 16, allowed=n, denied=n % 3) for n in range(300)]
    policies = {f"policy-{n}": Counts(n, n) for n in range(99)}
    rates = Rates(0, 1, 1e9, 1e9)
    frame = Frame(
        stats=open_table().stats(),
        rates=rates,
        history=(rates,),
        keys=keys if has_keys else None,
        policies=policies,
        cost=0,
    )
    console = Console(width=width, height=height, file=io.StringIO())
    with console.capture() as capture:
        console.print(drawn(frame, 1.0, width, height, hash_=False))
    lines = capture.get().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
