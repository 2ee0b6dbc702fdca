"""Outcome: what became of a request's limits, for the application and for the middleware."""

from __future__ import annotations

from typing import Final

import msgspec

from shm_store.http.answers import Answer
from shm_store.http.deciding import Decision, enforced, tightest
from shm_store.http.headers import Fields
from shm_store.http.settlement import RequestReservation
from shm_store.rate_info import RateInfo

NO_FIELDS: Final[Fields] = {}


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What the limiter has decided on one request.

    Attributes:
        decisions: What every policy that covers the request has answered: each a rule, an answer and a label.
        headers: Fields for the application's response.
        answer: What is answered in place of the application; None if the request is served.
        reservation: What is settled after the response; to `commit` the true cost to. None if nothing is.
    """

    decisions: tuple[Decision, ...] = ()
    headers: Fields = NO_FIELDS
    answer: Answer | None = None
    reservation: RequestReservation | None = None

    @property
    def info(self) -> RateInfo | None:
        """The answer of the tightest enforced policy, which is what the header fields say; None if there is none."""
        infos = enforced(self.decisions)
        return tightest(infos) if infos else None

    @property
    def infos(self) -> dict[str, RateInfo]:
        """The answers by the names of their policies, those in shadow mode included."""
        return {rule.name: info for rule, info, _ in self.decisions}


#: Of a request that is exempt, or that no policy covers.
UNLIMITED: Final = Outcome()
