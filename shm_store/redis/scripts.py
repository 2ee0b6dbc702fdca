"""The scripts that the server runs: text in this package, put together once."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

#: What every script begins with: the algorithms, as the local table `ALGORITHMS` by their codes.
ALGORITHMS: Final = files(__package__).joinpath("algorithms.lua").read_text("utf-8")
