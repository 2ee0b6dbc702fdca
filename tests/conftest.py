"""Options that apply to every test: a run may be told that a skipped test is a failed one."""

from __future__ import annotations

import pytest


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
