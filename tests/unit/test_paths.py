"""Paths: which spellings of a path a pattern covers, and the one that it exempts."""

from __future__ import annotations

import unicodedata

import pytest

from shm_store import ConfigurationError
from shm_store.policy import paths

# Each is `/login` to some server, router or file system.
LOGIN = (
    "/login",
    "login",
    "//login",
    "///login//",
    "/login/",
    "login/",
    "/./login",
    "/x/../login",
    "/x//../login",
    "/../../login",
    "/login/.",
    "/login/x/..",
    "/%6cogin",
    "/%256Cogin",
    "/%25256cogin",
    "/login%2f",
    "%2flogin",
    "/x/%2e%2e/login",
    "/x%2f..%2flogin",
    "/login\n",
    "/lo\x00gin",
    "/login%0a",
    "/login;id=1",
    "/login;",
    "/;a/../login",
    "\\login",
    "/x\\..\\login",
    "/login?next=/",
    "/login%3fnext",
    "/login#top",
    "http://h/login",
    "HTTPS://user@[::1]:8443//login/",
)
OTHERS = (
    "",
    "/",
    "/Login",
    "/logins",
    "/log",
    "/login.",
    "/login/x",
    "/x/login",
    "/login/../x",
    "/log/in",
    "/ogin",
    "/lögin",
)


def _covers(pattern: str, path: str, *mounts: str, ignore_case: bool = False) -> bool:
    return paths.covered("paths", [pattern], ignore_case=ignore_case).cover(paths.spellings(path, mounts))


@pytest.mark.parametrize("pattern", ["/login", "/login/"])
def test_pattern_covers_every_spelling_of_a_path(pattern: str) -> None:
    """A slash at the end of a pattern makes no difference either."""
    assert [path for path in LOGIN if not _covers(pattern, path)] == []
    assert [path for path in OTHERS if _covers(pattern, path)] == []


def test_path_keeps_the_spelling_it_has() -> None:
    """A prefix covers what is written below it, and what that stands for."""
    for path in ("/static/../admin", "/static/%2e%2e/admin", "/static//../admin", "/static;x/../admin"):
        assert _covers("/static*", path), path
        assert _covers("/admin", path), path
    # RFC 3986 removes the empty segment before the dots. A router that merges slashes first leaves the prefix.
    assert _covers("/static/admin", "/static//../admin")


@pytest.mark.parametrize(
    ("pattern", "covered", "others"),
    [
        ("/a/*", ["/a/", "/a", "a", "/a/b", "/a/b/c", "/a/*", "//a/b"], ["/ab", "/A/b", "/", "/b/a/c"]),
        ("/a*", ["/a", "/ab", "/a/b"], ["/", "/A", "/ba"]),
        ("/*", ["/", "/a", "//", "", "*", "a"], []),
        ("/", ["/", "", "//", "/.", "/a/..", "http://h"], ["/a"]),
        ("/é/*", ["/é/a", "/%C3%A9/a", unicodedata.normalize("NFD", "/é/a")], ["/e/a", "/%E9/a"]),
        ("/a.c", ["/a.c"], ["/abc"]),
        ("/[ab]*", ["/[ab]x"], ["/a"]),
        ("/100%", ["/100%", "/100%25"], ["/100"]),
    ],
)
def test_patterns_cover_a_path_or_all_that_begin_so(pattern: str, covered: list[str], others: list[str]) -> None:
    """Only a `*` at the end stands for something else."""
    assert [path for path in (*covered, *others) if _covers(pattern, path)] == covered


@pytest.mark.parametrize("mount", ["/api", "/api/", "api"])
def test_pattern_covers_a_path_with_and_without_the_mount(mount: str) -> None:
    """Servers and frameworks differ in which of them has the mount in its path, and in how they take it off."""
    for path in ("/login", "/api/login", "//api//login", "/apilogin", "/api/api/login"):
        assert _covers("/login", path, mount), path
    assert _covers("/api/login", "/login", mount)
    assert not _covers("/login", "/api/login")
    assert not _covers("/login", "/api2/login", mount)


