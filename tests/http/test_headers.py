"""Header fields: what is written of a decision, and that an independent parser reads the same from it."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack
from fractions import Fraction
from typing import Any, Final, NamedTuple

import falcon
import falcon.testing
import http_sf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shm_store import Concurrency, Config, Quota, RateInfo, ShmStore
from shm_store.algorithms import ALGORITHMS
from shm_store.durations import NS_PER_SECOND
from shm_store.errors import ConfigurationError
from shm_store.falcon import Headers, Outcome, RateLimitMiddleware
from shm_store.http.headers import HeaderWriter, label
from shm_store.policy import Policy
from shm_store.quota import INTERVAL_MAX_NS, INTERVAL_MIN_NS, LIMIT_MAX
from tests.clock import Clock
from tests.http.service import CLIENT, Seen
from tests.ids import shown
from tests.segments import new_segment_name

YEARS_100_NS: Final = 100 * 365 * 86_400 * NS_PER_SECOND
# RFC 9651 section 3.3.1.
INTEGER_MAX: Final = 999_999_999_999_999
BOTH: Final = Headers(legacy=True)
SECRET: Final = "nobody else knows"  # noqa: S105 - but everybody does
AMPLE: Final = Quota(1_000, "1min")
QUOTA: Final = Quota(3, "1min")
LABEL: Final = label("default", QUOTA)

Members = list[tuple[str, dict[str, object]]]


def allowed(*, remaining: int = 2, reset_after_ns: int = 0) -> RateInfo:
    return RateInfo(True, 3, remaining, reset_after_ns)


def denied(*, reset_after_ns: int = 0, retry_after_ns: int = 0) -> RateInfo:
    return RateInfo(False, 3, 0, reset_after_ns, retry_after_ns)


def members(value: str) -> Members:
    """Read a list of strings with parameters, in the one form that RFC 9651 has for it."""
    parsed: Any = http_sf.parse(value.encode(), tltype="list")
    assert all(isinstance(member, tuple) and type(member[0]) is str for member in parsed)
    assert http_sf.ser(parsed) == value
    return list(parsed)


ROUNDED = [
    (0, 0),
    (1, 1),
    (NS_PER_SECOND - 1, 1),
    (NS_PER_SECOND, 1),
    (NS_PER_SECOND + 1, 2),
    (59 * NS_PER_SECOND + NS_PER_SECOND // 2, 60),
    (YEARS_100_NS - 1, 100 * 365 * 86_400),
    (YEARS_100_NS, 100 * 365 * 86_400),
]


# What was taken is not back at once.
@pytest.mark.parametrize(("ns", "seconds"), ROUNDED[1:])
def test_reset_rounds_up(ns: int, seconds: int) -> None:
    """The reset is a whole number of seconds and never earlier than it comes, exact even for 100 years."""
    fields = HeaderWriter(BOTH).allowed_by(LABEL, allowed(reset_after_ns=ns))
    assert fields["x-ratelimit-reset"] == str(seconds)
    assert members(fields["ratelimit"]) == [("default", {"r": 2, "t": seconds})]


@pytest.mark.parametrize(("ns", "seconds"), ROUNDED)
def test_retry_after_rounds_up_and_is_never_zero(ns: int, seconds: int) -> None:
    """Retry-After is a whole number of seconds, at least 1, never earlier than the retry, and what the reset says."""
    info = denied(retry_after_ns=ns, reset_after_ns=YEARS_100_NS)
    writer = HeaderWriter(BOTH)
    assert writer.retry_s([info]) == max(1, seconds)
    fields = writer.denied([(LABEL, info)], info, writer.retry_s([info]))
    assert fields["retry-after"] == fields["x-ratelimit-reset"] == str(max(1, seconds))
    assert members(fields["ratelimit"]) == [("default", {"r": 0, "t": seconds} if ns else {"r": 0})]


def test_allowed_fields_hold_no_retry_after() -> None:
    """An allowed request is told its limit and nothing else; a number too large for the draft's syntax is cut."""
    quota = Quota(LIMIT_MAX, "1s")
    info = RateInfo(True, LIMIT_MAX, LIMIT_MAX - 1, 1)
    assert HeaderWriter(BOTH).allowed_by(label("p", quota), info) == {
        "ratelimit-policy": f'"p";q={INTEGER_MAX};w=1',
        "ratelimit": f'"p";r={INTEGER_MAX};t=1',
        "x-ratelimit-limit": "9223372036854775807",
        "x-ratelimit-remaining": "9223372036854775806",
        "x-ratelimit-reset": "1",
    }


