"""The metrics that alerts, dashboard and manual speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shm_store.operate.metrics import names, read
from tests.conftest import OpenStore
from tests.infra.files import OPERATIONS, ROOT, texts

MENTIONED = [(path, text) for path, text in texts().items() if "shm_store_" in text]


@pytest.mark.parametrize(("path", "text"), MENTIONED, ids=[str(path.relative_to(ROOT)) for path, _ in MENTIONED])
def test_metric_is_one_that_there_is(path: Path, text: str) -> None:
    """Every metric that a file names is exposed, by that name."""
    # A histogram is spoken of as a whole, and asked for by its parts.
    known = names() | {name.removesuffix("_bucket") for name in names()}
    assert set(re.findall(r"\bshm_store_[a-z_]+[a-z]\b", text)) <= known, path


def test_manual_describes_every_metric(open_store: OpenStore) -> None:
    """The manual's table has each metric once, with the kind, the labels and the meaning that a scrape tells."""
    rows = re.findall(r"^\| `(shm_store_\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", OPERATIONS.read_text(), re.MULTILINE)
    told = [
        (metric.name + "_total" * (metric.kind == "counter"), metric.kind, ", ".join(metric.labels), metric.text)
        for metric in read(open_store().inspect())
    ]
    assert sorted((name, kind, labels.replace("`", ""), text) for name, kind, labels, text in rows) == sorted(told)
