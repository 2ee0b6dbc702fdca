"""How messages repeat values that a client, a file or another program may have chosen: never at length."""

from __future__ import annotations

from typing import Final

#: Most characters of a value that a message repeats. A client may choose the value, or a broken file.
SHOWN_MAX: Final = 100
# Of a longer text of another program, as many characters of its end: they tell the place of an error.
_END: Final = 40


def shown(value: object) -> str:
    """Return any `value` as Python writes it, for a message: at most 100 characters, and an ellipsis."""
    try:
        # No more of a text is written than is shown: it may be a body of megabytes.
        text = repr(value[: SHOWN_MAX + 1] if isinstance(value, str | bytes) else value)
    except ValueError:
        # An integer of more digits than Python writes.
        text = f"<{type(value).__name__} too large to be written>"
    except Exception:  # noqa: BLE001 - a `__repr__` that fails must not hide the error that shows it
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."


def named(name: object) -> str:
    """Return a name for a message: unchanged if it is short and printable, else by `shown`."""
    return name if isinstance(name, str) and 0 < len(name) <= SHOWN_MAX and name.isprintable() else shown(name)


def excerpt(text: object) -> str:
    """Return what another program says, for a message: one line, of a longer text its beginning and its end."""
    line = " ".join(str(text).split())
    return line if len(line) <= SHOWN_MAX else f"{line[: SHOWN_MAX - _END]}...{line[-_END:]}"
