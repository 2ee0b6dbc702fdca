"""Draws a frame of `top`: as many lines as the terminal has, none wider than it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shm_store.cli import figures
from shm_store.cli.commands.sampling import REMEMBERED_S, Frame, Rates
from shm_store.cli.commands.status import in_columns, occupancy, sweeper
from shm_store.cli.escaping import visible
from shm_store.cli.output import row, table
from shm_store.operate.entry import Used

# From here on both lists of keys stand side by side.
_WIDE: Final = 120
# Lines of the shortest list: a heading, or two, and a row.
_LIST: Final = 2
# Lines from which on there is room for both.
_TWO: Final = 7


def drawn(frame: Frame, interval: float, width: int, height: int, *, hash_: bool) -> RenderableType:
    """Return a frame for a terminal of that size; the next one comes after `interval` seconds."""
    head = [*_head(frame, interval, width)]
    if height < len(head) + _LIST:
        # The empty line goes first.
        del head[-1]
    room = max(height - len(head), 0)
    lines = head[: max(height, 1)]
    if room < _LIST:
        return Group(*lines)
    body = _policies(frame, room) if frame.keys is None else _keys(frame, frame.keys, width, room, hash_=hash_)
    return Group(*lines, *body)


def most_used(keys: Sequence[Used]) -> list[Used]:
    """Return keys by how often they were taken from, allowed or denied, the busiest first."""
    return sorted(keys, key=lambda used: (-used.allowed - used.denied, used.digest))


def most_denied(keys: Sequence[Used]) -> list[Used]:
    """Return the keys that were denied, the most denied first."""
    return sorted((used for used in keys if used.denied), key=lambda used: (-used.denied, -used.allowed, used.digest))


def columns(history: Sequence[Rates], width: int, *, denied: bool) -> list[float | None]:
    """Return the last minute in so many columns: the highest rate that each touches, None where there was no look."""
    if not history:
        return [None] * width
    now, step = history[-1].end, REMEMBERED_S / width
    values: list[float | None] = []
    for column in range(width):
        begin = now - REMEMBERED_S + column * step
        touched = [each for each in history if each.begin < begin + step and each.end > begin]
        values.append(max((each.denied if denied else each.allowed for each in touched), default=None))
    return values


def _head(frame: Frame, interval: float, width: int) -> Iterator[Text]:
    stats = frame.stats
    left = Text.assemble(
        (stats.name, "bold cyan"), f"  {figures.things(stats.seats_taken, 'seat')}, {stats.seats_dead} dead"
    )
    right = f"every {figures.seconds(interval)}  {time.strftime('%H:%M:%S')}"
    left.truncate(max(width - len(right) - 1, 0), overflow="ellipsis")
    yield _line(Text.assemble(left, " " * max(width - left.cell_len - len(right), 1), right), width)
    yield _line(Text.assemble(("requests ", "bold"), _requests(frame)), width)
    for name, style, denied in (("allowed", "green", False), ("denied", "red", True)):
        rate = frame.rates.denied if denied else frame.rates.allowed
        yield _line(_history(frame, name, rate, style, width, denied=denied), width)
    yield _line(Text.assemble(("occupied ", "bold"), occupancy(stats, max(min(width - 50, 60), 8))), width)
    yield _line(Text.assemble(("sweeper  ", "bold"), sweeper(stats)), width)
    yield Text()


def _requests(frame: Frame) -> str:
    requests, took = frame.requests, _took(frame)
    numbers = (requests.served, "served"), (requests.denied, "denied"), (requests.failed, "answered 503")
    return ", ".join(f"{figures.rate(number / took)}/s {what}" for number, what in numbers)


def _history(frame: Frame, name: str, rate: float, style: str, width: int, *, denied: bool) -> Text:
    label = f"{figures.rate(rate)} takes/s"
    values = columns(frame.history, max(min(width - 9 - 18 - 20, 60), 1), denied=denied)
    peak = max((value for value in values if value is not None), default=0.0)
    drawing = figures.sparkline(values, peak)
    return Text.assemble((f"{name:<9}", "bold"), f"{label:>17} ", (drawing, style), f" peak {figures.rate(peak)}/s")


def _keys(frame: Frame, keys: Sequence[Used], width: int, room: int, *, hash_: bool) -> Iterator[RenderableType]:
    busiest, denied = most_used(keys), most_denied(keys)
    if width >= _WIDE:
        sides = Table.grid(expand=True, padding=(0, 2, 0, 0))
        sides.add_column(ratio=1)
        sides.add_column(ratio=1)
        rows = room - 1
        sides.add_row(
            _listed(frame, busiest, "BUSIEST KEYS", rows, hash_=hash_),
            _listed(frame, denied, "MOST DENIED", rows, hash_=hash_),
        )
        yield sides
        return
    if room < _TWO:
        yield _listed(frame, busiest, "BUSIEST KEYS", room - 1, hash_=hash_)
        return
    # Two headings, and a line between the lists.
    rows = room - 3
    lower = min(rows // 2, max(len(denied), 1))
    yield _listed(frame, busiest, "BUSIEST KEYS", rows - lower, hash_=hash_)
    yield Text()
    yield _listed(frame, denied, "MOST DENIED", lower, hash_=hash_)


def _listed(frame: Frame, keys: Sequence[Used], title: str, rows: int, *, hash_: bool) -> Table:
    view = table("ALLOWED/s", "DENIED/s", last=title)
    took = _took(frame)
    for used in keys[:rows]:
        name = f"#{used.digest}" if hash_ or used.key is None else visible(used.name)
        rates = [Text(figures.rate(number / took)) for number in (used.allowed, used.denied)]
        if used.denied:
            rates[1].stylize("red")
        view.add_row(*row(rates, name))
    return view


def _policies(frame: Frame, room: int) -> Iterator[RenderableType]:
    yield Text("keys are not kept in this table (label_size is 0); policies in their place:", "yellow", no_wrap=True)
    view = table("ALLOWED/s", "NEAR/s", "DENIED/s", "OVERRULED/s", "SHADOW/s", "ERRORS/s", last="POLICY")
    took = _took(frame)
    ranked = sorted(frame.policies.items(), key=lambda item: (-item[1].allowed - item[1].denied, item[0]))
    for name, counts in ranked[: room - 2]:
        numbers = in_columns(counts)
        view.add_row(*row([figures.rate(number / took) for number in numbers], visible(name)))
    yield view


def _took(frame: Frame) -> float:
    """Return the seconds since the look before."""
    return max(frame.rates.end - frame.rates.begin, 1e-9)


def _line(text: Text, width: int) -> Text:
    text.no_wrap = True
    text.truncate(width, overflow="ellipsis")
    return text
