"""The dashboard in a real browser, in front of a real service under load; pictures of it are in build/artefacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest

from shm_store import Quota
from tests.e2e.chromium import CHROMIUM, Page
from tests.e2e.conftest import MakeService
from tests.e2e.service import ROOT, WORKERS, Service, eventually
from tests.e2e.wrk import Wrk
from tests.segments import attached

PICTURES: Final = ROOT / "build" / "artefacts"
TOKEN: Final = "a-token-of-the-tests"  # noqa: S105 - guards a table of a test
OTHER: Final = "a-token-of-nobody"
LIMIT: Final = 1000
CONNECTIONS: Final = 32
# What clients send as keys, at worst.
HOSTILE: Final = "default:<img src=x onerror=document.title='run'>\u202e"
PHONE: Final = {"width": 375, "height": 760, "scale": 2}
DESKTOP: Final = {"width": 1280, "height": 800}
_FITS: Final = "box => box.scrollWidth <= box.clientWidth"
VISIBLE: Final = "!document.querySelector('#page').hidden"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if shutil.which(CHROMIUM) is None:
        pytest.skip("chromium is not installed: install the package chromium to run this test")
    with Page(tmp_path / "profile") as page:
        yield page


@pytest.fixture
def service(make_service: MakeService) -> Iterator[Service]:
    service = make_service(workers=WORKERS, limit=LIMIT, interval="1h", admin_token=TOKEN)
    service.start()
    yield service
    service.stop()


@pytest.mark.alone
def test_dashboard_shows_a_run_as_it_happens(service: Service, page: Page, wrk: Wrk) -> None:
    """The page shows denials while wrk runs, and wrk's figures at its end; all of it fits on a phone."""
    page.look(**DESKTOP, scheme="dark")
    page.open(service.url("/dashboard"))
    page.type_into("#token", TOKEN)
    page.until(VISIBLE)
    load = wrk(service.url("/v1/ping"), connections=CONNECTIONS)
    page.until(f"{_figure('default', 3)} > 100")
    page.until("document.querySelectorAll('#flow path.denied')[0].getAttribute('d').length > 0")
    page.until("Number(document.querySelector('#denied').textContent.replaceAll(',', '')) > 100")
    page.until("/^\\d/.test(document.querySelector('#occupied').textContent)")
    service.await_denials()
    answers = load.stop()
    assert answers.statuses[HTTPStatus.OK] == LIMIT
    # wrk ends with a request in flight on each connection: the service decides it, and wrk does not count it.
    counted = _settled(service)
    denied = answers.statuses[HTTPStatus.TOO_MANY_REQUESTS]
    assert denied <= counted["denied"] <= denied + CONNECTIONS
    page.until(f"{_figure('default', 4)} === {LIMIT} && {_figure('default', 5)} === {counted['denied']}")
    requests = _status(service)["requests"]
    own = _status(service)["policies"]["admin"]["allowed"]
    assert requests["denied"] == counted["denied"]
    assert LIMIT < requests["allowed"] <= LIMIT + own
    # The page asks twice a second, and leaves its own requests out.
    page.until("['allowed', 'denied'].every(id => document.getElementById(id).textContent === '0')")
    page.picture(PICTURES / "dashboard-desktop-dark.png")
    page.look(**PHONE, scheme="light")
    page.until("document.querySelector('#state').textContent === 'Live'")
    assert page.run(f"[document.documentElement, ...document.querySelectorAll('.scroll')].every({_FITS})")
    page.picture(PICTURES / "dashboard-phone-light.png")
    assert page.complaints == []


def test_dashboard_shows_workers_and_sweeper(service: Service, page: Page) -> None:
    """The page lists the pid of every worker that has decided a request, and shows the sweeper at work."""
    workers = service.workers()
    while not workers <= {process["pid"] for process in _status(service)["processes"]}:
        service.take(1)
    page.open(service.url("/dashboard"))
    page.type_into("#token", TOKEN)
    for pid in workers:
        page.until(f"[...document.querySelectorAll('#processes li')].some(item => item.innerText.includes('{pid}'))")
    page.until("document.querySelector('#reclaimed').innerText.includes('at work, pid')")


