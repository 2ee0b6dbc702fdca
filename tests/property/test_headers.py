"""Header fields: whatever is configured and decided, an independent parser reads just that from them."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import ExitStack
from fractions import Fraction
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_store import Concurrency, Config, Quota, RateInfo, ShmStore
from shm_store.core.algorithms import ALGORITHMS
from shm_store.durations import NS_PER_SECOND
from shm_store.falcon import Headers, Outcome, RateLimitMiddleware
from shm_store.policy import Policy
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, LIMIT_MAX
from shm_store.testing import FakeClock
from tests.http.exchange import INTEGER_MAX, Exchange, members
from tests.http.service import CLIENT
from tests.segments import new_segment_name

EXAMPLES: Final = int(os.environ.get("EXAMPLES", "250"))


class Case(NamedTuple):
    """One configuration, and what happens under it."""

    policies: list[Policy]
    headers: Headers
    overrides: dict[str, tuple[int, int]]
    in_flight: dict[str, int]
    waits_ns: list[int]
    alone: bool


LIMITS = (
    st.integers(1, 5)
    | st.sampled_from([INTEGER_MAX, INTEGER_MAX + 1, LIMIT_MAX - 1, LIMIT_MAX])
    | st.integers(1, LIMIT_MAX)
)
INTERVALS_NS = (
    st.integers(1, 120).map(lambda seconds: seconds * NS_PER_SECOND)
    | st.integers(1, 5_000).map(lambda ms: ms * 1_000_000)
    | st.integers(INTERVAL_MIN_NS, INTERVAL_MAX_NS)
    | st.sampled_from([INTERVAL_MIN_NS, INTERVAL_MAX_NS, INTERVAL_MAX_NS - 1])
)
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    limit, interval_ns = draw(LIMITS), draw(INTERVALS_NS)
    algorithm = draw(st.sampled_from(sorted(ALGORITHMS)))
    burst = None
    if algorithm == "gcra" and draw(st.booleans()):
        most = min(LIMIT_MAX, INTERVAL_MAX_NS * limit // interval_ns)
        burst = draw(st.sampled_from([1, most]) | st.integers(1, min(most, 2 * limit)))
    return Quota(limit, f"{interval_ns}ns", burst, algorithm)


@st.composite
def policies(draw: st.DrawFn, name: str) -> Policy:
    mode: Any = draw(st.sampled_from(["enforce", "enforce", "enforce", "shadow"]))
    key = draw(st.sampled_from([["client"], ["global"]]))
    if draw(st.integers(0, 4)) == 0:
        return Policy(name=name, concurrency=draw(LIMITS), key=key, mode=mode)
    quota = draw(quotas())
    most = quota.most
    cost = draw(st.sampled_from([1, most, most // 2 + 1]) | st.integers(1, most))
    return Policy(name=name, quota=quota, cost=cost, key=key, mode=mode)


def key_of(policy: Policy) -> str:
    return f"{policy.name}:{'global' if 'global' in policy.key else f'client:{CLIENT}'}"


def most_of(policy: Policy) -> int:
    return policy.limit.limit if isinstance(policy.limit, Concurrency) else policy.limit.most


@st.composite
def cases(draw: st.DrawFn) -> Case:
    alone = draw(st.integers(0, 3)) == 0
    names = ["default"] if alone else draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    found = [draw(policies(name)) for name in names]
    if alone and isinstance(found[0].limit, Concurrency):
        found = [Policy(name="default", quota="5/s")]
    overrides, in_flight = {}, {}
    for policy in found:
        if isinstance(policy.limit, Concurrency):
            if draw(st.booleans()):
                in_flight[policy.name] = draw(st.sampled_from([1, policy.limit.limit]))
        elif draw(st.integers(0, 3)) == 0:
            limit = draw(LIMITS.filter(lambda limit: limit != most_of(policy)))  # noqa: B023 - called here
            overrides[policy.name] = limit, draw(INTERVALS_NS)
    jitter: Any = draw(st.sampled_from([0, 0, "300ms", "7s"]))
    headers = Headers(
        version=draw(st.sampled_from(["draft-11", "draft-11", "draft-11", None])),
        legacy=draw(st.booleans()),
        partition_key=draw(st.sampled_from([None, "nobody else knows"])),
        retry_jitter=jitter,
    )
    longest = max((policy.limit.interval_ns for policy in found if isinstance(policy.limit, Quota)), default=1)
    waits_ns = draw(st.lists(st.just(0) | st.integers(0, longest), min_size=2, max_size=5))
    return Case(found, headers, overrides, in_flight, waits_ns, alone)


def window_s(limit: Quota) -> int | None:
    """The seconds in which the most units come back, if they are whole."""
    window = Fraction(limit.interval_ns) / limit.limit * limit.most / NS_PER_SECOND
    return int(window) if window.denominator == 1 else None


def ceil_s(ns: int) -> int:
    return -(-ns // NS_PER_SECOND)


def said_of(policy: Policy, info: RateInfo) -> tuple[dict[str, object], dict[str, object]]:
    """Return the parameters of a policy in the two fields, without `pk`."""
    says: dict[str, object] = {"q": min(info.limit, INTEGER_MAX)}
    if info.limit == most_of(policy):
        if isinstance(policy.limit, Concurrency):
            says["qu"] = "concurrent-requests"
        elif (window := window_s(policy.limit)) is not None:
            says["w"] = window
    rate: dict[str, object] = {"r": min(info.remaining, INTEGER_MAX)}
    if until_ns := info.reset_after_ns if info.allowed else info.retry_after_ns:
        rate["t"] = ceil_s(until_ns)
    return says, rate


def check_draft(case: Case, sent: dict[str, str], enforced: list[tuple[Policy, RateInfo]]) -> None:
    """Both fields name the enforced policies in their order, with parameters of the right types and values."""
    if case.headers.version is None or not enforced:
        assert not {"ratelimit", "ratelimit-policy"} & set(sent)
        return
    told, rates = members(sent["ratelimit-policy"]), members(sent["ratelimit"])
    assert [name for name, _ in told] == [name for name, _ in rates] == [policy.name for policy, _ in enforced]
    for (_, says), (_, rate), (policy, info) in zip(told, rates, enforced, strict=True):
        pk = says.pop("pk", None)
        assert rate.pop("pk", None) == pk
        assert type(pk) is (bytes if case.headers.partition_key else type(None))
        assert (says, rate) == said_of(policy, info)
        for value in (*says.values(), *rate.values()):
            assert (
                type(value) is str
                if value == "concurrent-requests"
                else type(value) is int and 0 <= value <= INTEGER_MAX
            )
        assert isinstance(says["q"], int)
        assert isinstance(rate["r"], int)
        assert rate["r"] <= says["q"]


def check_legacy(case: Case, sent: dict[str, str], outcome: Outcome) -> None:
    """The legacy fields are those of the tightest policy, in plain integers."""
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    if not case.headers.legacy or outcome.info is None:
        assert not set(names) & set(sent)
        return
    info = outcome.info
    until = ceil_s(info.reset_after_ns) if info.allowed else max(1, ceil_s(info.retry_after_ns))
    assert [sent[name] for name in names[:2]] == [str(info.limit), str(info.remaining)]
    # Without it where no wait makes room.
    is_hopeless = outcome.answer is not None and "retry-after" not in sent
    assert sent.get("x-ratelimit-reset") == (None if is_hopeless else str(until))


def check_denial(case: Case, sent: dict[str, str], denials: list[tuple[Policy, RateInfo]]) -> None:
    """Retry-After is there if and only if something denied, and late enough for all that did."""
    if not denials:
        assert not {"retry-after", "cache-control"} & set(sent)
        return
    assert sent["cache-control"] == "no-store"
    if any(isinstance(policy.limit, Quota) and not info.retry_after_ns for policy, info in denials):
        # A cost above the limit: no wait makes room.
        assert "retry-after" not in sent
        return
    earliest = max([1, *(ceil_s(info.retry_after_ns) for _, info in denials)])
    assert re.fullmatch("[1-9][0-9]*", sent["retry-after"])
    assert earliest <= int(sent["retry-after"]) <= earliest + case.headers.retry_jitter_s


def run(case: Case, store: ShmStore, clock: FakeClock, seen: Counter[str]) -> None:
    """Send requests under a configuration, and check every field of the responses."""
    if case.alone:
        (policy,) = case.policies
        assert isinstance(policy.limit, Quota)
        case = case._replace(policies=[Policy(name="default", quota=policy.limit, cost=policy.cost)])
        middleware = RateLimitMiddleware(store, quota=policy.limit, cost=policy.cost, headers=case.headers)
    else:
        middleware = RateLimitMiddleware(store, policies=case.policies, headers=case.headers)
    by_name = {policy.name: policy for policy in case.policies}
    for name, (limit, interval_ns) in case.overrides.items():
        key = key_of(by_name[name])
        store.set(key.removeprefix("default:") if case.alone else key, limit, f"{interval_ns}ns")
    ask = Exchange(middleware)
    with ExitStack() as held:
        for name, units in case.in_flight.items():
            held.enter_context(store.reserve(key_of(by_name[name]), units, by_name[name].limit))
        for wait_ns in case.waits_ns:
            sent, outcome = ask()
            decided = [(by_name[name], info) for name, info in outcome.infos.items()]
            enforced = [(policy, info) for policy, info in decided if policy.mode == "enforce"]
            denials = [(policy, info) for policy, info in enforced if not info.allowed]
            check_draft(case, sent, enforced)
            check_legacy(case, sent, outcome)
            check_denial(case, sent, denials)
            assert (outcome.answer is not None) == bool(denials)
            seen.update(["denied" if denials else "allowed", "several" if len(enforced) > 1 else "one"])
            seen.update(f"w={'w' in said_of(policy, info)[0]}" for policy, info in enforced)
            clock.advance(wait_ns / NS_PER_SECOND)


@pytest.mark.timeout(3600)
def test_fields_mean_what_was_decided_whatever_is_configured() -> None:
    """Under random configurations every field parses, and matches the decision of each enforced policy."""
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(cases())
    def check(case: Case) -> None:
        clock = FakeClock()
        config = Config(limit=3, interval="1min", initial_size=64, stripes=1, name=new_segment_name())
        store = ShmStore.open(config, clock=clock)
        try:
            run(case, store, clock, seen)
        finally:
            store.unlink()
            store.close()

    check()
    assert min(seen[kind] for kind in ("denied", "allowed", "several", "one", "w=True", "w=False")) >= EXAMPLES // 5
