"""The pages show the figures that are published, and a target is a bound of one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.published import published
from tests.bench.report import BLOCKS, PAGES, blocks, fill
from tests.bench.targets import TARGETS

REMEDY = "python -m tests.bench pages"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_shows_published_figures(page: Path) -> None:
    """Each table of a page is the one that the published figures and the bounds give."""
    text = page.read_text()
    assert text == fill(text, published()), REMEDY


def test_every_table_is_shown() -> None:
    """No table has lost its markers."""
    assert {name for page in PAGES for name in blocks(page.read_text())} == set(BLOCKS)


def test_every_target_has_a_published_figure() -> None:
    """A figure that has another name now is a bound that no run checks."""
    groups = published()[0].groups
    assert [target.figure for target in TARGETS if target.figure not in groups.get(target.group, {})] == []
