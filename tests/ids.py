"""Names for the parameters of tests that are the same in every run."""

from __future__ import annotations

import re


def shown(value: object) -> str:
    """Return `value` as it is written, without the address of whatever has no other name."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
