"""Outcome: what became of a request's limits, for the application and for the middleware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from shm_store.http.planning.rules import Rule
from shm_store.http.responses.answers import Answer
from shm_store.http.responses.headers import Fields, Labels, tightest
from shm_store.http.settlement import RequestReservation
from shm_store.rate_info import RateInfo

NO_FIELDS: Final[Fields] = {}
NO_LABELS: Final = Labels.of(())
#: Where the application finds the Outcome: in the environment of WSGI, in the scope of ASGI.
OUTCOME: Final = "shm_store.rate_limit"


class Nesting:
    """The limiters that a request meets, one inside the other, beyond the first one.

    Attributes:
        met: Numbers for the limiters that have decided, or left all to those before them.
        writer: A number for the limiter that writes the header fields; None for the first one.
    """

    __slots__ = ("met", "writer")

    def __init__(self) -> None:
        self.met: set[int] = set()
        self.writer: int | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The decisions of the limiter on one request.

    It has no keys, which may be secrets: error reports of an application show everything that belongs to a request.

    Attributes:
        rules: The rules of the policies that have decided.
        decisions: The answer to each rule.
        labels: Their labels, with the partition keys of their buckets if header fields contain those.
        headers: Fields for the application's response.
        answer: The limiter's answer, instead of the application's; None if the request is served.
        reservation: The units that the response settles, with `commit` for the true cost; None if there are none.
        hashes: The hash of each rule's key. They hold within a process and reveal no key. Empty after a denial.
        nesting: The limiters inside the first one; None if there are none.
    """

    rules: tuple[Rule, ...] = ()
    decisions: Sequence[RateInfo] = ()
    labels: Labels = NO_LABELS
    headers: Fields = NO_FIELDS
    answer: Answer | None = None
    reservation: RequestReservation | None = None
    hashes: tuple[int, ...] = ()
    nesting: Nesting | None = None

    @property
    def info(self) -> RateInfo | None:
        """The answer of the tightest enforced policy, which is what the header fields say; None if there is none."""
        infos = self.labels.enforced(self.decisions)
        return tightest(infos) if infos else None

    @property
    def infos(self) -> dict[str, RateInfo]:
        """The answers by the names of their policies, those in shadow mode included."""
        return {rule.name: info for rule, info in zip(self.rules, self.decisions, strict=True)}


#: Of a request that is exempt, or that no policy covers.
UNLIMITED: Final = Outcome()
