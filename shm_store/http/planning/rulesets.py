"""Rulesets: rules that decide on a request together, prepared before it comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shm_store.core.limiter import KeyReserve
from shm_store.http.client.remembering import Remembered, bytes_of
from shm_store.http.planning.rules import Rule
from shm_store.http.responses.answers import Answer
from shm_store.http.responses.headers import Labels
from shm_store.policy import paths

# More combinations of rules than one application has.
_KNOWN_MAX = 256


class Charge(msgspec.Struct, frozen=True):
    """The takes of one request.

    Attributes:
        rules: The rules that apply to it.
        takes: The take of each rule.
        hashes: The hash of each key. It holds within a process and reveals no key.
    """

    rules: Ruleset
    takes: tuple[KeyReserve, ...]
    hashes: tuple[int, ...]

    def __sizeof__(self) -> int:
        """Return how many bytes it keeps, those of its takes and hashes among them."""
        return super().__sizeof__() + bytes_of(self.takes) + bytes_of(self.hashes)


class Ruleset:
    """Rules in the order of their decisions.

    Attributes:
        rules: The rules.
        positions: Their positions: `zip` would take thrice the time.
        labels: Their labels in header fields.
        told: For each rule that header fields tell of, its tally and what `Labels.usual` returns; None as there.
        shadow: The positions of those in shadow mode.
        reserves: Whether one of them settles its units when the request is over.
        takes_one: Whether there is one rule, and it needs nothing but a take.
        covers_all: Whether each covers every request, if it covers the route.
        said: Returns all that a request says of its client; None if the keys depend on more.
        charges: The charges of requests by that.
        answers: Answers to denied requests by what they depend on, shared by all rulesets of one plan.
    """

    def __init__(self, rules: tuple[Rule, ...] = (), known: dict[tuple[Rule, ...], Ruleset] | None = None) -> None:
        """Have `rules`; `known` are the rulesets of one plan by their rules."""
        self.rules = rules
        self.positions = tuple(range(len(rules)))
        self.labels = Labels.of(rule.label for rule in rules)
        # A store knows the empty tuple at once.
        self.shadow = tuple([index for index, rule in enumerate(rules) if rule.shadow])
        usual = self.labels.usual()
        self.told = (
            None if usual is None else [(rules[index].tally, index, head, limit) for index, head, limit in usual]
        )
        self.reserves = any(rule.reserves for rule in rules)
        self.takes_one = len(rules) == 1 and not self.shadow and not self.reserves
        self.covers_all = not any(rule.methods or rule.paths or rule.exempt for rule in rules)
        self.said: Callable[[Any], Any] | None = None
        self.charges: Mapping[Any, Charge] = {}
        self.answers: Remembered[tuple[object, ...], Answer] = Remembered()
        self._known = {} if known is None else known

    def of(self, rules: Sequence[Rule]) -> Ruleset:
        """Return the ruleset of other rules: some of these, or these and more."""
        if len(rules) == len(self.rules) and rules == self.rules:
            return self
        wanted = tuple(rules)
        found = self._known.get(wanted)
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            found = self._known[wanted] = Ruleset(wanted, self._known)
            found.answers = self.answers
        return found

    def at(self, positions: Sequence[int]) -> Ruleset:
        """Return the ruleset of the rules at some positions."""
        return self.of(tuple([self.rules[index] for index in positions]))


def covering(
    rules: Iterable[Rule], request: object, method: str, path: str, mounts: Callable[[Any], Collection[str]]
) -> Iterator[Rule]:
    """Yield the rules that cover a request, if they cover its route.

    Methods are compared without case, as frameworks read them: `post` does not get past a rule for POST.
    """
    spelled = None
    for rule in rules:
        if rule.methods and method.upper() not in rule.methods:
            continue
        if rule.paths is not None:
            # One list, as many spellings are None.
            spelled = spelled or [paths.spellings(path, mounts(request))]
            if not rule.paths.cover(spelled[0]):
                continue
        if rule.exempt is None or not rule.exempt.cover(path):
            yield rule
