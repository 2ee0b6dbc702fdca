"""Policies for real: exact together, charged all or none, free of the dead, and edited while they run."""

from __future__ import annotations

import http.client
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from shm_store import ShmStore
from shm_store.core.algorithms import ALGORITHMS
from tests.e2e import processes
from tests.e2e.conftest import MakeService
from tests.e2e.limited import GUNICORN_CONF, POLICIES
from tests.e2e.service import Service, eventually
from tests.e2e.waiting import ROUTE, WAITING
from tests.e2e.wrk import Wrk

Edit: TypeAlias = Callable[[str], None]

GLOBAL: Final = 900
# The client c1 spends its own first. Then each key is nearly enough for half of the rest, and so are its two clients.
PER_KEY: Final = 360
PER_CLIENT: Final = 190
# Which clients send which API key; one of them sends both.
CLIENTS: Final = {"alpha": ("c1", "c2", "c3"), "beta": ("c1", "c4", "c5")}
SEVERAL: Final = f"""
limit = 1000000
[[policy]]
name = "per-key"
quota = "{PER_KEY}/100d"
key = ["header:X-Api-Key"]
[[policy]]
name = "per-client"
quota = "{PER_CLIENT}/100d"
key = ["header:X-Client"]
ROUTES
[[policy]]
name = "everybody"
quota = "{GLOBAL}/100d"
key = ["global"]
"""


@pytest.fixture
def buckets(segment: str) -> Iterator[Callable[[str], tuple[int, int]]]:
    """The state of a key in the service's table."""
    with ExitStack() as stack:

        def get(key: str) -> tuple[int, int]:
            store = ShmStore.attach(segment)
            assert store is not None
            return stack.enter_context(store).get(key)

        yield get


