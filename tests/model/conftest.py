"""What every test of a model needs: SPIN, and a compiler for what it writes."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: install the package {tool} to run this test")
