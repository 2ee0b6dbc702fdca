"""Chooses, by a request's `Accept` field, the form in which it is told that it is not served."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, TypeAlias

Form: TypeAlias = Literal["problem", "html", "text"]

# For each form the media types that ask for it, the best last resort first: a client with no preference is a program.
_FORMS: Final[tuple[tuple[Form, tuple[str, ...]], ...]] = (
    ("problem", ("application/problem+json", "application/json")),
    ("html", ("text/html",)),
    ("text", ("text/plain",)),
)
# A longer field is not read: nobody's preferences take that long to say, and reading it costs more than a denial may.
_ACCEPT_LENGTH_MAX: Final = 512


def form(accept: str | None) -> Form:
    """Return the form that `Accept` prefers (RFC 9110 section 12.5.1), a problem document if it has no preference.

    A field that cannot be read, or accepts none of them, has no preference.

    >>> form("text/html,application/xhtml+xml,*/*;q=0.8"), form("*/*")
    ('html', 'problem')
    """
    if accept is None or accept == "*/*" or len(accept) > _ACCEPT_LENGTH_MAX:
        return "problem"
    return _form(accept)


@lru_cache(maxsize=256)
def _form(accept: str) -> Form:
    ranges = dict(filter(None, map(_range, accept.lower().split(","))))
    best: Form = "problem"
    best_quality = 0.0
    for candidate, types in _FORMS:
        quality = max(_quality(media_type, ranges) for media_type in types)
        if quality > best_quality:
            best, best_quality = candidate, quality
    return best


def _range(text: str) -> tuple[str, float] | None:
    """Return a media range and its quality; None where it cannot be read."""
    media_range, *parameters = (part.strip(" \t") for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
            return (media_range, quality) if 0 <= quality <= 1 else None
    return media_range, 1.0


def _quality(media_type: str, ranges: dict[str, float]) -> float:
    """Return how much a media type is wanted: the most specific range that includes it says so."""
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range]
    return 0.0
