"""Have SPIN search a model."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

MODELS: Final = Path(__file__).parents[2] / "docs" / "model"


class Search(NamedTuple):
    """How to search.

    Attributes:
        model: Arguments for spin.
        compiler: Arguments for the compiler of the verifier.
        options: Arguments for the verifier.
    """

    model: tuple[str, ...] = ()
    compiler: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def errors(name: str, directory: Path, search: Search, broken: str | None = None) -> tuple[int, int]:
    """Return how many errors SPIN found, 0 only after a complete search, and how many states it stored.

    Args:
        name: The model's file.
        directory: Where to work.
        search: How to search.
        broken: What to take out of the model.
    """
    without = [f"-DBREAK_{broken}"] if broken else []
    for command in (
        ["spin", "-a", *search.model, *without, str(MODELS / name)],
        # One that is broken fails long before it is searched, and sooner still if the search goes no deeper than that.
        ["gcc", "-O0" if broken else "-O2", "-w", "-DCOLLAPSE", *search.compiler, "-o", "pan", "pan.c"],
    ):
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    output = subprocess.run(
        ["./pan", "-m1500" if broken else "-m2000000", "-w24", *search.options],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"errors: (\d+)", output)
    stored = re.search(r"([\d.e+]+) states, stored", output)
    assert found, output
    assert stored, output
    count = int(found[1])
    assert count or not re.search(r"too small|not completed|aborted", output), output
    return count, int(float(stored[1]))
