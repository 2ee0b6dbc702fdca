"""Makes text that clients chose safe to be shown: whatever could steer a terminal, or disturb a table, is escaped."""

from __future__ import annotations

import unicodedata
from typing import Final

from rich.cells import cell_len

#: Characters of a key that are shown; a table of 1,024 bytes a label holds longer ones than anybody reads.
SHOWN_MAX: Final = 400
# Letters, numbers, punctuation, and symbols that no terminal draws as a picture. Combining marks are not among them:
# hundreds may stand on one letter.
_CATEGORIES: Final = ("L", "N", "P", "Sm", "Sc", "Sk")
# A terminal that knows of directions would move the columns beside such a letter.
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL", "AN"))


def visible(key: str, most: int = SHOWN_MAX) -> str:
    r"""Return a key in one line of characters that have a width, a backslash doubled, with an ellipsis after `most`.

    >>> print(visible("a\x1b[31m\n\\"))
    a\x1b[31m\x0a\\
    """
    cut = key if len(key) <= most else key[:most] + "…"
    return one_line(cut.replace("\\", "\\\\"))


def one_line(text: str) -> str:
    """Return a message in one line of characters that have a width."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _is_shown(each) else _escape(each) for each in text)


def _is_shown(each: str) -> bool:
    if each == " ":
        return True
    category, direction = unicodedata.category(each), unicodedata.bidirectional(each)
    return category.startswith(_CATEGORIES) and direction not in _RIGHT_TO_LEFT and cell_len(each) > 0


def _escape(each: str) -> str:
    number = ord(each)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
