"""Exit codes, and what ends a command with one of them."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0
#: There is no such segment, or no such key; or `check` has found faults.
ABSENT: Final = 1
FAILURE: Final = 2
#: A table of these sizes has no room for all slots that `load` has read; nothing was made.
NO_ROOM: Final = 3
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141


class AbsentError(Exception):
    """The segment, key or block of a command does not exist."""


class RefusedError(Exception):
    """The command will not do that, and says why."""
