"""The log of denials: one line for a burst of them, of all processes together, and no key in it unless asked for."""

from __future__ import annotations

import gc
import logging
import weakref

import falcon
import falcon.testing
import pytest

from shm_store import ShmStore, StoreError
from shm_store.core.limiter import Bookkeeping
from shm_store.core.tally import Tally
from shm_store.falcon import RateLimitMiddleware
from shm_store.http.denial_log import BURST_MIN_NS, LINES_MAX, DenialLog
from shm_store.http.planning.rules import Rule
from shm_store.policy import Policy
from shm_store.rate_info import RateInfo
from shm_store.testing import FakeClock
from tests.conftest import OpenStore

LOGGER = "shm_store.falcon"
RULE = Rule(name="p", tally=Tally(), key=str, options_key=str, limit=None, label=None)  # type: ignore[arg-type]


class Hello:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = "hello"


def _client(store: ShmStore, **options: object) -> falcon.testing.TestClient:
    app = falcon.App(middleware=[RateLimitMiddleware(store, **options)])  # type: ignore[arg-type]
    app.add_route("/", Hello())
    return falcon.testing.TestClient(app)


def _denial(wait_s: float = 1.0) -> RateInfo:
    return RateInfo(False, 5, 0, int(wait_s * 1e9), int(wait_s * 1e9))


def _log(store: ShmStore, clock: FakeClock, **options: bool) -> DenialLog:
    return DenialLog(logging.getLogger(LOGGER), store, clock=clock, **options)


def test_burst_is_one_line(open_store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred denials of a client give one line, with the policy, the limit, and a digest instead of the key."""
    caplog.set_level(logging.INFO, LOGGER)
    store = open_store(interval="1h", label_size=32)
    client = _client(store)
    for _ in range(105):
        client.simulate_get("/", remote_addr="127.0.0.1")
    (record,) = caplog.records
    digest = store.inspect().digest("default:client:127.0.0.1")
    assert record.message.startswith(f"burst of denials: policy=default key=#{digest} limit=5 retry_after=3")
    assert "127.0.0.1" not in record.message
    fields = {name: getattr(record, name) for name in ("event", "policy", "key", "limit", "left_out")}
    assert fields == {"event": "denied", "policy": "default", "key": f"#{digest}", "limit": 5, "left_out": 0}


def test_keys_are_told_where_they_are_asked_for(open_store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
    """With log_keys the line contains the key, escaped because a client may have written it."""
    caplog.set_level(logging.INFO, LOGGER)
    client = _client(open_store(interval="1h"), log_keys=True, key=lambda req: req.get_header("X-Key"))
    for _ in range(7):
        client.simulate_get("/", headers={"X-Key": "a\x1b[31m"})
    (record,) = caplog.records
    assert r"key='default:key:a\x1b[31m'" in record.message


def test_several_policies_are_told_apart(open_store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
    """Each policy that denies gives a line; in shadow mode its event is `shadow_denied`."""
    caplog.set_level(logging.INFO, LOGGER)
    policies = [
        Policy(name="one", quota="3/hour", key=["client"]),
        Policy(name="two", quota="2/hour", key=["client"], mode="shadow"),
        Policy(name="three", quota="9/hour", key=["client"]),
    ]
    client = _client(open_store(initial_size=64), policies=policies)
    for _ in range(9):
        client.simulate_get("/", remote_addr="127.0.0.1")
    told = [(record.event, record.policy) for record in caplog.records]  # type: ignore[attr-defined]
    assert sorted(told) == [("denied", "one"), ("shadow_denied", "two")]


def test_burst_of_all_processes_is_one_line(
    open_store: OpenStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first process that meets a burst logs it, and the next burst gives a line again."""
    caplog.set_level(logging.INFO, LOGGER)
    stores = [open_store(label_size=8), open_store(label_size=8)]
    stores[0].take("a")
    logs = [_log(store, clock) for store in stores]
    for log in (*logs, *logs):
        log.record(RULE, "a", _denial())
    assert len(caplog.records) == 1
    clock.advance(BURST_MIN_NS / 1e9)
    for log in (*logs, *logs):
        log.record(RULE, "a", _denial())
    assert len(caplog.records) == 2


def test_burst_lasts_as_long_as_its_denial(
    open_store: OpenStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is denied for an hour is logged once an hour."""
    caplog.set_level(logging.INFO, LOGGER)
    log = _log(open_store(), clock)
    log.record(RULE, "a", _denial(3600))
    clock.advance(3599)
    log.record(RULE, "a", _denial(1))
    assert len(caplog.records) == 1
    clock.advance(1)
    log.record(RULE, "a", _denial(3600))
    assert len(caplog.records) == 2


def test_flood_of_denied_keys_is_bounded(
    open_store: OpenStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten thousand denied clients give LINES_MAX lines, and the next line counts those left out."""
    caplog.set_level(logging.INFO, LOGGER)
    log = _log(open_store(), clock)
    for number in range(10_000):
        log.record(RULE, f"key {number}", _denial())
    assert len(caplog.records) == LINES_MAX
    clock.advance(BURST_MIN_NS / 1e9)
    log.record(RULE, "another", _denial())
    assert caplog.records[-1].left_out == 10_000 - LINES_MAX  # type: ignore[attr-defined]


class _Key(str):
    """A text whose end a test can see."""

    __slots__ = ("__weakref__",)


def test_log_keeps_no_key(open_store: OpenStore, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A client chooses the length of its key, so thousands of them would be as large as clients like."""
    caplog.set_level(logging.INFO, LOGGER)
    log = _log(open_store(), clock)
    key = _Key("header:x-api-key:" + "x" * 60_000)
    kept = weakref.ref(key)
    for _ in range(2):
        log.record(RULE, key, _denial())
    assert len(caplog.records) == 1
    del key
    gc.collect()
    assert kept() is None


def test_failing_store_leaves_the_line(
    open_store: OpenStore, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That others cannot be asked is no reason to keep silent, nor to fail the request."""
    caplog.set_level(logging.INFO, LOGGER)
    store = open_store(label_size=8)
    assert isinstance(store, Bookkeeping)

    def fail(_key: str, _seconds: float) -> bool:
        raise StoreError

    monkeypatch.setattr(store, "begins_burst", fail)
    log = _log(store, clock)
    log.record(RULE, "a", _denial())
    assert len(caplog.records) == 1


def test_closed_store_leaves_the_line(
    open_store: OpenStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What ends while a request is under way does not fail it."""
    caplog.set_level(logging.INFO, LOGGER)
    store = open_store(label_size=8)
    digest = store.digest("a")
    store.close()
    _log(store, clock).record(RULE, "a", _denial())
    assert f"key=#{digest}" in caplog.text


def test_silent_log_costs_no_look(open_store: OpenStore, clock: FakeClock) -> None:
    """With level INFO disabled, the log leaves the table alone."""
    store = open_store(label_size=8)
    store.take("a")
    _log(store, clock).record(RULE, "a", _denial())
    assert store.begins_burst("a", 1.0)
