"""Load from wrk, and what came back, counted by key and status."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SCRIPT: Final = Path(__file__).with_name("count.lua")


@dataclass
class Answers:
    """What one run of wrk received.

    Attributes:
        by_key: How many responses of each status, by key; the key is "-" when no header names one.
        requests: How many responses in all, by wrk's own count.
        errors: Connections refused, reset or timed out, by kind.
    """

    by_key: dict[str, Counter[int]] = field(default_factory=dict)
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def statuses(self) -> Counter[int]:
        """How many responses of each status, whatever the key."""
        return sum(self.by_key.values(), Counter[int]())


class Load:
    """A run of wrk that has been started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def answers(self) -> Answers:
        """Wait for its end; return what it counted, having checked it against wrk's own count."""
        output, _ = self._process.communicate()
        assert self._process.returncode == 0, output
        answers = _parsed(output)
        assert answers.statuses.total() == answers.requests, output
        return answers

    def stop(self) -> Answers:
        """End it now; return what it counted: every answer that had reached it is in."""
        self._process.send_signal(signal.SIGINT)
        return self.answers()

    def close(self) -> None:
        """End it if it still runs."""
        with self._process:
            self._process.kill()


class Wrk:
    """Starts runs of wrk, and ends those that no test waited for."""

    def __init__(self) -> None:
        self._loads: list[Load] = []

    def __call__(
        self,
        url: str,
        seconds: int = 50,
        *,
        threads: int = 2,
        connections: int = 32,
        header: tuple[str, ...] = (),
        fixed: str = "",
    ) -> Load:
        """Start to request `url`.

        Args:
            url: What to request.
            seconds: For how long at most.
            threads: Of wrk.
            connections: In all.
            header: The name of a header and its values, dealt out to the threads in turn.
            fixed: A header that all have, `Name: value`.
        """
        load = [
            f"-t{threads}",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "20s",
            *(["-H", fixed] if fixed else []),
        ]
        self._loads.append(
            Load(
                subprocess.Popen(
                    ["wrk", *load, "-s", SCRIPT, url, "--", *header],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        )
        return self._loads[-1]

    def close(self) -> None:
        """End what still runs."""
        for load in self._loads:
            load.close()


def _parsed(output: str) -> Answers:
    answers = Answers()
    for line in output.splitlines():
        match line.split("\t"):
            case ["counted", key, status, count]:
                answers.by_key.setdefault(key, Counter())[int(status)] += int(count)
            case ["requests", count]:
                answers.requests = int(count)
            case ["error", kind, count]:
                answers.errors[kind] = int(count)
    return answers
