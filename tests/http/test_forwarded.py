"""The addresses in forwarding headers, read from the right."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from shm_store.http.client.forwarded import forwarded_from_right, list_from_right


def _list(value: str) -> list[str]:
    return [str(address) for address in list_from_right(value)]


def _forwarded(value: str) -> list[str]:
    return [str(address) for address in forwarded_from_right(value)]


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("203.0.113.7:0", "203.0.113.7"),
        ("203.0.113.7:65535", "203.0.113.7"),
        (" \t203.0.113.7\t ", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::", "::"),
        ("::ffff:203.0.113.7", "::ffff:cb00:7107"),
        ("1:2:3:4:5:6:255.255.255.255", "1:2:3:4:5:6:ffff:ffff"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        # What looks like a port is a part of the address: that is why a port wants brackets.
        ("2001:db8::1:4711", "2001:db8::1:4711"),
    ],
)
def test_list_reads_every_form(entry: str, address: str) -> None:
    """An entry is an IPv4 or an IPv6 address, with a port or without."""
    # Python 3.13 writes what holds an IPv4 address in another way.
    assert [ip_address(each) for each in _list(entry)] == [ip_address(address)]


@pytest.mark.parametrize(
    "entry",
    [
        *("", " ", "unknown", "_hidden", "localhost", "-", "null"),
        *("203.0.113", "203.0.113.7.1", "203.0.113.256", "203.0.113.07", "0203.0.113.7", "203.0.113.7."),
        *("3405803783", "0xcb007107", "0xcb.0.0x71.7", "203.0.113.7/32", "203.0.113.-7", "+203.0.113.7"),
        *("203.0.113.7:", "203.0.113.7:65536", "203.0.113.7:123456", "203.0.113.7:-1", "203.0.113.7:http"),
        *("203.0.113.7: 80", "203.0.113.7 :80", "203.0.113.7 80", "203.0.113.7:80:80", "203.0.113.7:+80"),
        *("[203.0.113.7]", "[203.0.113.7]:80", "[2001:db8::1", "2001:db8::1]", "[[2001:db8::1]]", "[]", "[ ::1 ]"),
        *("[2001:db8::1]80", "[2001:db8::1]:", "[2001:db8::1]:65536", "2001:db8::1::2", ":::", "1:2:3:4:5:6:7"),
        "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255:80",
        *("12345::1", "g::1", "::1/128", "fe80::1%eth0", "[fe80::1%eth0]", "fe80::1%", "[fe80::1%25eth0]:80"),
        *('"203.0.113.7"', "'203.0.113.7'", "for=203.0.113.7", "203.0.113.7;proto=https", "http://203.0.113.7"),
        *(
            "\n203.0.113.7",
            "203.0.113.7\r\n",
            "203.0.113.7\n",
            "203.0.113.7\0",
            "203.0.113.7\x0b",
            "\xa0203.0.113.7",
            "203.0.113.7\x85",
        ),
        *(
            "\uff1203.0.113.7",
            "203.0.113.\u0667",
            "203.0.113.7:\u0668\u0660",
            "\uff12001:db8::1",
            "203\u30020\u3002113\u30027",
            "203.0.113.7\ud800",
        ),
    ],
)
def test_list_refuses_what_is_no_address(entry: str) -> None:
    """Whatever could be read in two ways, or is only nearly an address, names none."""
    assert _list(f"6.6.6.6,{entry}") == []


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("1.1.1.1, 2.2.2.2,3.3.3.3\t,\t4.4.4.4", ["4.4.4.4", "3.3.3.3", "2.2.2.2", "1.1.1.1"]),
        ("1.1.1.1, unknown, 3.3.3.3", ["3.3.3.3"]),
        ("1.1.1.1,,3.3.3.3", ["3.3.3.3"]),
        (",3.3.3.3", ["3.3.3.3"]),
        ("3.3.3.3,", []),
        ("1.1.1.1;2.2.2.2", []),
        ("1.1.1.1 2.2.2.2", []),
    ],
)
def test_list_ends_at_what_names_no_address(value: str, addresses: list[str]) -> None:
    """Entries come from the right, up to the first that names no address."""
    assert _list(value) == addresses


@pytest.mark.parametrize(
    ("element", "address"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ("FOR=203.0.113.7", "203.0.113.7"),
        ('for="203.0.113.7"', "203.0.113.7"),
        ('for="203.0.113.7:4711"', "203.0.113.7"),
        ('for="203.0.113.7:65535"', "203.0.113.7"),
        ('for="203.0.113.7:_gazonk-1.x"', "203.0.113.7"),
        (r'for="2\03.0.113.\7"', "203.0.113.7"),
        ('for="[2001:db8::1]"', "2001:db8::1"),
        ('for="[2001:DB8::1]:4711"', "2001:db8::1"),
        ('for="[2001:db8::1]:_gazonk"', "2001:db8::1"),
        (r'for="\[2001:db8\::1\]"', "2001:db8::1"),
        ("for=203.0.113.7;proto=http;by=203.0.113.43", "203.0.113.7"),
        ('by="[::1]";host="a;b,c=\\"for=6.6.6.6\\"";for=203.0.113.7', "203.0.113.7"),
        ("proto=https ; for=203.0.113.7\t;\tby=_x", "203.0.113.7"),
        (";;for=203.0.113.7; ;", "203.0.113.7"),
        ("\t for=203.0.113.7 \t", "203.0.113.7"),
        ('for=203.0.113.7;host=""', "203.0.113.7"),
        ('for=203.0.113.7;host="="', "203.0.113.7"),
        ('for=203.0.113.7;host="a="', "203.0.113.7"),
        (r'for=203.0.113.7;host="\\"', "203.0.113.7"),
        (r'for=203.0.113.7;host="=\"\\\""', "203.0.113.7"),
        ('for=203.0.113.7;host="b\xfccher.example"', "203.0.113.7"),
        ("for=203.0.113.7;forward=6.6.6.6;x-for=6.6.6.6", "203.0.113.7"),
    ],
)
def test_forwarded_reads_every_form(element: str, address: str) -> None:
    """An element names the address of its `for`, whatever parameters stand around it, and wherever it stands."""
    assert _forwarded(element) == [address]
    assert _forwarded(f"for=1.1.1.1, {element},for=2.2.2.2") == ["2.2.2.2", address, "1.1.1.1"]


@pytest.mark.parametrize(
    "element",
    [
        *("", " ", ";", "for", "for=", "=203.0.113.7", 'for=""', "proto=http", "by=203.0.113.7", "203.0.113.7"),
        *("for=unknown", "for=UNKNOWN", "for=_hidden", 'for="_hidden"', 'for="_hidden:4711"', 'for="unknown:4711"'),
        *("for=203.0.113.7;for=203.0.113.8", "for=203.0.113.7;FOR=203.0.113.7", "for=_hidden;for=203.0.113.7"),
        *("for =203.0.113.7", "for= 203.0.113.7", "for = 203.0.113.7", "f or=203.0.113.7", "for==203.0.113.7"),
        *("for=203.0.113.7:4711", "for=[2001:db8::1]", "for=2001:db8::1", 'for="2001:db8::1"', "for=::1"),
        *('for="[203.0.113.7]"', 'for="[2001:db8::1"', 'for="2001:db8::1]"', 'for="[[2001:db8::1]]"', 'for="[]"'),
        *('for="203.0.113.7:"', 'for="203.0.113.7:65536"', 'for="203.0.113.7:123456"', 'for="203.0.113.7:http"'),
        *('for="203.0.113.7:_"', 'for="203.0.113.7:_a b"', 'for="[2001:db8::1]4711"', 'for="[fe80::1%eth0]"'),
        *('for=" 203.0.113.7"', 'for="203.0.113.7 "', "for='203.0.113.7'", 'for="203.0.113.07"', "for=3405803783"),
        *('for="203.0.113.7', 'for=203.0.113.7"', '"for=203.0.113.7"', 'for="203.0.113.7""', 'for=""203.0.113.7"'),
        *('for="203.0.113.7\\"', 'for="203.0.113.7\\\\""', 'for="203.0.113.7"x', 'x"for="203.0.113.7"'),
        *('for=203.0.113.7;host="a"b"', 'for=203.0.113.7;host="a""b"', 'for=203.0.113.7;host=a"b', 'for="\\"'),
        *("for=203.0.113.7 proto=http", "for=203.0.113.7;proto", "for=203.0.113.7;=http", "for=203.0.113.7;p=a b"),
        *(
            "for=203.0.113.7;host=a:80",
            "for=203.0.113.7\0",
            "for=203.0.113.7\r\n",
            "for=203.0.113.7\n",
            "for=203.0.113.7\x0b",
        ),
        *('for=203.0.113.7;host="a\r\nb"', 'for=203.0.113.7;host="a\\\nb"', 'for=203.0.113.7;host="\0"'),
        *("for=203.0.113.7\xa0", "\xa0for=203.0.113.7", "for=\uff1203.0.113.7"),
        *('for=203.0.113.7;host="\u0100"', 'for=203.0.113.7;host="\ud800"', 'for="203.0.113.\u0667"'),
    ],
)
def test_forwarded_refuses_what_is_no_address(element: str) -> None:
    """An element that is malformed, or has not exactly one `for`, or one that is no address, names none."""
    assert _forwarded(element) == []
    assert _forwarded(f"for=6.6.6.6,{element},for=2.2.2.2") == ["2.2.2.2"]


@pytest.mark.parametrize(
    "left",
    [
        'for="',
        'for=6.6.6.6;host="',
        'for="6.6.6.6", host="',
        '"',
        '""',
        '="',
        "\\",
        'for="\\',
        'for="\\"',
        'for="6.6.6.6\\\\"',
        "for=6.6.6.6;",
        'for=6.6.6.6;x="a, for=7.7.7.7',
        "for=",
        "",
        "\0",
    ],
)
def test_forwarded_on_the_left_is_no_matter(left: str) -> None:
    """No text on the left swallows, opens or changes what stands to its right."""
    right = 'for=203.0.113.7;host="a, for=8.8.8.8", for="[2001:db8::1]:80"'
    assert _forwarded(f"{left},{right}")[:2] == ["2001:db8::1", "203.0.113.7"]
