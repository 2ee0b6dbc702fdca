"""What every test shares: segments of its own, a clock that the test moves, and skips that may count as failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from service.app.conf import Settings
from service.app.construct import application
from service.app.construct.stores import Stores, open_stores
from shm_store import Config, RateLimiter, ShmStore
from shm_store.table.handle import close_dropped
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from tests.ground import Ground
from tests.segments import new_segment_name

OpenStore = Callable[..., ShmStore]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="fail the run if any test was skipped")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and _unwanted_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if skips := _unwanted_skips(config):
        terminalreporter.write_line(f"--fail-on-skip: {skips} skipped, see the reasons above", red=True)


def _unwanted_skips(config: pytest.Config) -> int:
    if not config.getoption("--fail-on-skip"):
        return 0
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if isinstance(reporter, pytest.TerminalReporter) else 0


@pytest.fixture(autouse=True)
def _dropped_stores_warn_in_their_test() -> Iterator[None]:
    """A store that was dropped in the middle of an operation is closed by the test itself, and not by a later one."""
    yield
    close_dropped()


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def segment_name() -> Iterator[str]:
    """A name of this test's own; whatever is made under it is removed."""
    name = new_segment_name()
    yield name
    remove(name)


@pytest.fixture
def open_store(segment_name: str, clock: FakeClock) -> Iterator[OpenStore]:
    """Open stores on one segment and one clock: five units per three seconds, eight slots in one set."""
    opened: list[ShmStore] = []

    def build(**settings: object) -> ShmStore:
        settings = {"limit": 5, "interval": "3s", "initial_size": 8, "name": segment_name} | settings
        opened.append(ShmStore.open(Config(**settings), clock=clock))  # type: ignore[arg-type]
        return opened[-1]

    yield build
    for store in opened:
        store.close()


@pytest.fixture
def closed_applications(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the stores of the example service's applications, which elsewhere end with their process."""
    opened: list[RateLimiter] = []

    def opening(settings: Settings) -> Stores:
        stores = open_stores(settings)
        opened.extend(stores)
        return stores

    monkeypatch.setattr(application, "open_stores", opening)
    yield
    for store in opened:
        store.close()


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A private mount namespace with a /dev/shm of its own, where code runs as any user."""
    with Ground() as made:
        yield made
