"""Reads the addresses in a forwarding header from the right, for as long as each entry names one.

A client writes what it likes, and every proxy appends to it, so only the right end is anybody's word. What stands on
the left is not looked at before everything to its right was read, and can neither change nor hide it. The first entry
that names no address ends the walk: whatever is left of it could be the client's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from shm_store.http.client.addresses import OWS, Address, entry, is_unix, node

# RFC 9110 section 5.6.2: a token.
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9110 section 5.6.4: no control characters, and a backslash before whatever would end the string.
_QUOTED: Final = r"[\t !#-\[\]-~\x80-\xff]*(?:\\[\t -~\x80-\xff][\t !#-\[\]-~\x80-\xff]*)*"
# RFC 7239 section 4, and spaces around semicolons, which it does not allow, some proxies write, and nothing hangs on.
# At no place can two of its parts match the same character, so a failure costs no more than what was read.
_PAIR: Final = re.compile(
    rf'[ \t]*(?:(?P<name>{_NAME})=(?:(?P<token>{_NAME})|"(?P<quoted>{_QUOTED})")[ \t]*)?(?P<end>;|\Z)'
)
_ESCAPED: Final = re.compile(r"\\(.)")


def list_from_right(value: str) -> Iterator[Address | None]:
    """Yield the addresses of a list such as that of `X-Forwarded-For`, from the right.

    An entry is an address as `addresses.entry` reads it, or `unix:`, which is yielded as None: a proxy writes it for a
    client on a UNIX socket. The walk ends at the first other entry, an empty one included: its proxy
    did not know its client.

    >>> [str(address) for address in list_from_right("6.6.6.6, unknown, [2001:db8::1]:4711, 203.0.113.7")]
    ['203.0.113.7', '2001:db8::1']
    """
    end = len(value)
    while end >= 0:
        start = value.rfind(",", 0, end) + 1
        text = value[start:end].strip(OWS)
        address = entry(text)
        if address is None and not is_unix(text):
            return
        yield address
        end = start - 1


def forwarded_from_right(value: str) -> Iterator[Address]:
    """Yield the addresses of the `for` parameters of a `Forwarded` header (RFC 7239), from the right.

    It ends at the first element that is malformed, or has not exactly one `for`, or one that is no address.

    >>> [str(address) for address in forwarded_from_right('for=", for=6.6.6.6, for=203.0.113.7;host="a, for=8.8.8.8"')]
    ['203.0.113.7', '6.6.6.6']
    """
    end = len(value)
    while end >= 0:
        start = _element(value, end)
        named = _for(value[start:end])
        address = None if named is None else node(named)
        if address is None:
            return
        yield address
        end = start - 1


def _element(value: str, end: int) -> int:
    """Return where the element that ends before `end` begins, or if it is malformed, any place.

    A string begins after an equals sign, and each quote in it follows a backslash. Hence the string that a quote ends
    begins at the nearest `="`, whatever stands to the left, and a well-formed element has one reading from the right.
    `_for` refuses the others. Each search begins where the one before ended: together they cost what was passed over.
    """
    at = end
    comma = value.rfind(",", 0, at)
    while (closing := value.rfind('"', comma + 1, at)) >= 0:
        at = value.rfind('="', 0, closing) + 1
        if comma > at:
            comma = value.rfind(",", 0, at)
    return comma + 1


def _for(element: str) -> str | None:
    """Return the value of the one `for` of an element, or None if it is malformed or has not exactly one."""
    at, nodes = 0, []
    while pair := _PAIR.match(element, at):
        if pair["name"] and pair["name"].lower() == "for":
            nodes.append(pair["token"] or _ESCAPED.sub(r"\1", pair["quoted"]))
        if not pair["end"]:
            return nodes[0] if len(nodes) == 1 else None
        at = pair.end()
    return None
