"""Reads the addresses in a forwarding header from the right, for as long as each entry names one.

A client writes what it likes, and every proxy appends to it, so only the right end is anybody's word. What stands on
the left is not looked at before everything to its right was read, and can neither change nor hide it. The first entry
that names no address ends the walk: whatever is left of it could be the client's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_PORT_MAX: Final = 65_535
# RFC 9110 section 5.6.3. A str.strip() would take everything that Unicode calls a space.
_OWS: Final = " \t"
# Bounded, and without the zone of an IPv6 address, which is free text; `ipaddress` knows the rest of the grammar.
_V4: Final = r"(?P<v4>[0-9.]{7,15})"
_V6: Final = r"(?P<v6>[0-9A-Fa-f:.]{2,45})"
_PORT: Final = r"(?P<port>[0-9]{1,5})"
# What follows an IPv6 address without brackets cannot be told from it, so that nothing may.
_LISTED: Final = re.compile(rf"(?:{_V4}|(?P<open>\[)?{_V6}(?(open)\]|\Z))(?::{_PORT})?")
# RFC 7239 section 6, without what names no address: `unknown`, and the obfuscated names that begin with `_`.
_NODE: Final = re.compile(rf"(?:{_V4}|\[{_V6}\])(?::(?:{_PORT}|_[0-9A-Za-z._-]+))?")

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


def list_from_right(value: str) -> Iterator[Address]:
    """Yield the addresses of a list such as that of `X-Forwarded-For`, from the right.

    An entry is an IPv4 or an IPv6 address, either with a port, then the IPv6 address in brackets; these may stand
    without one too. It ends at the first entry that is anything else, also at one that is empty: a proxy that could not
    say who it was talking to.

    >>> [str(address) for address in list_from_right("6.6.6.6, unknown, [2001:db8::1]:4711, 203.0.113.7")]
    ['203.0.113.7', '2001:db8::1']
    """
    end = len(value)
    while end >= 0:
        start = value.rfind(",", 0, end) + 1
        address = _address(_LISTED, value[start:end].strip(_OWS))
        if address is None:
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
        node = _for(value[start:end])
        address = None if node is None else _address(_NODE, node)
        if address is None:
            return
        yield address
        end = start - 1


def _address(form: re.Pattern[str], text: str) -> Address | None:
    match = form.fullmatch(text)
    if match is None or int(match["port"] or 0) > _PORT_MAX:
        return None
    try:
        return IPv4Address(match["v4"]) if match["v4"] else IPv6Address(match["v6"])
    except ValueError:
        return None


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
