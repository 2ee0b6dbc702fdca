"""The policies a process runs, which may be replaced while it does."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Final

from shm_store.core.validation import require_path
from shm_store.policy.document import load, require_distinct
from shm_store.policy.policy import Policy

# Bad edits in a row after which a worker still finds good policies.
_EARLIER_MAX: Final = 16


class RunningPolicies:
    """Policies that may be replaced, all at once, while others use them.

    Attributes:
        current: The policies. Another tuple, and not an edited one, when they were replaced.
        earlier: The policies before them, the latest first. A worker that is started after a reload falls back to
            these if its store cannot keep the current ones.
    """

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        """Run `policies`.

        Raises:
            ConfigurationError: They are no policies, or two have the same name.
        """
        self.current = require_distinct(policies)
        self.earlier: tuple[tuple[Policy, ...], ...] = ()

    def replace(self, policies: Iterable[Policy]) -> None:
        """Run `policies` from now on; in this process, and in those forked from it later.

        Raises:
            ConfigurationError: They are no policies, or two have the same name. Those that run stay.
        """
        replaced, self.current = self.current, require_distinct(policies)
        self.earlier = (replaced, *self.earlier)[:_EARLIER_MAX]


class PolicyFile(RunningPolicies):
    """The policies of a TOML file, as they were when it was last read.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigurationError: It cannot be used.
        """
        super().__init__(load(path))
        self.path = path

    def reload(self) -> None:
        """Read the file again.

        Raises:
            ConfigurationError: It cannot be used. The policies that run stay.
        """
        self.replace(load(self.path))


# Here because a fork hands it on: a worker finds what its master has read, even if the file was edited since.
_files: Final[dict[Path, PolicyFile]] = {}


def from_file(path: str | PathLike[str]) -> PolicyFile:
    """Return the policies of a file: one object for each path in a process and in those forked from it.

    The first call reads the file, and nothing but `PolicyFile.reload` does again: gunicorn's master, if
    `shm_store.gunicorn.configure` was told the path.

    Raises:
        ConfigurationError: It cannot be used.
    """
    require_path("policies", path)
    absolute = Path(path).absolute()
    if absolute not in _files:
        _files[absolute] = PolicyFile(absolute)
    return _files[absolute]
