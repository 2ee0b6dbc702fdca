"""Files of policies that are broken: refused in one short line, and without an effect where policies run already."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import pytest

from shm_store import ConfigurationError, gunicorn
from shm_store.core.quoting import SHOWN_MAX
from shm_store.gunicorn import configure
from shm_store.policy import from_file, load, loads
from shm_store.policy.reading import SIZE_MAX
from tests.broken_files import in_the_place_of_a_file, mutations

COUNT: Final = int(os.environ.get("EXAMPLES", "200"))
SEED: Final = 61
DOCUMENT: Final = (Path(__file__).parents[2] / "service.toml").read_text()
# Without the quotes and the separators around a value that is repeated.
_WINDOW: Final = SHOWN_MAX + 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "policies.toml"
    file.write_text(DOCUMENT)
    return file


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that has read no policies yet."""
    monkeypatch.setattr(gunicorn._Master, "has_policies", False)


def _check_message(message: str, document: str) -> None:
    assert message.isprintable(), repr(message)
    windows = (message[at : at + _WINDOW] for at in range(len(message) - _WINDOW))
    assert not any(window in document for window in windows), message


def test_broken_file_is_refused_in_one_line_and_the_policies_stay(file: Path) -> None:
    """A mutated file raises ConfigurationError and nothing else; followers of the file go on as they were."""
    followed, refused = from_file(file), 0
    for document in mutations(DOCUMENT, SEED, COUNT):
        file.write_bytes(document)
        before = followed.current
        try:
            followed.reload()
        except ConfigurationError as error:
            refused += 1
            assert followed.current is before
            _check_message(str(error), document.decode("utf-8", "replace"))
    assert refused > COUNT // 2


@pytest.mark.usefixtures("master")
def test_master_of_an_application_survives_a_broken_file(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start `configure` exits with one line; at a reload it logs one, and keeps what runs."""
    file.write_text("policy = 0x" + "f" * 5_000)
    with pytest.raises(SystemExit) as refused:
        configure(policies=file)
    _check_message(str(refused.value), file.read_text())
    file.write_text(DOCUMENT)
    configure(policies=file)
    before = from_file(file).current
    for document in mutations(DOCUMENT, SEED + 1, 60):
        file.write_bytes(document)
        caplog.clear()
        with caplog.at_level(logging.ERROR, "gunicorn.error"):
            configure(policies=file)
        assert len(caplog.records) == (from_file(file).current is before)
        before = from_file(file).current


@pytest.mark.usefixtures("master")
def test_thing_in_the_place_of_a_policy_file_is_refused(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder, a pipe, a device, an endless or a huge file is an error at once, and one line in the master's log."""
    configure(policies=file)
    folder = tmp_path / "things"
    folder.mkdir()
    for path in in_the_place_of_a_file(folder):
        with pytest.raises(ConfigurationError, match=r"^policies is") as refused:
            load(path)
        assert str(refused.value).isprintable(), repr(str(refused.value))
        caplog.clear()
        with caplog.at_level(logging.ERROR, "gunicorn.error"):
            configure(policies=path)
        assert len(caplog.records) == 1
        assert caplog.messages[0].isprintable()


def test_file_may_be_as_large_as_said(file: Path) -> None:
    """A file of the largest size is read, and one more byte is refused."""
    file.write_text(DOCUMENT + "#" * (SIZE_MAX - len(DOCUMENT.encode())))
    assert len(load(file)) == len(loads(DOCUMENT))
    file.write_text(file.read_text() + "#")
    with pytest.raises(ConfigurationError, match="has more than 1048576 bytes"):
        load(file)


@pytest.mark.parametrize("key", ["a.b.c.d.e.f.g.h", "'x.y'.z", f"{'k' * 5_000}.{'l' * 5_000}", f"'{'1.' * 5_000}'"])
def test_key_of_few_parts_is_read(key: str) -> None:
    """Only the number of parts counts, not dots within quotes: the error is about the key, and not about TOML."""
    with pytest.raises(ConfigurationError, match="there is no such key"):
        loads(f"{key} = 1")
