"""Every public callable refuses an argument that it cannot use: the wrong call raises one error, and changes nothing.

The methods of stores are in `tests/contract/test_arguments.py`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from falcon import App
from falcon.routing import DefaultRouter

from shm_store import (
    Concurrency,
    Config,
    Quota,
    RateLimiter,
    ShmStore,
    asgi,
    falcon,
    gunicorn,
    limited,
    wsgi,
)
from shm_store.core.front import Front
from shm_store.durations import to_ns
from shm_store.http.options import Options
from shm_store.opentelemetry import observe
from shm_store.operate import Digest, doubt, metrics, read_key
from shm_store.operate.dump import dump, load
from shm_store.operate.inspection import Inspection
from shm_store.operate.query import Query
from shm_store.policy import (
    Policy,
    RunningPolicies,
    covering,
    from_file,
    from_tables,
    loads,
    read_toml,
    require_countable,
    require_possible,
)
from shm_store.policy import load as load_policies
from shm_store.prometheus import TableCollector
from shm_store.redis import RedisConfig, RedisStore
from shm_store.supervisor import supervise
from shm_store.table.segment.files import remove
from shm_store.testing import FakeClock
from shm_store.tiers import BookkeepingStore, FallbackStore, LeaseConfig, LeaseStore
from tests.architecture.api import public_modules
from tests.conftest import OpenStore
from tests.segments import new_segment_name
from tests.wrong import (
    DURATION,
    HUGE,
    LIMIT,
    LONG,
    NAN,
    QUOTA,
    SECONDS,
    TEXT,
    TIMEOUT,
    Kind,
    choice,
    integer,
    is_none,
    refused,
)

#: The modules that a user imports.
PUBLIC: Final = tuple(public_modules())
#: Callables that need no case.
LEFT_OUT: Final = frozenset(
    (
        # The library makes these, of arguments that it has checked.
        *("RateInfo", "Stats", "Reservation", "Reservation.commit"),
        *("Quota.algorithm_for", "operate.Doubt", "operate.Selection", "operate.select", "operate.Query.matches"),
        # They write any value.
        *("errors.excerpt", "errors.named", "errors.shown"),
        *("redis.Issue", "redis.Order", "operate.dump.Loaded", "operate.metrics.Metric"),
        *map("operate.{}".format, ("Counts", "Entry", "Process", "Requests", "Used")),
        *(
            "ShmStore",
            "redis.RedisStore",
            "operate.Inspection",
            "policy.PolicyFile",
            "policy.PolicyFile.replace",
        ),
        # The limiter checks the answer of an application's function when it sends it: the request stays denied.
        *("falcon.Answer", "falcon.Denial", "falcon.Outcome", "falcon.Problem"),
        # Frameworks and middleware call these with requests.
        *map("falcon.RateLimitMiddleware.{}".format, dir(falcon.RateLimitMiddleware)),
        *map("falcon.RequestLimiter.{}".format, dir(falcon.RequestLimiter)),
        # A protocol, which other stores implement.
        *("RateLimiter", *map("RateLimiter.{}".format, vars(RateLimiter))),
        # gunicorn calls its hooks.
        *map("gunicorn.{}".format, gunicorn.__all__),
        *("durations.to_ns", "durations.to_text"),
    )
)


class Made(NamedTuple):
    """Objects that the calls need."""

    table: ShmStore
    shared: RedisStore
    inspection: Inspection
    dumped: bytes
    policies: RunningPolicies


class Case(NamedTuple):
    """One argument: how to give it, what it may be, and what an error calls it."""

    call: Callable[[Made, Any], object]
    kind: Kind
    setting: str


def _cases(call: Callable[..., object], said: str = "{}", /, **kinds: Kind) -> dict[str, Case]:
    """Return a case for each argument of a call that is right but for that one; errors may call it by another name."""

    def giving(argument: str) -> Callable[[Made, Any], object]:
        return lambda made, value: call(made, **{argument: value})

    return {argument: Case(giving(argument), kind, said.format(argument)) for argument, kind in kinds.items()}


LISTS: Final = (tuple, set)
NAME: Final = Kind((str,), ("", "a/b", "a\0", "sem.a", ".a", "x" * 201))
MODE: Final = Kind((int,), (0o577, 0o640, 0o602, 0o1000, -HUGE, HUGE))
OWNER: Final = Kind((str, int), ("", "a\0", "x" * 257, -1, 2**32 - 1, HUGE), is_none)
PATH: Final = Kind((str, Path), ("", "/", "a\0", "/no/such/file", LONG))
BURST: Final = Kind((int,), (0, -1, 2**63, HUGE), is_none)
#: The arguments beside a quota that is given as text.
BESIDE: Final = {"algorithm": choice(optional=True), "burst": BURST}
CLOCK: Final = Kind((), (len, object, time.monotonic, lambda: -1, lambda: True, lambda: 1 / 0), callable)
CONFIG: Final = Kind((Config,), others=("name", Config, RedisConfig()))
NEW: Final = Config(name=new_segment_name())
WRITTEN: Final = Kind((str,), ("", "x", "5", "0/s", "-1/s", "5/0s", "1.5/s", "5/s/s", LONG, f"{LONG}/s", f"5/{LONG}"))
TABLES: Final[tuple[Any, ...]] = (
    [{}],
    [{"name": "a"}],
    [{"name": "a", 5: 5}],
    ["a"],
    [{"name": "a", "quota": "5/s"}] * 2,
)
WRITTEN_KEY: Final = Kind((str,), ("#", "#x", "#" + "0" * 15))
FLAG: Final = Kind((bool,))
DIGITS: Final = Kind((str,), ("", "x", "0" * 15, "g" * 16, LONG))
POLICY: Final = Policy(name="all", quota="5/s")
POLICIES: Final = Kind((list, tuple, set), others=(["x"], [POLICY, 5], POLICY))
EXEMPT: Final = Kind((*LISTS, list), (["x"], ["/a*b"], ["//a"]), others=([5], [None]))
KEY: Final = Kind(
    (list, tuple), ([], ["x"], ["header:"], ["client", "client"], ["global", "client"]), others=([5], [None], [int])
)
NAMES: Final = Kind((str,), ("", "a b", "x" * 65, "é"))
#: Of a policy and of a limit of a responder.
POLICY_KINDS: Final = {
    "quota": Kind((str, Quota), WRITTEN.unusable[:3], is_none),
    "algorithm": choice(optional=True),
    "concurrency": Kind((int,), LIMIT.unusable, is_none),
    "key": KEY,
    "absent": choice(),
    "cost": integer(1, 5),
    "mode": choice(),
    "on_error": choice(),
    "refund": Kind((*LISTS, list), (["x"], [99], [600], ["6xx"]), is_none, others=([None], [True])),
}
RESPONDER: Final = Kind(())
INSTANT: Final = integer(0, 2**63 - 1)


def _middleware(call: Callable[[Made, dict[str, Any]], object]) -> dict[str, Case]:
    """Return a case for each option that every middleware has."""

    def given(made: Made, **options: Any) -> object:  # noqa: ANN401 - wrong ones
        return call(made, options)

    return _cases(
        given,
        store=Kind((), others=(ShmStore,)),
        key=Kind(KEY.types, KEY.unusable, lambda value: value is len, others=KEY.others),
        absent=choice(),
        quota=QUOTA,
        cost=integer(1, 5),
        on_error=choice(),
        policies=Kind(POLICIES.types, also=is_none, others=POLICIES.others),
        exempt=EXEMPT,
        exempt_methods=Kind((*LISTS, list), (["x"], [""]), others=([5], [None])),
        clients=Kind((falcon.Clients,), also=is_none, others=(falcon.Clients, "unix")),
        headers=Kind((falcon.Headers,), also=is_none, others=(falcon.Headers, "draft-11")),
        deny=Kind((), (asyncio.sleep,), lambda value: value is None or callable(value)),
        log_keys=FLAG,
    )


def _of_clock(name: str, **kinds: Kind) -> dict[str, dict[str, Case]]:
    """Return the cases of a method of FakeClock, and of the same for coroutines if there is one."""

    def call(_made: Made, **given: Any) -> None:  # noqa: ANN401 - wrong ones
        with FakeClock() as clock:
            getattr(clock, name)(**given)

    def call_async(_made: Made, **given: Any) -> None:  # noqa: ANN401 - wrong ones
        with FakeClock() as clock:
            asyncio.run(getattr(clock, f"{name}_async")(**given))

    cases = {f"testing.FakeClock.{name}": _cases(call, **kinds)}
    return (
        cases | {f"testing.FakeClock.{name}_async": _cases(call_async, **kinds)}
        if hasattr(FakeClock, f"{name}_async")
        else cases
    )


def _in_front(kind: Callable[..., object]) -> dict[str, Case]:
    """Return the cases of a middleware that stands in front of an application."""
    return _middleware(lambda made, options: kind(**{"app": print, "store": made.table} | options)) | _cases(
        lambda made, app: kind(app, made.table), app=Kind((), also=callable)
    )


def _limiter(made: Made, **given: Any) -> falcon.RequestLimiter:  # noqa: ANN401 - wrong ones
    options: dict[str, Any] = {"store": made.table, "framework": falcon.FALCON}
    return falcon.RequestLimiter(**options | given)


def _policy(**given: Any) -> Policy:  # noqa: ANN401 - wrong ones
    return Policy(name="p", quota="5/s", **given)


CASES: Final[dict[str, dict[str, Case]]] = {
    "Quota": _cases(
        lambda _, limit=5, interval="1s", **given: Quota(limit, interval, **{"algorithm": "gcra"} | given),
        limit=LIMIT,
        interval=DURATION,
        burst=BURST,
        algorithm=choice(),
    ),
    "Quota.parse": _cases(lambda _, text: Quota.parse(text), "quota", text=Kind((str,), WRITTEN.unusable[:3]))
    | _cases(lambda _, **given: Quota.parse("5/s", **{"algorithm": "gcra"} | given), **BESIDE),
    "Concurrency": _cases(lambda _, **given: Concurrency(**given), limit=LIMIT),
    "Config": _cases(
        lambda _, **given: Config(**given),
        limit=LIMIT,
        interval=DURATION,
        algorithm=choice(),
        ttl_interval=DURATION,
        min_ttl=SECONDS,
        initial_size=integer(1, 2**26),
        name=NAME,
        stripes=integer(1, 256),
        lock_timeout=DURATION,
        on_full=choice(),
        mode=MODE,
        owner=OWNER,
        label_size=integer(0, 1_024),
    ),
    "redis.RedisConfig": _cases(
        lambda _, **given: RedisConfig(**given),
        limit=integer(1, 2**52 - 1),
        interval=DURATION,
        algorithm=choice(),
        min_ttl=SECONDS,
        prefix=Kind((str,), ("", "a b", "{a}", "x" * 201)),
        timeout=DURATION,
        backoff=DURATION,
        in_flight_ttl=DURATION,
    ),
    "redis.RedisConfig.seconds": _cases(
        lambda _, setting: RedisConfig().seconds(setting), setting=Kind((str,), ("", "limit", "seconds"))
    ),
    "tiers.LeaseConfig": _cases(
        lambda _, **given: LeaseConfig(**{"hosts": 2} | given),
        hosts=integer(1, 2**20),
        share=Kind((int, float), (0, -0.5, 1.5, NAN, float("inf"), HUGE)),
        most=integer(1, 2**32),
        lifetime=DURATION,
    ),
    "ShmStore.open": _cases(
        lambda _, **given: ShmStore.open(**{"config": NEW} | given),
        config=Kind(CONFIG.types, also=is_none, others=CONFIG.others),
        clock=CLOCK,
    ),
    "ShmStore.attach": _cases(lambda _, **given: ShmStore.attach(**{"name": NEW.name} | given), name=NAME, owner=OWNER),
    "redis.RedisStore.open": _cases(
        lambda _, **given: RedisStore.open(**{"url": "redis://127.0.0.1"} | given),
        url=Kind((str,), ("", "x", "localhost:6379", "http://a", "redis://", LONG)),
        config=Kind((RedisConfig,), also=is_none, others=("name", RedisConfig, Config())),
        clock=Kind(CLOCK.types, CLOCK.unusable, lambda value: value is None or callable(value)),
    ),
    "tiers.BookkeepingStore": _cases(
        lambda made, **given: BookkeepingStore(**{"shared": made.shared, "table": made.table} | given),
        shared=Kind((RedisStore,)),
        table=Kind((ShmStore,)),
    ),
    "tiers.FallbackStore": _cases(
        lambda made, **given: FallbackStore(**{"shared": made.shared, "table": made.table, "hosts": 2} | given),
        shared=Kind((RedisStore,)),
        table=Kind((ShmStore,)),
        hosts=integer(1, 2**20),
    ),
    "tiers.LeaseStore": _cases(
        lambda made, **given: LeaseStore(
            **{"shared": made.shared, "table": made.table, "config": LeaseConfig(hosts=2)} | given
        ),
        shared=Kind((RedisStore,)),
        table=Kind((ShmStore,)),
        config=Kind((LeaseConfig,), others=(LeaseConfig, Config())),
        otherwise=Kind((BookkeepingStore,), also=is_none),
        clock=CLOCK,
    ),
    "limited": _cases(
        lambda _, **given: limited(**{"quota": "5/s", "key": "a"} | given),
        quota=Kind((str, Quota), WRITTEN.unusable[:3]),
        key=Kind((str,), (asyncio.sleep,), callable),
        timeout=TIMEOUT,
        cost=integer(1, 5),
        store=Kind((ShmStore, RedisStore, BookkeepingStore), also=is_none, others=(ShmStore,)),
    )
    | _cases(lambda _, **given: limited("5/s", key="a", **{"algorithm": "gcra"} | given), **BESIDE)
    | _cases(lambda _, function: limited("5/s", key="a")(function), function=Kind((), also=lambda value: value is len)),
    "durations.to_ns": _cases(lambda _, value: to_ns("value", value, minimum_ns=1, maximum_ns=10**18), value=DURATION),
    "supervisor.supervise": _cases(
        lambda _, config: supervise(config), config=Kind((Config,), also=is_none, others=CONFIG.others)
    ),
    "gunicorn.configure": _cases(
        lambda _, **given: gunicorn.configure(**{"config": NEW} | given),
        config=Kind((Config,), also=is_none, others=CONFIG.others),
        policies=Kind(PATH.types, also=is_none),
    ),
    "operate.metrics.read": _cases(lambda _, inspection: metrics.read(inspection), inspection=Kind((Inspection,))),
    "prometheus.TableCollector": _cases(
        lambda _, inspection: TableCollector(inspection), inspection=Kind((Inspection,))
    ),
    "opentelemetry.observe": _cases(
        lambda made, **given: observe(**{"inspection": made.inspection} | given),
        inspection=Kind((Inspection,), others=(Inspection,)),
        meter=Kind((), also=is_none),
    ),
    "operate.Inspection.attach": _cases(
        lambda _, **given: Inspection.attach(**{"name": NEW.name} | given), name=NAME, owner=OWNER
    ),
    "operate.Inspection.entry": _cases(lambda made, key: made.inspection.entry(key), key=TEXT),
    "operate.Inspection.digest": _cases(lambda made, key: made.inspection.digest(key), key=TEXT),
    "operate.Inspection.select": _cases(
        lambda made, query: made.inspection.select(query), query=Kind((Query,), others=("limit", Query))
    ),
    "operate.Digest": _cases(lambda _, digits: Digest(digits), "digest", digits=DIGITS),
    "operate.read_key": _cases(
        lambda _, written: read_key(written), "key", written=Kind((str,), ("#", "#x", "#" + "0" * 15))
    ),
    "operate.doubt": _cases(
        lambda made, **given: doubt(**{"inspection": made.inspection, "key": "a"} | given),
        inspection=Kind((Inspection,), others=(Inspection,)),
        key=TEXT,
    ),
    "operate.Query": _cases(
        lambda _, **given: Query(**given),
        policy=TEXT,
        key=Kind((str,), ("#x", "#x*", "#" + "0" * 15)),
        denied=FLAG,
        blocked=FLAG,
        overrides=FLAG,
        sort=choice(),
        limit=integer(0, 2**63 - 1),
        hash=FLAG,
    ),
    "operate.dump.dump": _cases(
        lambda made, **given: dump(**{"name": made.table.config.name, "file": io.BytesIO()} | given),
        name=NAME,
        file=Kind((io.BytesIO,), others=(io.StringIO(), io.BytesIO)),
        owner=OWNER,
    ),
    "operate.dump.load": _cases(
        lambda made, **given: load(given.pop("file", io.BytesIO(made.dumped)), given.pop("name", NEW.name), **given),
        file=Kind((io.BytesIO,), (io.BytesIO(), io.BytesIO(b"x" * 99)), others=(io.StringIO(), io.BytesIO)),
        name=NAME,
        initial_size=Kind((int,), (0, 2**26 + 1, HUGE), is_none),
        stripes=Kind((int,), (0, 257, HUGE), is_none),
        label_size=Kind((int,), (-1, 1_025, HUGE), is_none),
        mode=MODE,
        owner=OWNER,
        drop_excess=FLAG,
    ),
    "policy.load": _cases(lambda _, path: load_policies(path), "policies", path=PATH),
    "policy.read_toml": _cases(lambda _, path: read_toml(path), path=PATH),
    "policy.covering": _cases(
        lambda _, **given: covering(**{"patterns": ["/a"]} | given),
        patterns=Kind((*LISTS, list), (["x"], ["/a*b"], ["//a"])),
        ignore_case=FLAG,
    ),
    "policy.from_file": _cases(lambda _, path: from_file(path), "policies", path=PATH),
    "policy.loads": _cases(lambda _, text: loads(text), "policies", text=Kind((str,), ("x", "[", "\0", "[" * 9_999))),
    "policy.from_tables": _cases(lambda _, tables: from_tables(tables), "policy", tables=Kind((list,), TABLES)),
    **{
        f"policy.{require.__name__}": _cases(
            lambda made, require=require, **given: require(**{"store": made.table, "policies": [POLICY]} | given),
            store=Kind((), others=(ShmStore,)),
            policies=POLICIES,
        )
        for require in (require_countable, require_possible)
    },
    "asgi.RateLimitMiddleware": _in_front(asgi.RateLimitMiddleware),
    "wsgi.RateLimitMiddleware": _in_front(wsgi.RateLimitMiddleware),
    "falcon.RateLimitMiddleware": _middleware(
        lambda made, options: falcon.RateLimitMiddleware(**{"store": made.table} | options)
    )
    | _cases(
        lambda made, router: falcon.RateLimitMiddleware(made.table, router=router),
        router=Kind((), also=is_none, others=(DefaultRouter, App())),
    ),
    "falcon.RequestLimiter": _middleware(lambda made, options: _limiter(made, **options))
    | _cases(_limiter, framework=Kind((type(falcon.FALCON),), others=("falcon",)), further=Kind((), also=callable)),
    "falcon.limit": _cases(
        lambda _, **given: falcon.limit(**({} if "concurrency" in given else {"quota": "5/s"}) | given), **POLICY_KINDS
    )
    | _cases(
        lambda _, name: falcon.limit("5/s", name=name),
        "policy: {}",
        name=Kind(NAMES.types, NAMES.unusable, is_none),
    )
    | _cases(lambda _, burst: falcon.limit("5/s", algorithm="gcra", burst=burst), burst=BURST)
    | _cases(lambda _, decorated: falcon.limit("5/s")(decorated), decorated=RESPONDER),
    "falcon.exempt": _cases(lambda _, responder: falcon.exempt(responder), "decorated", responder=RESPONDER),
    "falcon.Clients": _cases(
        lambda _, **given: falcon.Clients(**given),
        "clients: {}",
        trusted=Kind((*LISTS, list), (["x"], ["10.0.0.1/8"], ["0.0.0.0/0"]), others=([5], [None])),
        hops=Kind((int,), (0, -1, 1_001, HUGE), is_none),
        header=Kind((str,), ("", "a b", "X-Real-Ip")),
        ipv6_prefix=integer(1, 128),
        ipv4_prefix=integer(1, 32),
        unknown=choice(optional=True),
    ),
    "falcon.Clients.key": _cases(
        lambda _, peer="10.0.0.1", forwarded="": falcon.Clients(hops=1).key(peer, forwarded),
        peer=Kind((object, bool)),
        forwarded=Kind((str,), also=is_none),
    ),
    "falcon.Headers": _cases(
        lambda _, **given: falcon.Headers(**given),
        "headers: {}",
        version=choice(optional=True),
        legacy=FLAG,
        partition_key=Kind((str,), ("",), is_none),
        retry_jitter=SECONDS,
    ),
    "policy.Policy": _cases(
        lambda _, **given: Policy(**{"name": "p"} | ({} if "concurrency" in given else {"quota": "5/s"}) | given),
        "policy 'p': {}",
        methods=Kind((*LISTS, list), (["x"], [""])),
        routes=Kind((*LISTS, list), (["x"], ["/*"])),
        paths=Kind((*LISTS, list), (["x"], ["/a*b"], ["//a"])),
        exempt=EXEMPT,
        ignore_case=Kind((bool,), (True,)),
        **POLICY_KINDS,
    )
    | _cases(
        lambda _, burst: Policy(name="p", quota="5/s", algorithm="gcra", burst=burst),
        "policy 'p': {}",
        burst=BURST,
    )
    | _cases(
        lambda _, name: Policy(name=name, quota="5/s"),
        "policy: {}",
        name=NAMES,
    ),
    "policy.Policy of one": _cases(
        lambda _, **given: _policy(**{field: [value] for field, value in given.items()}),
        "policy 'p': {}",
        methods=Kind((str,), ("", "get")),
        routes=Kind((str,), ("", "a")),
        paths=Kind((str,), ("", "a")),
        exempt=Kind((str,), ("", "a")),
        refund=Kind((str, int), ("", "x", 0, 2**70)),
    ),
    "testing.FakeClock": _cases(lambda _, start_ns: FakeClock(start_ns), start_ns=INSTANT),
    **_of_clock("advance", duration=SECONDS),
    **_of_clock("advance_to", instant_ns=INSTANT),
    **_of_clock("set_back", duration=SECONDS),
    **_of_clock("wait_for_sleepers", count=INSTANT, timeout=SECONDS),
    **_of_clock("sleep_until", instant_ns=INSTANT),
    "policy.RunningPolicies": _cases(lambda _, policies: RunningPolicies(policies), policies=POLICIES),
    "policy.RunningPolicies.replace": _cases(
        lambda made, policies: made.policies.replace(policies),
        policies=POLICIES,
    ),
}


@pytest.fixture
def made(open_store: OpenStore) -> Iterator[Made]:
    """A table with one key, a store that connects to nothing, and what is made of them."""
    table, written = open_store(initial_size=64), io.BytesIO()
    table.take("a")
    with RedisStore.open("redis://127.0.0.1:1") as shared:
        dump(table.config.name, written)
        yield Made(table, shared, table.inspect(), written.getvalue(), RunningPolicies([POLICY]))
    remove(NEW.name)


@pytest.mark.parametrize("name", CASES)
def test_argument_that_cannot_be_used_is_one_error(made: Made, name: str) -> None:
    """It names the argument, and is a TypeError if the type is wrong; nothing is made or replaced."""
    for argument, case in CASES[name].items():
        assert (argument, refused(partial(case.call, made), case.kind, case.setting)) == (argument, [])
    assert made.table.stats().occupied == 1
    assert made.policies.current == (POLICY,)
    assert ShmStore.attach(NEW.name) is None


def test_every_argument_of_every_public_callable_has_a_case() -> None:
    """A callable that is new, or gets an argument, is held to the same."""
    arguments = {(name, argument) for name, called in _public() for argument in _arguments(called)}
    covered = {(name, argument) for name, cases in CASES.items() for argument in cases}
    assert {each for each in arguments - covered if each[0] not in LEFT_OUT and each[1] != "self"} == set()


def _arguments(called: Any) -> Iterator[str]:  # noqa: ANN401 - any callable
    for parameter in inspect.signature(called).parameters.values():
        yield from Options.__annotations__ if parameter.kind is parameter.VAR_KEYWORD else (parameter.name,)


def _public() -> Iterator[tuple[str, Any]]:
    """Yield every public callable once, by the first module that exports it."""
    seen = []
    for module in map(importlib.import_module, PUBLIC):
        where = module.__name__.partition(".")[2]
        own = [name for name, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", own):
            called = getattr(module, name)
            path = f"{where}.{name}".lstrip(".")
            if name.startswith("_") or not callable(called) or called in seen:
                continue
            seen.append(called)
            if not isinstance(called, type):
                yield path, called
            elif not issubclass(called, Exception):
                yield path, called
                yield from ((f"{path}.{method}", getattr(called, method)) for method in _methods(called))


def _methods(kind: type) -> Iterator[str]:
    """Yield the methods of a class; of stores those that open one."""
    for name in dir(kind):
        if not name.startswith("_") and inspect.isroutine(getattr(kind, name)):
            opens = isinstance(inspect.getattr_static(kind, name), classmethod)
            if opens or not issubclass(kind, (Front, tuple)):
                yield name