def test_denied_fields_forbid_storing() -> None:
    """A denial must not come out of a cache later, whichever fields are chosen."""
    for headers in (Headers(), BOTH, Headers(version=None), Headers(partition_key=SECRET, retry_jitter="1h")):
        fields = HeaderWriter(headers).denied([(LABEL, denied())], denied(), 1)
        assert fields["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("limit", "policy"),
    [
        (Quota(100, "1min"), '"p";q=100;w=60'),
        (Quota(1, "100000h"), '"p";q=1;w=360000000'),
        (Quota(5, "500ms"), '"p";q=5'),
        (Quota(5, "1500ms"), '"p";q=5'),
        (Quota(5, "1ms"), '"p";q=5'),
        (Quota(7, "86400s", algorithm="fixed-window"), '"p";q=7;w=86400'),
        (Quota(7, "10s", algorithm="sliding-window"), '"p";q=7;w=10'),
        # The burst comes back in twice, one and a half times, half, and a third of the interval.
        (Quota(20, "1s", burst=40, algorithm="gcra"), '"p";q=40;w=2'),
        (Quota(20, "1s", burst=30, algorithm="gcra"), '"p";q=30'),
        (Quota(20, "1s", burst=10, algorithm="gcra"), '"p";q=10'),
        (Quota(9, "3s", burst=3, algorithm="gcra"), '"p";q=3;w=1'),
        (Quota(9, "500ms", burst=18, algorithm="gcra"), '"p";q=18;w=1'),
        (Quota(INTEGER_MAX, "1s"), f'"p";q={INTEGER_MAX};w=1'),
        (Quota(INTEGER_MAX + 1, "1s"), f'"p";q={INTEGER_MAX};w=1'),
        (Concurrency(4), '"p";q=4;qu="concurrent-requests"'),
        (Concurrency(LIMIT_MAX), f'"p";q={INTEGER_MAX};qu="concurrent-requests"'),
    ],
    ids=shown,
)
def test_policy_says_the_window_in_which_the_most_units_come_back(limit: Quota | Concurrency, policy: str) -> None:
    """The quota is the most units at once; the window is left out unless it is a whole number of seconds."""
    assert label("p", limit).policy == policy


def test_override_is_said_without_a_window(store: ShmStore) -> None:
    """A bucket of its own limit is told that limit, and no window, which is another than the policy's."""
    store.set(f"client:{CLIENT}", 7, "1h")
    sent, outcome = exchange(RateLimitMiddleware(store))
    assert members(sent["ratelimit-policy"]) == [("default", {"q": 7})]
    assert outcome.info is not None
    assert outcome.info.limit == 7


def test_partition_key_tells_buckets_apart(store: ShmStore) -> None:
    """The same client has the same key and another one another; another secret makes other keys of them."""
    middleware = RateLimitMiddleware(store, headers=Headers(partition_key=SECRET))
    other = exchange(RateLimitMiddleware(store, quota=AMPLE, headers=Headers(partition_key="s" * 99)))[0]["ratelimit"]
    told, denied_to = [], []
    for address in (CLIENT, CLIENT, "203.0.113.8") * 4:
        sent, outcome = exchange(middleware, address)
        ((_, policy),), ((_, rate),) = members(sent["ratelimit-policy"]), members(sent["ratelimit"])
        assert policy["pk"] == rate["pk"]
        assert isinstance(policy["pk"], bytes)
        assert b"203" not in policy["pk"]
        told.append(policy["pk"])
        if outcome.answer is not None:
            denied_to.append(address)
    assert told[0] == told[1] != told[2]
    assert members(other)[0][1]["pk"] not in told
    assert told == told[:3] * 4
    assert len(set(denied_to)) == 2


