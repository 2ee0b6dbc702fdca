"""Whatever way a client writes a path: a view that runs was charged, in every framework."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest

from shm_store import ShmStore
from shm_store.policy import Policy
from tests.http import applications
from tests.http.applications import MOUNT, VIEWS, Send, ran
from tests.http.service import CLIENT

LIMIT: Final = 3
REQUESTS: Final = 200


class Case(NamedTuple):
    """An application, and what stands before the paths of requests to it."""

    make: Callable[..., Send]
    how: dict[str, Any]
    before: tuple[str, ...] = ("",)
    # Precedes exempt paths: Falcon's paths include the mount.
    exempt_at: str = ""


CASES: Final = {
    "falcon": Case(applications.falcon_app, {}),
    "falcon, routed": Case(applications.falcon_app, {"routed": True}),
    "falcon, strips": Case(applications.falcon_app, {"strips": True}),
    "falcon, asgi": Case(applications.falcon_asgi_app, {}),
    "falcon, asgi, mounted": Case(applications.falcon_asgi_app, {"root": MOUNT}, (MOUNT, ""), MOUNT),
    "flask": Case(applications.flask_app, {}),
    "flask, lax": Case(applications.flask_app, {"strict": False}),
    "flask, merges no slashes": Case(applications.flask_app, {"merges": False}),
    "flask, mounted": Case(applications.flask_app, {"strict": False, "script": MOUNT}),
    "flask, asgi": Case(applications.flask_asgi_app, {}, (MOUNT, "")),
    "django": Case(applications.django_app, {}),
    "django, asgi": Case(applications.django_asgi_app, {}),
    "django, asgi, mounted": Case(applications.django_asgi_app, {"root": MOUNT}, (MOUNT, "")),
    "django, asgi, forced": Case(applications.django_asgi_app, {"forced": MOUNT}, (MOUNT, "")),
    "starlette": Case(applications.starlette_app, {}),
    "starlette, mounted": Case(applications.starlette_app, {"root": MOUNT}, (MOUNT, "")),
    "starlette, inside": Case(applications.starlette_app, {"mounted": True}, (MOUNT,)),
}
#: Each makes another spelling of a path, or another path.
CHANGES: Final[tuple[Callable[[random.Random, str], str], ...]] = (
    lambda _, path: path.removeprefix("/"),
    lambda _, path: f"/{path}",
    lambda _, path: f"{path}/",
    lambda _, path: f"{path}%2F",
    lambda _, path: f"{path}%0a",
    lambda _, path: f"{path}/.",
    lambda _, path: f"/.{path}",
    lambda _, path: f"/static/..{path}",
    lambda _, path: f"/static/%2e%2e{path}",
    lambda _, path: f"/healthz/..{path}",
    lambda _, path: f"http://h{path}",
    lambda _, path: f"{path};a=b",
    lambda _, path: path.swapcase(),
    lambda rng, path: path.replace("/", rng.choice(("//", "%2f", "/./", "\\"))),
    lambda rng, path: path.replace(
        *rng.choice((("l", "%6c"), ("o", "%6F"), ("l", "%256c"), ("i", "%69"), ("%", "%25")))
    ),
    lambda rng, path: path + rng.choice(("%00", "%20", "%09", "%23a", "%3fa", "%c3%a9", "%e9", "%0d%0a")),
)


def spelled(rng: random.Random, path: str) -> str:
    """Return a path that has been changed at most four times."""
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        path = rng.choice(CHANGES)(rng, path)
    return path


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    ran.clear()
    yield CASES[request.param]
    ran.clear()


def requests(case: Case, *paths: str) -> Iterator[str]:
    """Yield the usual spelling of each path, and then many others."""
    rng = random.Random(7)  # noqa: S311 - no secret
    yield from (case.before[0] + path for path in paths)
    for _ in range(REQUESTS):
        yield spelled(rng, rng.choice(case.before) + rng.choice(paths))


@pytest.mark.parametrize("pattern", ["/login", "/login/*"])
def test_policy_is_charged_for_every_view_that_runs(store: ShmStore, case: Case, pattern: str) -> None:
    """However the path was written, one unit for each; and nothing for another path."""
    send = case.make(store, policies=[Policy(name="p", quota=f"{LIMIT}/hour", paths=[pattern])], **case.how)
    seen = set()
    for path in requests(case, "/login", "/admin"):
        store.reset(f"p:client:{CLIENT}")
        ran.clear()
        send(path)
        _, remaining = store.get(f"p:client:{CLIENT}")
        charged = remaining < LIMIT and store.stats().occupied == 1
        assert charged or ran != ["/login"], path
        seen.add((*ran, charged))
    assert {("/login", True), ("/admin", False)} <= seen


def test_policy_serves_no_more_than_its_limit(store: ShmStore, case: Case) -> None:
    """A client that writes its path in another way each time is served no more often than any other."""
    send = case.make(store, policies=[Policy(name="p", quota=f"{LIMIT}/hour", paths=["/login"])], **case.how)
    for path in requests(case, "/login"):
        send(path)
    assert {*ran} == {"/login"}
    assert len(ran) <= LIMIT


def test_nothing_but_what_is_exempt_escapes(store: ShmStore, case: Case) -> None:
    """No spelling of a path that is limited is taken for an exempt one."""
    exempt = [case.exempt_at + path for path in ("/healthz", "/static/*", "/admin/*")]
    policies = [Policy(name="p", quota="3/hour"), Policy(name="q", quota="3/hour", exempt=exempt)]
    for how in ({"exempt": exempt}, {"policies": policies[:1], "exempt": exempt}, {"policies": policies[1:]}):
        send = case.make(store, **how, **case.how)
        seen = set()
        for path in requests(case, *VIEWS):
            store.garbage_collect()
            before = sum(each.allowed + each.denied for each in store.inspect().policies().values())
            ran.clear()
            send(path)
            charged = sum(each.allowed + each.denied for each in store.inspect().policies().values()) > before
            assert charged or {*ran} <= {"/healthz", "/static/logo.svg"}, path
            seen.add((*ran, charged))
        assert {("/healthz", False), ("/static/logo.svg", False)} <= seen