def test_dashboard_treats_keys_as_text(service: Service, page: Page) -> None:
    """The page shows digests until the user chooses text, and never interprets a key as markup."""
    with attached(service.segment) as store:
        for _ in range(3):
            store.take(HOSTILE, 1, Quota(1, "1h"))
        digest = store.inspect().digest(HOSTILE)
    page.open(service.url("/dashboard"))
    page.type_into("#token", TOKEN)
    page.until(f"document.querySelector('#keys tbody bdi')?.textContent === '#{digest}'")
    assert "onerror" not in page.run("document.documentElement.outerHTML.split('<script>')[0]")
    page.run("document.querySelector('#text').click()")
    shown = HOSTILE.replace("\u202e", "\\u{202e}")
    page.until(f"document.querySelector('#keys tbody bdi').textContent === {json.dumps(shown)}")
    assert page.run("document.images.length === 0 && document.title === 'Limits'")
    assert page.complaints == []


def test_dashboard_says_what_is_wrong(service: Service, page: Page) -> None:
    """The page reports a wrong token, which counts once; after too many it shows the wait, also for the right token."""
    page.open(service.url("/dashboard"))
    page.type_into("#token", OTHER)
    page.until("document.querySelector('#why').innerText.startsWith('That is not the token')")
    assert _status(service)["policies"]["admin-failures"]["allowed"] == 1
    for _ in range(9):
        assert service.get("/admin/status").status == HTTPStatus.UNAUTHORIZED
    page.type_into("#token", TOKEN)
    page.until("/^Too many wrong tokens.*Try again in \\d+ s/.test(document.querySelector('#why').innerText)")
    assert page.run(f"{VISIBLE} === false && sessionStorage.length === 0")


def test_dashboard_keeps_the_token_in_the_tab(service: Service, page: Page) -> None:
    """The token survives a reload, is never in the address, and is deleted when the user leaves."""
    page.open(service.url("/dashboard"))
    page.type_into("#token", TOKEN)
    page.until(VISIBLE)
    page.open(service.url("/dashboard"))
    page.until(VISIBLE)
    assert page.run("location.href") == service.url("/dashboard")
    page.run("document.querySelector('#leave').click()")
    assert page.run(f"{VISIBLE} === false && sessionStorage.length + localStorage.length === 0 && !document.cookie")


def test_dashboard_goes_on_after_a_restart(make_service: MakeService, page: Page) -> None:
    """The page reports that the service does not answer, and is live again by itself after a restart."""
    # A worker may be waiting at a connection that the browser has opened for later.
    service = make_service(workers=WORKERS, admin_token=TOKEN, gunicorn="--graceful-timeout 1")
    service.start()
    page.open(service.url("/dashboard"))
    page.type_into("#token", TOKEN)
    page.until("document.querySelector('#state').textContent === 'Live'")
    service.stop()
    page.until("document.querySelector('#state').textContent.startsWith('The service does not answer.')")
    service.start()
    page.until("document.querySelector('#state').textContent === 'Live'")
    service.stop()


def _figure(policy: str, column: int) -> str:
    """Return an expression for the number in a column of a policy's row."""
    rows = "[...document.querySelectorAll('#policies tbody tr')]"
    text = f"{rows}.find(row => row.cells[0].innerText === '{policy}')?.cells[{column}].textContent ?? ''"
    return f"Number(({text}).replaceAll(',', ''))"


def _settled(service: Service) -> dict[str, Any]:
    """The counts of the policy when all requests are decided."""
    counts: list[dict[str, Any]] = []

    def is_settled() -> bool:
        counts[:] = [_status(service)["policies"]["default"] for _ in range(5)]
        return all(each == counts[0] for each in counts)

    eventually(is_settled, within_s=20, otherwise=lambda: f"{counts}")
    return counts[0]


def _status(service: Service) -> dict[str, Any]:
    response = service.get("/admin/status", {"Authorization": f"Bearer {TOKEN}"})
    assert response.status == HTTPStatus.OK
    status: dict[str, Any] = json.loads(response.body)
    return status