def test_partition_key_is_of_the_draft_only(store: ShmStore) -> None:
    """Without the draft's fields there is nothing to tell it in."""
    chosen = Headers(version=None, legacy=True, partition_key=SECRET)
    assert "ratelimit" not in exchange(RateLimitMiddleware(store, headers=chosen))[0]


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        (Headers(), ["RateLimit-Policy", "RateLimit", "Retry-After"]),
        (Headers(version=None), ["Retry-After"]),
        (
            Headers(version=None, legacy=True),
            ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"],
        ),
        (
            BOTH,
            [
                "RateLimit-Policy",
                "RateLimit",
                "X-RateLimit-Limit",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
                "Retry-After",
            ],
        ),
    ],
)
def test_names_are_those_that_are_sent(store: ShmStore, headers: Headers, names: list[str]) -> None:
    """Whoever exposes `names` to scripts of other origins exposes each field that a denial has."""
    assert list(headers.names) == names
    middleware = RateLimitMiddleware(store, headers=headers)
    sent = [exchange(middleware)[0] for _ in range(4)][-1]
    assert {name for name in sent if "ratelimit" in name or name == "retry-after"} == set(map(str.lower, names))


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"version": "draft-3"}, "version"),
        ({"version": 11}, "version"),
        ({"version": ""}, "version"),
        ({"legacy": 1}, "legacy"),
        ({"legacy": None}, "legacy"),
        ({"partition_key": ""}, "partition_key"),
        ({"partition_key": True}, "partition_key"),
        ({"partition_key": b"secret"}, "partition_key"),
        ({"retry_jitter": -1}, "retry_jitter"),
        ({"retry_jitter": "soon"}, "retry_jitter"),
        ({"retry_jitter": None}, "retry_jitter"),
        ({"retry_jitter": True}, "retry_jitter"),
        ({"retry_jitter": float("nan")}, "retry_jitter"),
        ({"retry_jitter": "101000 weeks"}, "retry_jitter"),
    ],
    ids=shown,
)
def test_headers_refuse_a_bad_value(options: dict[str, Any], setting: str) -> None:
    """The error is one line that names the option, its value and a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        Headers(**options)
    assert caught.value.setting == f"headers: {setting}"
    # The type of what was to be a secret.
    assert caught.value.value is options[setting] or caught.value.value == type(options[setting]).__name__
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_headers_are_one_value_however_they_are_written() -> None:
    """A jitter as text or as a number makes equal values."""
    assert Headers(retry_jitter="1500ms") == Headers(retry_jitter=1.5)
    assert [Headers(retry_jitter=jitter).retry_jitter_s for jitter in (0, "1ms", 1, 1.5, "1min")] == [0, 1, 1, 2, 60]


QUOTAS = [QUOTA, Quota(5, "1500ms"), Quota(LIMIT_MAX, "1s"), Quota(20, "1s", burst=40, algorithm="gcra")]


@settings(max_examples=300, deadline=None)
@given(
    headers=st.builds(
        Headers,
        version=st.sampled_from([None, "draft-11"]),
        legacy=st.booleans(),
        partition_key=st.sampled_from([None, SECRET]),
    ),
    quota=st.sampled_from(QUOTAS),
    override=st.sampled_from([None, 1, INTEGER_MAX + 1]),
    share=st.integers(0, 100),
    reset_after_ns=st.integers(1, YEARS_100_NS),
)
def test_one_policy_says_what_it_says_among_several(
    headers: Headers, quota: Quota, override: int | None, share: int, reset_after_ns: int
) -> None:
    """The way that is taken for a single policy writes the fields that the way for several writes."""
    writer, by = HeaderWriter(headers), label("p", quota)
    limit = quota.terms.burst if override is None else override
    info = RateInfo(True, limit, limit * share // 100, reset_after_ns)
    by = writer.partitioned(by, "k") if writer.partitions else by
    assert writer.allowed_by(by, info) == writer.allowed([(by, info)], info)


class Exchange:
    """An application without routes, behind a limiter; answers with the fields sent, and with what was decided."""

    def __init__(self, middleware: RateLimitMiddleware) -> None:
        self._seen = Seen()
        both: list[Any] = [self._seen, middleware]
        self._client = falcon.testing.TestClient(falcon.App(middleware=both))

    def __call__(self, address: str = CLIENT) -> tuple[dict[str, str], Outcome]:
        result = self._client.simulate_get("/", remote_addr=address)
        assert result.status_code == (404 if self._seen.outcome.answer is None else 429)
        return {name.lower(): value for name, value in result.headers.items()}, self._seen.outcome


def exchange(middleware: RateLimitMiddleware, address: str = CLIENT) -> tuple[dict[str, str], Outcome]:
    """Send a request; return the fields of the response by their names in lower case, and what was decided."""
    return Exchange(middleware)(address)


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
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).filter(lambda name: name not in ("client", "header"))


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
    most = quota.terms.burst
    cost = draw(st.sampled_from([1, most, most // 2 + 1]) | st.integers(1, most))
    return Policy(name=name, quota=quota, cost=cost, key=key, mode=mode)


def key_of(policy: Policy) -> str:
    return f"{policy.name}:{'global' if 'global' in policy.key else f'client:{CLIENT}'}"


def most_of(policy: Policy) -> int:
    return policy.limit.limit if isinstance(policy.limit, Concurrency) else policy.limit.terms.burst


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
        partition_key=draw(st.sampled_from([None, SECRET])),
        retry_jitter=jitter,
    )
    longest = max((policy.limit.interval_ns for policy in found if isinstance(policy.limit, Quota)), default=1)
    waits_ns = draw(st.lists(st.just(0) | st.integers(0, longest), min_size=2, max_size=5))
    return Case(found, headers, overrides, in_flight, waits_ns, alone)


def window_s(limit: Quota) -> int | None:
    """The seconds in which the most units come back, if they are whole."""
    window = Fraction(limit.interval_ns) / limit.limit * limit.terms.burst / NS_PER_SECOND
    return int(window) if window.denominator == 1 else None


def ceil_s(ns: int) -> int:
    return -(-ns // NS_PER_SECOND)


def said_of(policy: Policy, info: RateInfo) -> tuple[dict[str, object], dict[str, object]]:
    """What the two fields must say of a policy, without `pk`."""
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


def run(case: Case, store: ShmStore, clock: Clock, seen: Counter[str]) -> None:
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


@pytest.mark.timeout(300)
def test_fields_mean_what_was_decided_whatever_is_configured() -> None:
    """Under a thousand random configurations every field parses, and says what each enforced policy has answered."""
    seen: Counter[str] = Counter()

    @settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(cases())
    def check(case: Case) -> None:
        clock = Clock()
        config = Config(limit=3, interval="1min", initial_size=64, stripes=1, name=new_segment_name())
        store = ShmStore.open(config, clock=clock)
        try:
            run(case, store, clock, seen)
        finally:
            store.unlink()
            store.close()

    check()
    assert min(seen[kind] for kind in ("denied", "allowed", "several", "one", "w=True", "w=False")) >= 200
