"""Runs: one module in a process of its own, its figures kept and printed."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from pathlib import Path

from tests.bench.figures import Group
from tests.bench.tables import terminal


def run(name: str, results: Path, *, quick: bool, shown: bool) -> bool:
    """Run a module and return whether it went well; what it leaves in memory must not slow down the next."""
    process = multiprocessing.get_context("spawn").Process(
        target=_measure, args=(name, results), kwargs={"quick": quick, "shown": shown}
    )
    process.start()
    process.join()
    return process.exitcode == 0


def _measure(name: str, results: Path, *, quick: bool, shown: bool) -> None:
    start = time.monotonic()
    group: Group = importlib.import_module(f"tests.bench.{name}").measure(quick=quick)
    group.save(results)
    if shown:
        print(f"{terminal(group)}\n{name} took {time.monotonic() - start:.0f} s\n", flush=True)