@pytest.mark.alone
@pytest.mark.parametrize("routes", ["", 'routes = ["/v1/ping"]'], ids=["early", "late"])
def test_policies_are_exact_together(
    make_service: MakeService,
    wrk: Wrk,
    tmp_path: Path,
    buckets: Callable[[str], tuple[int, int]],
    routes: str,
) -> None:
    """Under load the global limit is met exactly, and each bucket misses just the requests that were admitted.

    In the second form some of them are taken before a request is routed and given back when its route denies it.
    """
    config = tmp_path / "service.toml"
    config.write_text(SEVERAL.replace("ROUTES", routes))
    service = make_service(config=config)
    service.start()
    first = Counter(c1=service.drain({"X-Api-Key": "first", "X-Client": "c1"}))
    assert first.total() == PER_CLIENT
    loads = {
        key: wrk(
            service.url("/v1/ping"),
            threads=3,
            connections=18,
            header=("X-Client", *clients),
            fixed=f"X-Api-Key: {key}",
        )
        for key, clients in CLIENTS.items()
    }
    service.await_denials("everybody:global")
    by_key, by_client = Counter(first=PER_CLIENT), first
    for key, load in loads.items():
        answers = load.stop()
        assert answers.statuses.keys() <= {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
        assert not answers.errors.total(), answers
        for client, statuses in answers.by_key.items():
            by_client[client] += statuses[HTTPStatus.OK]
            by_key[key] += statuses[HTTPStatus.OK]
    assert by_key.total() == by_client.total() == GLOBAL, (by_key, by_client)
    assert max(by_client.values()) <= PER_CLIENT
    for key, admitted in by_key.items():
        assert buckets(f"per-key:header:x-api-key:{key}") == (PER_KEY, PER_KEY - admitted)
    for client, admitted in by_client.items():
        assert buckets(f"per-client:header:x-client:{client}") == (PER_CLIENT, PER_CLIENT - admitted)
    assert buckets("everybody:global") == (GLOBAL, 0)
    assert buckets("default:client:127.0.0.1") == (1_000_000, 1_000_000 - GLOBAL)
    service.stop()


def test_requests_in_flight_of_a_killed_worker_are_free_at_once(make_service: MakeService, tmp_path: Path) -> None:
    """SIGKILL to a worker with five or more requests in flight: as many are admitted by the other, and not one more."""
    config = tmp_path / "service.toml"
    config.write_text(
        f'[[policy]]\nname = "in-flight"\nconcurrency = 10\nkey = ["global"]\nroutes = ["{ROUTE}"]\n', "utf-8"
    )
    service = make_service(
        config=config, workers=2, arguments=("tests.e2e.waiting:app()", "--worker-class=gthread", "--threads=16")
    )
    service.start()
    with ExitStack() as connections:
        for _ in range(10):
            _ask(service, connections)
        eventually(lambda: _waiting(tmp_path).total() == 10, within_s=20, otherwise=lambda: service.log)
        assert service.get(ROUTE).status == HTTPStatus.TOO_MANY_REQUESTS

        ((pid, freed),) = _waiting(tmp_path).most_common(1)
        assert freed >= 5
        processes.kill_and_wait(pid, pid)
        for _ in range(freed):
            _ask(service, connections)
        eventually(lambda: _waiting(tmp_path).total() == 10 + freed, within_s=20, otherwise=lambda: service.log)
        assert service.get(ROUTE).status == HTTPStatus.TOO_MANY_REQUESTS
    # Workers that wait for their requests would take gunicorn's whole grace.
    processes.end(service.workers())
    service.stop()


def _ask(service: Service, connections: ExitStack) -> None:
    connection = connections.enter_context(closing(http.client.HTTPConnection(service.address)))
    connection.request("GET", ROUTE)


def _waiting(directory: Path) -> Counter[int]:
    """How many requests each worker has had in flight."""
    return Counter(int(path.name.removeprefix(WAITING).partition("-")[0]) for path in directory.glob(f"{WAITING}*"))


@pytest.fixture(params=["", "--preload"], ids=["plain", "preload"])
def edited(
    request: pytest.FixtureRequest, make_service: MakeService, tmp_path: Path
) -> tuple[Service, Callable[[str], None]]:
    """A service with a policy of 10 units for /v1/ping, and a function that edits its file and has gunicorn reload."""
    config = tmp_path / "service.toml"
    config.write_text(_ping("10/100d"))
    service = make_service(config=config, gunicorn=request.param)
    service.start()
    return service, _editor(service, config)


def _editor(service: Service, file: Path) -> Edit:
    def edit(text: str) -> None:
        before = service.workers()
        file.write_text(text)
        service.signal(signal.SIGHUP)
        service.await_workers(*before)

    return edit


def _ping(quota: str, more: str = "") -> str:
    return f'[[policy]]\nname = "ping"\nquota = "{quota}"\nroutes = ["/v1/ping"]\n{more}\n'


def test_reload_raises_and_lowers_a_limit(edited: tuple[Service, Edit]) -> None:
    """An edited limit holds for all workers after HUP, less what was spent before."""
    service, edit = edited
    assert service.take(4) == 4
    edit(_ping("20/100d"))
    assert service.take(6) == 6
    edit(_ping("12/100d"))
    assert service.drain() == 2
    edit(_ping("5/100d"))
    first = service.get("/v1/ping")
    assert (first.status, first.headers["X-RateLimit-Limit"]) == (HTTPStatus.TOO_MANY_REQUESTS, "5")
    service.stop()


def test_reload_changes_the_limit_of_the_settings(edited: tuple[Service, Edit]) -> None:
    """The policy that the settings describe follows the file, too, less what was spent; preloaded or not."""
    service, edit = edited
    assert service.take(4) == 4
    edit('limit = 6\ninterval = "100d"\n')
    assert service.drain() == 2
    service.stop()


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "token-bucket"])
def test_reload_changes_the_algorithm(edited: tuple[Service, Edit], algorithm: str) -> None:
    """Units spent under one algorithm stay spent under another, there and back."""
    service, edit = edited
    assert service.take(4) == 4
    edit(_ping("10/100d", f'algorithm = "{algorithm}"'))
    assert service.take(3) == 3
    edit(_ping("10/100d"))
    assert service.drain() == 3
    service.stop()


