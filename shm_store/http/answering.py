"""Says to the client what was decided: header fields for responses, and the answers in place of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from shm_store.durations import NS_PER_SECOND
from shm_store.errors import ConfigurationError
from shm_store.http.answers import (
    UNAVAILABLE_RETRY_AFTER_S,
    Answer,
    Denial,
    Deny,
    quota_exceeded,
    temporary_reduced_capacity,
)
from shm_store.http.deciding import Decision, enforced, tightest, violated
from shm_store.http.error_log import ErrorLog
from shm_store.http.framework import Framework
from shm_store.http.headers import Fields, Headers, HeaderWriter, Said, retry_after_s
from shm_store.http.negotiation import Form, form
from shm_store.http.rules import Rule
from shm_store.policy.recipe import is_token
from shm_store.rate_info import RateInfo

# Denials that are remembered, for each policy; some 2 kB each. All are dropped when there would be more.
_REMEMBERED: Final = 512
# What a client writes is remembered only if it is short: the bound is to be one on memory.
_REMEMBERED_LENGTH_MAX: Final = 512


class Answering:
    """Writes fields and answers as the application has chosen.

    Attributes:
        allowed_by: Returns the fields of a request that only the policy of a label has allowed, about a key.
    """

    def __init__(self, framework: Framework, headers: Headers, deny: Deny | None, error_log: ErrorLog) -> None:
        self._accept = framework.accept
        self._writer = HeaderWriter(headers)
        self._deny = deny
        self._error_log = error_log
        self._repeats = self._writer.repeats and deny is None
        self.allowed_by = self._writer.allowed_by

    def allowed(self, decisions: Sequence[Decision]) -> Fields:
        """Return the fields of an allowed request."""
        infos = enforced(decisions)
        return self._writer.allowed(self._said(decisions), tightest(infos) if infos else None)

    def denied(self, request: object, path: str, decisions: Sequence[Decision]) -> Answer:
        """Return the answer to a denied request."""
        info, names = tightest(enforced(decisions)), violated(decisions)
        fields = self._writer.denied(self._said(decisions), info)
        if self._deny is not None:
            own = self._own(self._deny, Denial(request, info, names, retry_after_s(info)))
            if own is not None:
                return Answer(
                    own.body, own.content_type, own.status, {**own.headers, "content-type": own.content_type, **fields}
                )
        body = quota_exceeded(self._form(request), names, retry_after_s(info))
        fields["content-type"] = body.content_type
        return Answer(body.at(path), body.content_type, 429, fields)

    def denied_by(self, request: object, path: str, rule: Rule, info: RateInfo, key: str) -> Answer:
        """Return the same where only one rule has decided; an answer given before is given again."""
        if not self._repeats:
            return self.denied(request, path, ((rule, info, key),))
        accept = self._accept(request)
        # -(-a // b) rounds up in integers.
        known = (-(-info.retry_after_ns // NS_PER_SECOND), path, accept, info.limit, info.remaining)
        answer = rule.answers.get(known)
        if answer is None:
            answer = self.denied(request, path, ((rule, info, key),))
            if len(path) + len(accept or "") <= _REMEMBERED_LENGTH_MAX:
                if len(rule.answers) >= _REMEMBERED:
                    rule.answers.clear()
                rule.answers[known] = answer
        return answer

    def failed(self, request: object, path: str) -> Answer:
        """Return the answer given because the store failed."""
        body = temporary_reduced_capacity(self._form(request))
        fields = {
            "retry-after": str(UNAVAILABLE_RETRY_AFTER_S),
            "cache-control": "no-store",
            "content-type": body.content_type,
        }
        return Answer(body.at(path), body.content_type, 503, fields)

    def _said(self, decisions: Sequence[Decision]) -> list[Said]:
        return [(self._writer.partitioned(rule.label, key), info) for rule, info, key in decisions if not rule.shadow]

    def _form(self, request: Any) -> Form:  # noqa: ANN401 - each framework has its own
        return form(self._accept(request))

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
    if type(answer.status) is not int or not 200 <= answer.status <= 599:
        raise ConfigurationError("deny: status", answer.status, "give an integer from 200 to 599")
    if not isinstance(answer.headers, dict):
        raise ConfigurationError("deny: headers", answer.headers, "give a dict")
    for name, value in [*answer.headers.items(), ("content-type", answer.content_type)]:
        if not (isinstance(name, str) and is_token(name) and name == name.lower()):
            raise ConfigurationError("deny: headers", name, "give names of header fields in lower case")
        if not (isinstance(value, str) and value.isprintable() and value.isascii()):
            raise ConfigurationError(f"deny: {name}", value, "give a text of printable ASCII characters")