def test_pattern_ignores_case_where_asked_for() -> None:
    """Of patterns and of paths, with all other spellings."""
    for path in ("/LOGIN", "//Login/", "/%4cogin"):
        assert _covers("/Login", path, ignore_case=True)
        assert not _covers("/login", path)
    assert _covers("/Static/*", "/STATIC/a", ignore_case=True)
    assert not _covers("/static/*", "/STATI/a", ignore_case=True)


@pytest.mark.parametrize(
    "path",
    ["/a;%2541\\b//./c\x01d#" + unicodedata.normalize("NFD", "é"), "/%" + "25" * 100 + "6cogin", "/" + ";%41" * 5000],
)
def test_pattern_covers_a_path_with_too_many_spellings(path: str) -> None:
    """No client chooses how long the comparison takes, or gets past it."""
    assert paths.spellings(path) is None
    assert _covers("/nothing/like/it", path)
    assert not paths.exempt("exempt", ["/*"]).cover(path)


def test_long_path_has_one_spelling() -> None:
    """Length alone makes no path odd."""
    assert not _covers("/login", "/login/" + "a" * 60_000)


@pytest.mark.parametrize(
    ("pattern", "exempt", "limited"),
    [
        ("/login", ["/login"], [path for path in (*LOGIN, *OTHERS) if path != "/login"]),
        ("/login/", ["/login/"], ["/login", "//login/", "login/", "/login//"]),
        (
            "/static/*",
            [
                "/static/a",
                "/static/a/b/",
                "/static/.well-known",
                "/static/é",
                "/static/100%",
                "/static/a:b@c",
                "/static//a",
                "/static/a%2fb",
                "/static/a;b?c#d",
                "/static/a\n",
                "/static/a/../b",
            ],
            [
                "/static",
                "/static/",
                "//static/a",
                "/static/../admin",
                "/static/%2e%2e/admin",
                "/static//../admin",
                "/static/..;/admin",
                "/static/..\\admin",
                "/static/a/../../admin",
                "/static/%25%32%65%25%32%65/admin",
                "/static/.\n./admin",
                "/static//",
                "/static/;a",
                "/static/#a",
                "/static/%2e",
            ],
        ),
        ("/*", ["/", "/a", "/a/", "//", "/a//b", "/.", "/%41"], ["", "a"]),
        ("/a*", ["/a", "/a/", "/ab/c"], ["/A", "/b/../a"]),
    ],
)
def test_exempt_is_a_path_written_as_the_pattern(pattern: str, exempt: list[str], limited: list[str]) -> None:
    """Only if it can stand for no path that is not exempt."""
    read = paths.exempt("exempt", [pattern])
    assert [path for path in (*exempt, *limited) if read.cover(path)] == exempt


def test_exempt_paths_are_exempt_together() -> None:
    """A path that may stand for an exempt one of another pattern is exempt, if it is written as one of them is."""
    read = paths.exempt("exempt", ["/admin", "/admin/*", "/public/*"])
    assert all(read.cover(path) for path in ("/admin/", "/admin/../public/a", "/public/../admin"))
    assert not read.cover("//admin")


def test_no_patterns_cover_nothing() -> None:
    """An empty list is none."""
    assert not paths.covered("paths", []).cover(paths.spellings("/"))
    assert not paths.exempt("exempt", ()).cover("/")


@pytest.mark.parametrize(
    ("pattern", "normal"),
    [
        ("b", "'/static/*'"),
        ("/a?b", "'/static/*'"),
        ("/a//b", "'/a/b'"),
        ("//a*", "'/a*'"),
        ("/a/../b", "'/b'"),
        ("/%61dmin/*", "'/admin/*'"),
        ("/a\\b", "'/a/b'"),
        ("/a\n", "'/a'"),
        ("http://h/a", "'/static/*'"),
    ],
)
def test_patterns_are_refused_unless_they_are_normal(pattern: str, normal: str) -> None:
    """The error names the option the patterns are of, the pattern, and what to write instead."""
    for read in (paths.covered, paths.exempt):
        with pytest.raises(ConfigurationError) as caught:
            read("its field", iter(["/a", pattern]))
        assert (caught.value.setting, caught.value.value) == ("its field", pattern)
        assert normal in caught.value.remedy