def test_reload_adds_removes_and_brings_back_a_policy(edited: tuple[Service, Edit]) -> None:
    """A policy that was gone for a while still knows what was spent."""
    service, edit = edited
    assert service.take(4) == 4
    edit(_ping("10/100d").replace("ping", "other", 1))
    assert service.take(2) == 2
    edit(_ping("10/100d"))
    assert service.drain() == 6
    service.stop()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_ping("10/100d", 'methods = ["get"]'), "policy 'ping': methods is 'get'"),
        ("limit = 'many'\n" + _ping("99/100d"), "limit is 'many'"),
        ("min_ttl = '-1s'\n" + _ping("99/100d"), "min_ttl is '-1s'"),
        ("worker_class = 'nonsense'\n" + _ping("99/100d"), "worker_class is 'nonsense'"),
        ("[[policy]\n", "this is not TOML"),
    ],
    ids=["policy", "type", "setting", "worker_class", "toml"],
)
def test_reload_of_a_bad_file_keeps_what_runs(edited: tuple[Service, Edit], text: str, reason: str) -> None:
    """The log says why, the count goes on, and a worker that starts later does not read the file either."""
    service, edit = edited
    assert service.take(4) == 4
    edit(text)
    assert service.log.count(reason) == 1
    assert service.take(2) == 2
    before = service.workers()
    processes.end({min(before)})
    service.await_workers(min(before))
    assert service.drain() == 4
    edit(_ping("11/100d"))
    assert service.drain() == 1
    service.stop()


def test_worker_of_an_edited_file_serves_what_its_master_read(edited: tuple[Service, Edit], tmp_path: Path) -> None:
    """Nothing of an edit holds before HUP, not even for a worker that starts after it."""
    service, _ = edited
    (tmp_path / "service.toml").write_text(_ping("1/100d"))
    before = service.workers()
    processes.end(before)
    service.await_workers(*before)
    assert service.drain() == 10
    service.stop()


@pytest.fixture(params=["", "--preload"], ids=["plain", "preload"])
def library(request: pytest.FixtureRequest, make_service: MakeService, tmp_path: Path) -> Service:
    """An application with a gunicorn.conf.py of its own; not yet started."""
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text(GUNICORN_CONF)
    arguments = ("--config", str(conf), "tests.e2e.limited:app()")
    # The table is the library's: without labels, as its own defaults have it.
    return make_service(arguments=arguments, gunicorn=request.param, label_size=0)


def test_hooks_reload_the_file_for_all_workers(library: Service, tmp_path: Path) -> None:
    """With `configure(policies=...)` HUP applies a good edit and refuses a bad one, and nothing else reads the file."""
    file = tmp_path / POLICIES
    file.write_text(_ping("10/100d"))
    library.start()
    edit = _editor(library, file)
    assert library.take(4) == 4
    edit(_ping("20/100d"))
    assert library.take(6) == 6
    edit(_ping("fast"))
    assert "policy 'ping': quota is 'fast'" in library.log
    before = library.workers()
    processes.end({min(before)})
    library.await_workers(min(before))
    assert library.drain() == 10
    edit(_ping("21/100d"))
    assert library.drain() == 1
    library.stop()


def test_hooks_refuse_to_start_with_a_bad_file(library: Service, tmp_path: Path) -> None:
    """The start ends with one line that names the file, the policy, the field and the value."""
    (tmp_path / POLICIES).write_text(_ping("fast"))
    refused = library.refused()
    assert refused.returncode != 0
    (line,) = refused.stdout.splitlines()
    for part in (POLICIES, "policy 'ping': quota is 'fast'"):
        assert part in line


def test_service_serves_the_shipped_policies(make_service: MakeService) -> None:
    """Without another file the service reads that of the checkout, and logs its policies."""
    service = make_service()
    service.start()
    assert "burst, create, writes (shadow), in-flight" in service.log
    assert len(service.workers()) == service.size
    service.stop()
