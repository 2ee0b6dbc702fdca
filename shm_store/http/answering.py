"""Tells the client the decision: header fields for responses, and the answers in place of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import ConfigurationError
from shm_store.http.error_log import ErrorLog
from shm_store.http.planning.framework import Framework
from shm_store.http.planning.rulesets import Ruleset
from shm_store.http.responses.answers import (
    UNAVAILABLE_RETRY_AFTER_S,
    Answer,
    Denial,
    Deny,
    quota_exceeded,
    temporary_reduced_capacity,
)
from shm_store.http.responses.headers import UP_NS, Headers, HeaderWriter, Labels, tightest
from shm_store.http.responses.negotiation import form
from shm_store.policy.key_specification import is_token
from shm_store.rate_info import RateInfo

# Longer texts of clients are not remembered: a few of them would push out the others.
_REMEMBERED_LENGTH_MAX: Final = 512
# RFC 9110 sections 6.4.1 and 15.3.6.
_BODILESS: Final = frozenset((204, 205, 304))
# RFC 9112 section 6: a second one, or another, and what follows is read as the next response.
_FRAMING: Final = frozenset(("content-length", "transfer-encoding", "connection"))


class Answering:
    """Writes fields and answers as the application has chosen.

    Attributes:
        allowed: Returns the fields of an allowed request, by labels and answers.
        is_common: Whether these are the draft's fields and no others.
        partitioned: Returns labels with the partition keys of buckets; None if no partition keys are told.
    """

    def __init__(self, framework: Framework, headers: Headers, deny: Deny | None, error_log: ErrorLog) -> None:
        self._asked = framework.asked
        self._writer = HeaderWriter(headers)
        self._deny = deny
        self._error_log = error_log
        self._repeats = self._writer.repeats and deny is None
        self.allowed = self._writer.allowed
        self.is_common = self._writer.is_common
        self.partitioned = self._writer.partitioned if self._writer.partitions else None

    def denied(self, request: object, path: str, ruleset: Ruleset, labels: Labels, infos: Sequence[RateInfo]) -> Answer:
        """Return the answer to a denied request; an answer given before is given again."""
        if not self._repeats or labels is not ruleset.labels:
            return self._denied(request, path, ruleset, labels, infos)
        accept, mount = self._asked(request)
        known: list[object] = [ruleset, path, accept, mount]
        most, longest_ns = 0, -1
        for index in labels.told:
            info = infos[index]
            if info.allowed:
                known += info.limit, info.remaining, (info.reset_after_ns + UP_NS) // NS_PER_SECOND
                continue
            retry_ns = info.retry_after_ns
            # Below zero, which no time of an allowed one is.
            known += info.limit, info.remaining, ~((retry_ns + UP_NS) // NS_PER_SECOND)
            if retry_ns > longest_ns:
                # The tightest: of two that last as many seconds, the nanoseconds decide.
                most, longest_ns = index, retry_ns
        known.append(most)
        seen = tuple(known)
        answer = ruleset.answers.get(seen)
        if answer is None:
            answer = self._denied(request, path, ruleset, labels, infos)
            if len(path) + len(accept or "") + len(mount) <= _REMEMBERED_LENGTH_MAX:
                ruleset.answers.remember(seen, answer, answer.body, answer.headers, *answer.headers.values())
        return answer

    def _denied(
        self, request: object, path: str, ruleset: Ruleset, labels: Labels, infos: Sequence[RateInfo]
    ) -> Answer:
        denying = [index for index in labels.told if not infos[index].allowed]
        names = tuple(ruleset.rules[index].name for index in denying)
        # A cost above the limit of its bucket, for which no wait makes room. Units in flight do end.
        is_hopeless = any(not infos[index].retry_after_ns and not labels.each[index].in_flight for index in denying)
        retry_s = None if is_hopeless else self._writer.retry_s([infos[index] for index in denying])
        fields = self._writer.denied(labels, infos, retry_s)
        if self._deny is not None:
            denial = Denial(request, tightest(labels.enforced(infos)), names, retry_s)
            own = self._own(self._deny, denial)
            if own is not None:
                fields = {**own.headers, "content-type": own.content_type, **fields}
                return Answer(own.body, own.content_type, own.status, fields)
        accept, mount = self._asked(request)
        body = quota_exceeded(form(accept), names, retry_s)
        fields["content-type"] = body.content_type
        return Answer(body.at(mount + path), body.content_type, 429, fields)

    def failed(self, request: object, path: str) -> Answer:
        """Return the answer given because the store failed."""
        accept, mount = self._asked(request)
        body = temporary_reduced_capacity(form(accept))
        fields = {
            "retry-after": str(UNAVAILABLE_RETRY_AFTER_S),
            "cache-control": "no-store",
            "content-type": body.content_type,
        }
        return Answer(body.at(mount + path), body.content_type, 503, fields)

    def _own(self, deny: Deny, denial: Denial) -> Answer | None:
        """Return what the application answers; None, with a line in the log, if that cannot be sent."""
        answer = deny(denial)
        try:
            _check(answer)
        except ConfigurationError as error:
            self._error_log.record(error, "request denied with the limiter's own answer")
            return None
        return answer


def _check(answer: object) -> None:
    if not isinstance(answer, Answer):
        raise ConfigurationError("deny", answer, "return an Answer from the function")
    if not isinstance(answer.body, bytes):
        raise ConfigurationError("deny: body", answer.body, "give bytes")
    if type(answer.status) is not int or not 200 <= answer.status <= 599 or answer.status in _BODILESS:
        raise ConfigurationError("deny: status", answer.status, "give an integer from 200 to 599 that has a body")
    if not isinstance(answer.headers, dict):
        raise ConfigurationError("deny: headers", answer.headers, "give a dict")
    for name, value in [*answer.headers.items(), ("content-type", answer.content_type)]:
        if name in _FRAMING:
            raise ConfigurationError("deny: headers", name, "leave it out: the server knows how long the body is")
        if not (isinstance(name, str) and is_token(name) and name == name.lower()):
            raise ConfigurationError("deny: headers", name, "give names of header fields in lower case")
        if not (isinstance(value, str) and value.isprintable() and value.isascii()):
            raise ConfigurationError(f"deny: {name}", value, "give a text of printable ASCII characters")
