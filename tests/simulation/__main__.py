"""Simulations: python -m tests.simulation writes docs/distributed.md's tables and plots of them."""

from __future__ import annotations

from tests.simulation.report import write

if __name__ == "__main__":
    write()
