"""Digests: how operators name a key whose text stays hidden, and how they write any key."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from shm_store.errors import ConfigurationError, ConfigurationTypeError, unusable

DIGITS: Final = 16
_MARK: Final = "#"
_DIGEST: Final = re.compile(rf"#([0-9a-fA-F]{{{DIGITS}}})")
_BEGINNING: Final = re.compile(rf"#[0-9a-fA-F]{{0,{DIGITS}}}")
_REMEDY: Final = (
    f"write a digest as # and {DIGITS} hexadecimal digits, as the log and ls show it, "
    "and double the # of a key that begins with one"
)


class Digest(msgspec.Struct, frozen=True):
    """A key, named by its digest.

    Attributes:
        digits: 16 hexadecimal digits, in lower case once constructed; see `Entry.digest`.

    Raises:
        ConfigurationError: They are something else.

    >>> print(Digest("F0D9A1B2C3D4E5F6"))
    #f0d9a1b2c3d4e5f6
    """

    digits: str

    def __post_init__(self) -> None:
        """Check the digits."""
        if not isinstance(self.digits, str) or not _DIGEST.fullmatch(_MARK + self.digits):
            raise unusable("digest", self.digits, f"give {DIGITS} hexadecimal digits", str)
        msgspec.structs.force_setattr(self, "digits", self.digits.lower())

    def __str__(self) -> str:
        return _MARK + self.digits


def read_key(written: str) -> str | Digest:
    """Return the key that an operator has written: the text of one, or a digest.

    A text that begins with `#` is written with two.

    Raises:
        ConfigurationError: It begins with one `#`, and is no digest.

    >>> read_key("default:global"), read_key("##1"), read_key("#F0D9A1B2C3D4E5F6")
    ('default:global', '#1', Digest(digits='f0d9a1b2c3d4e5f6'))
    """
    if not isinstance(written, str):
        raise ConfigurationTypeError("key", written, "give the text of a key, or its digest after a #")
    if not written.startswith(_MARK):
        return written
    if written.startswith(_MARK * 2):
        return written[1:]
    match = _DIGEST.fullmatch(written)
    if match is None:
        raise ConfigurationError("key", written, _REMEDY)
    return Digest(match[1])


def written(key: str) -> str:
    """Return the text of a key as an operator writes it, so that `read_key` returns the key.

    >>> written("default:global"), written("#1")
    ('default:global', '##1')
    """
    return _MARK + key if key.startswith(_MARK) else key


def check_beginning(beginning: str) -> None:
    """Raise ConfigurationError unless a written key can begin so."""
    if beginning.startswith(_MARK) and not beginning.startswith(_MARK * 2) and not _BEGINNING.fullmatch(beginning):
        raise ConfigurationError("key", f"{beginning}*", _REMEDY)
