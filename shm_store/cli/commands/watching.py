"""`watch`: one key, followed."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from shm_store.cli import figures, pacing
from shm_store.cli.attaching import inspected, no_key
from shm_store.cli.codes import SUCCESS, AbsentError
from shm_store.cli.options import DEFAULT_NAME, AnyKey, Count, Interval, JsonLines, Name, Owner
from shm_store.cli.output import show_json_line
from shm_store.core import digest
from shm_store.operate.entry import Entry
from shm_store.operate.inspection import Inspection


class Seen(msgspec.Struct, frozen=True):
    """The visible state of a key; `watch` prints a line when it changes.

    Attributes:
        quota: Its limit as it is written; empty if there is nothing but a block, or nothing at all.
        remaining: Units that are left.
        in_flight: Units in flight, in all processes.
        allowed: Takes that were allowed; None if they are not counted.
        denied: Takes that were denied; None if they are not counted.
        override: Whether the quota was stored for it alone.
        blocked: Whether it is blocked.
    """

    quota: str = ""
    remaining: int = 0
    in_flight: int = 0
    allowed: int | None = None
    denied: int | None = None
    override: bool = False
    blocked: bool = False


def watch(
    key: AnyKey,
    name: Name = DEFAULT_NAME,
    *,
    owner: Owner = None,
    interval: Interval = "1s",
    count: Count = None,
    json: JsonLines = False,
) -> int:
    """Follow a key: a line whenever something changes.

    Until Ctrl-C. It waits for a key that is not there yet.
    """
    interval_s, named = pacing.interval(interval), digest.read_key(key)
    with inspected(name, owner) as inspection, pacing.Pace() as pace:
        entries = inspection.entry(named)
        if not entries and isinstance(named, digest.Digest):
            raise no_key(inspection, name, named)
        before, lines = seen(entries), 0
        _report(None, before, entries, json=json)
        while (lines := lines + 1) != count:
            changed = _changed(inspection, named, before, pace, interval_s)
            if changed is None:
                break
            now = seen(changed)
            _report(before, now, changed, json=json)
            before = now
    return SUCCESS


def seen(entries: list[Entry]) -> Seen:
    """Return the values to show of a key, whose entries these are."""
    buckets = [entry for entry in entries if entry.pid is None]
    flights = [entry for entry in entries if entry.pid is not None]
    if not entries:
        return Seen()
    in_flight = sum(entry.limit - entry.remaining for entry in flights)
    first = (buckets or flights)[0]
    return Seen(
        quota=figures.quota(first) if first.limit else "",
        remaining=first.remaining if buckets else max(first.limit - in_flight, 0),
        in_flight=in_flight,
        allowed=None if first.allowed is None else sum(entry.allowed or 0 for entry in entries),
        denied=None if first.denied is None else sum(entry.denied or 0 for entry in entries),
        override=any(entry.override for entry in entries),
        blocked=any(entry.blocked_for for entry in entries),
    )


def grown(before: int | None, now: int | None) -> int | None:
    """Return by how much a count has grown; one that is lower than before has begun anew."""
    if now is None:
        return None
    return now - before if before is not None and now >= before else now


def _changed(
    inspection: Inspection, key: str | digest.Digest, before: Seen, pace: pacing.Pace, interval_s: float
) -> list[Entry] | None:
    """Wait until something about the key has changed; return its entries, or None if it is time to end."""
    while pace.wait(interval_s):
        if not inspection.is_linked():
            raise AbsentError("the segment was removed")
        entries = inspection.entry(key)
        if seen(entries) != before:
            return entries
    return None


def _report(before: Seen | None, now: Seen, entries: list[Entry], *, json: bool) -> None:
    """Print what a key is like; `before` is None for the first line."""
    last = before or now
    allowed, denied = grown(last.allowed, now.allowed), grown(last.denied, now.denied)
    reset_after = max((entry.reset_after for entry in entries), default=0.0)
    blocked_for = max((entry.blocked_for for entry in entries), default=0.0)
    if json:
        document: dict[str, Any] = {"time": time.time(), "present": bool(entries), **msgspec.structs.asdict(now)}
        more = {"allowed_since": allowed, "denied_since": denied, "reset_after": reset_after}
        show_json_line(document | more | {"blocked_for": blocked_for})
        return
    said = [time.strftime("%H:%M:%S")]
    if not entries:
        said.append("absent")
    if now.allowed is not None:
        said.append(
            f"allowed {now.allowed:,}  denied {now.denied:,}"
            if before is None
            else f"allowed +{allowed:,}  denied +{denied:,}"
        )
    if now.quota:
        said.append(f"left {now.remaining:,} of {now.quota}" + (" (override)" if now.override else ""))
        said += [f"in flight {now.in_flight:,}"] if now.in_flight else []
        said += [f"full in {figures.seconds(reset_after)}"] if reset_after and not now.blocked else []
    if now.blocked:
        said.append(f"blocked for {figures.seconds(blocked_for)}")
    print("  ".join(said), flush=True)
