"""The answers that replace the application's: their text, their form, and that requests never mix them up."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import unquote, urljoin, urlsplit

import falcon
import falcon.testing
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm_store import Quota, ShmStore, StoreClosedError
from shm_store.falcon import Answer, Denial, Headers, RateLimitMiddleware
from shm_store.http.responses.answers import quota_exceeded, temporary_reduced_capacity
from shm_store.http.responses.negotiation import form
from shm_store.policy import Policy
from shm_store.testing import FakeClock
from tests.http.failing_store import FailingStore
from tests.http.service import CLIENT, Routed, Service
from tests.ids import shown

Serve = Callable[..., Service]
Route = Callable[..., Routed]

BROWSER: Final = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
CONTENT_TYPES: Final = {
    "problem": "application/problem+json",
    "html": "text/html; charset=utf-8",
    "text": "text/plain; charset=utf-8",
}
FORMS: Final = [("*/*", "problem"), (BROWSER, "html"), ("text/plain", "text")]


class Page(HTMLParser):
    """Reads the texts of a page, by the elements they are in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts[self._inside] = data


def denied(service: Service, **how: Any) -> falcon.testing.Result:  # noqa: ANN401 - as `ask` takes it
    """The answer to the fourth request, of three that are allowed."""
    for _ in range(3):
        assert service.ask(**how).status_code == 200
    return service.ask(**how)


def accepting(accept: str | None) -> dict[str, str]:
    return {} if accept is None else {"Accept": accept}


def test_problem_says_what_happened_to_which_request(store: ShmStore, serve: Serve) -> None:
    """A denial's document has the registered type, the status, the policy, the wait and the path, and nothing else."""
    result = denied(serve(RateLimitMiddleware(store)), path="/v1/ping?secret=1")
    assert result.json == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "violated-policies": ["default"],
        "detail": "Too many requests for the policy default: try again in 60 seconds.",
        "instance": "/v1/ping",
    }


def test_problem_names_every_violated_policy(store: ShmStore, route: Route) -> None:
    """Of several policies those that denied are named, in their order, and the wait is the longest."""
    policies = [Policy(name=name, quota=f"1/{every}") for name, every in (("a", "1s"), ("b", "90s"))]
    app = route(RateLimitMiddleware(store, policies=[*policies, Policy(name="free", quota="9/s")]))
    app.ask()
    problem = app.ask().json
    assert problem["violated-policies"] == ["a", "b"]
    assert problem["detail"] == "Too many requests for the policy a and b: try again in 90 seconds."


def test_problem_of_a_failing_store_blames_no_policy(serve: Serve) -> None:
    """The answer to a failing store names no violated policy, and reveals nothing about the failure."""
    service = serve(RateLimitMiddleware(FailingStore(StoreClosedError("secret")), on_error="deny"))
    assert service.ask().json == {
        "type": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "title": "Request cannot be satisfied due to temporary server capacity constraints",
        "status": 503,
        "detail": "Requests cannot be counted now: try again in 5 seconds.",
        "instance": "/v1/ping",
    }


@pytest.mark.parametrize(("seconds", "text"), [(1, "in 1 second."), (2, "in 2 seconds."), (3_600, "in 3600 seconds.")])
@pytest.mark.parametrize("kind", ["problem", "text"])
def test_wait_is_said_in_seconds(seconds: int, text: str, kind: Any) -> None:  # noqa: ANN401 - one of the forms
    """The detail contains the seconds of Retry-After; one second has no plural."""
    assert text in quota_exceeded(kind, ["p"], seconds).at("/").decode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"),
        (2, "2 seconds"),
        (120, "120 seconds"),
        (121, "3 minutes"),
        (3_600, "60 minutes"),
        (7_200, "120 minutes"),
        (7_201, "3 hours"),
        (432_000, "120 hours"),
        (432_001, "6 days"),
        (100 * 365 * 86_400, "36500 days"),
    ],
)
def test_wait_on_a_page_is_said_as_people_say_it(seconds: int, text: str) -> None:
    """A page says the wait in a unit that suits it, rounded up: never earlier than it ends."""
    page = Page(quota_exceeded("html", ["p"], seconds).at("/").decode())
    assert page.texts["p"] == f"Please try again in {text}."


@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("/v1/ping", "/v1/ping"),
        ("/", "/"),
        ("/a;b=1,c:d@e!$&'()*+~-._", "/a;b=1,c:d@e!$&'()*+~-._"),
        ("/a%20b", "/a%20b"),
        ("/a%22b", "/a%22b"),
        ("/%22%2C%22status%22%3A200%2C%22", "/%22,%22status%22:200,%22"),
        ("/a%5Cb", "/a%5Cb"),
        ("/%5Cevil.example/", "/%5Cevil.example/"),
        ("/na%C3%AFve", "/na%C3%AFve"),
        ("/%E2%82%AC", "/%E2%82%AC"),
        ("/a%00%0A%7F", "/a%00%0A%7F"),
        ("/%3Cscript%3E", "/%3Cscript%3E"),
        ("/a%3Fb%23c", "/a%3Fb%23c"),
        ("/100%25", "/100%25"),
        ("/%2541", "/%2541"),
        ("//evil.example/", "/%2Fevil.example/"),
        ("/%2Fevil.example/", "/%2Fevil.example/"),
        ("///evil.example/", "/%2F/evil.example/"),
        ("//", "/%2F"),
    ],
)
def test_instance_is_the_path_as_a_reference(store: ShmStore, serve: Serve, path: str, instance: str) -> None:
    """For any path of a request, `instance` is a reference to that path on the same host."""
    service = serve(RateLimitMiddleware(store, quota=Quota(1, "1min")))
    service.ask()
    result = service.ask(path)
    assert (result.status_code, result.json["status"], result.json["instance"]) == (429, 429, instance)
    assert urlsplit(urljoin("https://api.example/x", instance)).netloc == "api.example"


@pytest.mark.parametrize(
    ("path", "instance"),
    [("evil:x", "/evil:x"), ("javascript:alert(1)", "/javascript:alert(1)"), ("*", "/*"), ("", "/")],
)
def test_instance_names_no_scheme_whatever_the_server_takes_for_a_path(path: str, instance: str) -> None:
    """A request line without a slash, `GET a:b HTTP/1.1`, gives a reference to a path all the same."""
    assert json.loads(quota_exceeded("problem", ["p"], 1).at(path))["instance"] == instance


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters() | st.sampled_from('/\\:@%?#"<>.\ud800\udfff'), max_size=20))
@example("/evil.example")
@example("\udcff\udcfe")
@example("\\evil.example")
def test_instance_names_no_host_whatever_the_path(rest: str) -> None:
    """The document stays one, in ASCII, with a path of RFC 3986 that reads back as the one asked for."""
    path = f"/{rest}"
    for body in (quota_exceeded("problem", ["p"], 1), temporary_reduced_capacity("problem")):
        document = body.at(path)
        assert document.isascii()
        instance = json.loads(document)["instance"]
        assert re.fullmatch(r"/(?!/)([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*", instance)
        assert urlsplit(urljoin("https://api.example/x", instance))[:2] == ("https", "api.example")
        assert unquote(instance) == re.sub("[\ud800-\udfff]", "?", path)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "problem"),
        ("", "problem"),
        ("*/*", "problem"),
        ("application/*", "problem"),
        ("application/json", "problem"),
        ("application/problem+json", "problem"),
        ("application/json, text/plain, */*", "problem"),
        ("image/png", "problem"),
        (BROWSER, "html"),
        ("text/html", "html"),
        ("TEXT/HTML", "html"),
        ("text/html; charset=utf-8", "html"),
        (" text/html\t;\tq=0.4 , text/plain ; q=0.3", "html"),
        ("text/*", "html"),
        ("text/plain", "text"),
        ("text/plain, text/html;q=0.9", "text"),
        ("text/*, text/html;q=0", "text"),
        ("*/*;q=0.1, text/plain", "text"),
        ("application/json;q=0.5, text/html;q=0.6", "html"),
        ("application/json;q=0.5, text/html;q=0.5", "problem"),
        ("text/html;q=0.5, */*", "problem"),
        ("text/html;Q=0.5, application/json;q=0.4", "html"),
        # Nothing is acceptable: told all the same, as a program would be.
        ("*/*;q=0", "problem"),
        ("text/html;q=0", "problem"),
        ("text/html;q=0, text/plain;q=0.001", "text"),
        ("application/*;q=0, text/html;q=0.001", "html"),
        # What cannot be read says nothing.
        ("text/html;q=2", "problem"),
        ("text/html;q=-1", "problem"),
        ("text/html;q=nan, text/plain;q=0.1", "text"),
        ("text/html;q=inf", "problem"),
        ("text/html;q=", "problem"),
        ("text/html;q=high", "problem"),
        (",,;,;q=,/,=;", "problem"),
        (",,text/plain,,", "text"),
        ("text", "problem"),
        ("\xff\xfe", "problem"),
        ("text/html\x00", "problem"),
        # Longer than anybody's preferences.
        ("text/html," * 1_000 + "text/html", "problem"),
        ("text/html;a=" + "x" * 10_240, "problem"),
    ],
    ids=lambda value: None if value is None else value[:40],
)
def test_answer_has_the_form_that_accept_prefers(
    store: ShmStore, serve: Serve, accept: str | None, expected: str
) -> None:
    """A browser gets a page, a client that prefers plain text a line, and one without a preference a document."""
    result = denied(serve(RateLimitMiddleware(store)), headers=accepting(accept))
    assert (result.status_code, result.headers["content-type"]) == (429, CONTENT_TYPES[expected])
    assert (result.headers["cache-control"], result.headers["retry-after"]) == ("no-store", "60")
    service = serve(RateLimitMiddleware(FailingStore(StoreClosedError("s")), on_error="deny"))
    result = service.ask(headers=accepting(accept))
    assert (result.status_code, result.headers["content-type"]) == (503, CONTENT_TYPES[expected])
    assert (result.headers["cache-control"], result.headers["retry-after"]) == ("no-store", "5")


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(["text/html", "text/*", "*/*", ";", "q=", "0.5", "1", ",", " ", "nan", "\xa0", "=", "é"]))
)
def test_any_accept_has_a_form(pieces: list[str]) -> None:
    """No field, however malformed, keeps a denial from being answered."""
    assert form("".join(pieces)) in CONTENT_TYPES


def test_page_is_readable(store: ShmStore, serve: Serve) -> None:
    """A browser shows what happened and when to try again, and nothing that the client has sent."""
    service = serve(RateLimitMiddleware(store))
    result = denied(service, path="/v1/ping", headers=accepting(BROWSER))
    page = Page(result.text)
    assert page.texts["title"] == page.texts["h1"] == "Too many requests"
    assert page.texts["p"] == "Please try again in 60 seconds."
    assert page.texts["small"] == "HTTP 429"
    assert {("lang", "en"), ("charset", "utf-8"), ("content", "noindex")} <= set(page.attributes)
    attacked = service.ask("/%3Cscript%3Ealert(1)%3C/script%3E", headers=accepting(BROWSER))
    assert attacked.text == result.text


def test_page_of_a_failing_store_is_readable(serve: Serve) -> None:
    """The same for a store that fails."""
    service = serve(RateLimitMiddleware(FailingStore(StoreClosedError("s")), on_error="deny"))
    page = Page(service.ask(headers=accepting(BROWSER)).text)
    assert page.texts["title"] == page.texts["h1"] == "Temporarily unavailable"
    assert (page.texts["p"], page.texts["small"]) == ("Please try again in 5 seconds.", "HTTP 503")


def test_text_is_one_line(store: ShmStore, serve: Serve) -> None:
    """A client that prefers plain text gets the detail of the document."""
    result = denied(serve(RateLimitMiddleware(store)), headers=accepting("text/plain"))
    assert result.text == "Too many requests for the policy default: try again in 60 seconds.\n"
    service = serve(RateLimitMiddleware(FailingStore(StoreClosedError("s")), on_error="deny"))
    assert service.ask(headers=accepting("text/plain")).text == (
        "Requests cannot be counted now: try again in 5 seconds.\n"
    )


@pytest.mark.parametrize(("accept", "kind"), FORMS)
@pytest.mark.parametrize("fails", [False, True])
def test_head_has_the_fields_and_no_body(store: ShmStore, serve: Serve, accept: str, kind: str, *, fails: bool) -> None:
    """HEAD is answered with the fields of GET, the length of its body included."""
    failing = RateLimitMiddleware(FailingStore(StoreClosedError("s")), on_error="deny")
    service = serve(failing if fails else RateLimitMiddleware(store))
    for _ in range(3):
        service.ask()
    head, get = (service.ask(method=method, headers=accepting(accept)) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (503 if fails else 429, b"")
    assert dict(head.headers) == dict(get.headers)
    assert head.headers["content-type"] == CONTENT_TYPES[kind]
    assert head.headers["content-length"] == str(len(get.content)) != "0"


TEAPOT: Final = Answer(b"<busy/>", "application/xml", 418, {"x-reason": "busy"})


def test_deny_writes_the_answer(store: ShmStore, serve: Serve) -> None:
    """The application's body, type, status and fields are sent, with the limiter's fields, to HEAD without the body."""
    service = serve(RateLimitMiddleware(store, deny=lambda _: TEAPOT, headers=Headers(legacy=True)))
    result = denied(service, headers=accepting(BROWSER))
    assert (result.status_code, result.content) == (418, b"<busy/>")
    expected = {
        "content-type": "application/xml",
        "content-length": "7",
        "x-reason": "busy",
        "ratelimit-policy": '"default";q=3;w=60',
        "ratelimit": '"default";r=0;t=60',
        "x-ratelimit-limit": "3",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "60",
        "retry-after": "60",
        "cache-control": "no-store",
    }
    assert dict(result.headers) == expected
    head = service.ask(method="HEAD")
    assert (head.status_code, head.content, dict(head.headers)) == (418, b"", expected)
    assert service.visits.count == 3


def test_deny_cannot_take_the_limiter_back(store: ShmStore, serve: Serve) -> None:
    """Fields that the limiter sends are its own, whatever the application's answer says."""
    headers = {"retry-after": "0", "cache-control": "public", "ratelimit": "none", "content-type": "text/css"}
    service = serve(RateLimitMiddleware(store, deny=lambda _: Answer(b"", "text/plain", headers=headers)))
    result = denied(service)
    assert (result.status_code, result.headers["retry-after"], result.headers["cache-control"]) == (
        429,
        "60",
        "no-store",
    )
    assert (result.headers["ratelimit"], result.headers["content-type"]) == ('"default";r=0;t=60', "text/plain")


def test_deny_is_told_of_the_denial(store: ShmStore, route: Route, clock: FakeClock) -> None:
    """It gets the request, the tightest answer, every policy that denied, and the wait that the client is told."""
    denials: list[Denial] = []

    def deny(denial: Denial) -> Answer:
        denials.append(denial)
        return TEAPOT

    policies = [Policy(name=name, quota=f"1/{every}") for name, every in (("a", "1s"), ("b", "90s"))]
    policies.append(Policy(name="late", quota="9/min", routes=["/links"]))
    app = route(RateLimitMiddleware(store, policies=policies, deny=deny, headers=Headers(retry_jitter=600)))
    app.ask()
    clock.advance(0.25)
    answers = [app.ask() for _ in range(2)]
    assert [answer.status_code for answer in answers] == [418, 418]
    assert [str(denial.retry_after) for denial in denials] == [answer.headers["retry-after"] for answer in answers]
    for denial in denials:
        assert isinstance(denial.request, falcon.Request)
        assert (denial.request.path, denial.violated) == ("/links", ("a", "b"))
        assert (denial.info.allowed, denial.info.limit, denial.info.retry_after_ns) == (False, 1, 89_750_000_000)
    assert len(denials) == 2


def test_deny_is_not_asked_about_failures(serve: Serve) -> None:
    """A store that fails is no denial."""
    middleware = RateLimitMiddleware(FailingStore(StoreClosedError("s")), on_error="deny", deny=lambda _: TEAPOT)
    assert serve(middleware).ask().status_code == 503


NONSENSE: Final[list[Any]] = [
    None,
    "busy",
    (b"busy", "text/plain"),
    Answer("busy", "text/plain"),  # type: ignore[arg-type]
    Answer(None, "text/plain"),  # type: ignore[arg-type]
    Answer(b"", None),  # type: ignore[arg-type]
    Answer(b"", "text/plain\r\nset-cookie: a=b"),
    Answer(b"", "text/é"),
    Answer(b"", "text/plain", 99),
    Answer(b"", "text/plain", 100),
    Answer(b"", "text/plain", 600),
    Answer(b"", "text/plain", True),
    Answer(b"", "text/plain", "429"),  # type: ignore[arg-type]
    Answer(b"", "text/plain", 204),
    Answer(b"", "text/plain", 205),
    Answer(b"", "text/plain", 304),
    Answer(b"", "text/plain", headers={"content-length": "0"}),
    Answer(b"", "text/plain", headers={"transfer-encoding": "chunked"}),
    Answer(b"", "text/plain", headers={"connection": "close"}),
    Answer(b"", "text/plain", headers={"X-Reason": "busy"}),
    Answer(b"", "text/plain", headers={"x-réason": "busy"}),
    Answer(b"", "text/plain", headers={5: "busy"}),  # type: ignore[dict-item]
    Answer(b"", "text/plain", headers={"x-reason": 5}),  # type: ignore[dict-item]
    Answer(b"", "text/plain", headers={"x-reason": "busy\r\nset-cookie: a=b"}),
    Answer(b"", "text/plain", headers={"x-reason": "büsy"}),
    Answer(b"", "text/plain", headers={"x reason": "busy"}),
    Answer(b"", "text/plain", headers={"x-reason:": "busy"}),
    Answer(b"", "text/plain", headers={"x\r\ny": "busy"}),
    Answer(b"", "text/plain", headers=[("x-reason", "busy")]),  # type: ignore[arg-type]
    Answer(b"", "text/plain", headers=None),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=shown)
def test_deny_that_returns_nonsense_is_replaced(
    store: ShmStore,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    nonsense: Any,  # noqa: ANN401 - anything
) -> None:
    """The limiter counts an answer that cannot be sent, logs it once, and sends its own instead."""
    middleware = RateLimitMiddleware(store, deny=lambda _: nonsense)
    service, standard = serve(middleware), serve(RateLimitMiddleware(store))
    with caplog.at_level(logging.WARNING, logger="shm_store"):
        result = denied(service)
        service.ask()
    usual = standard.ask()
    assert (result.status_code, result.content, dict(result.headers)) == (429, usual.content, dict(usual.headers))
    assert middleware.errors == {"ConfigurationError": 2}
    (record,) = [record for record in caplog.records if record.name.startswith("shm_store")]
    assert (record.name, record.levelno) == ("shm_store.falcon", logging.ERROR)
    assert "request denied with the limiter's own answer" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_deny_that_raises_is_left_to_the_application(store: ShmStore, serve: Serve) -> None:
    """The application handles an error of its `deny` as one of a responder, and the request is not served."""

    def deny(denial: Denial) -> Answer:
        raise falcon.HTTPForbidden(title=f"no more of {denial.request.path}")

    service = serve(RateLimitMiddleware(store, deny=deny))
    assert denied(service).status_code == 403
    assert service.visits.count == 3


def answered(result: falcon.testing.Result) -> tuple[int, bytes, dict[str, str]]:
    return result.status_code, result.content, dict(result.headers)


@pytest.mark.parametrize("legacy", [False, True])
def test_answers_given_again_are_nobody_elses(store: ShmStore, serve: Serve, clock: FakeClock, *, legacy: bool) -> None:
    """For any mix of paths, forms, clients, limits and waits, each denial equals that of a new limiter."""
    rng = random.Random(5)  # noqa: S311 - no secret
    headers = Headers(legacy=legacy)
    middleware = RateLimitMiddleware(store, cost=2, headers=headers)
    service = serve(middleware)
    addresses = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5"]
    # When the first client is denied, one unit is left; when the second is, none. The last client is denied because its
    # limit is below the cost, and its wait is unknown.
    store.take(f"default:client:{addresses[1]}", 1)
    for address, limit in zip(addresses[2:], (3, 9, 1), strict=True):
        store.set(f"default:client:{address}", limit, "70s")
    paths = ["/v1/ping", "/healthz", "/v1/ping?a", "//evil", "/%22", "/a b"]
    accepts = [None, "*/*", BROWSER, "text/plain", "application/json", "text/html;q=0"]
    wanted: set[tuple[int, bytes, str]] = set()
    for _ in range(400):
        how: dict[str, Any] = {"address": rng.choice(addresses), "headers": accepting(rng.choice(accepts))}
        path = rng.choice(paths)
        result = answered(service.ask(path, **how))
        if result[0] == 429:
            assert result == answered(serve(RateLimitMiddleware(store, cost=2, headers=headers)).ask(path, **how))
            wanted.add((result[0], result[1], result[2]["ratelimit"]))
        clock.advance(rng.choice([0, 0, 0.2, 3]))
    assert len(wanted) > 50


def test_answers_given_again_are_as_they_were_made(store: ShmStore, serve: Serve) -> None:
    """What another middleware adds to one denial is not in the next one."""

    class Adding:
        requests = 0

        def process_response(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
            self.requests += 1
            resp.set_header(f"X-Trace-{self.requests}", req.path)

        async def process_response_async(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
            self.process_response(req, resp)

    service = serve(Adding(), RateLimitMiddleware(store))
    denied(service)
    result = service.ask()
    assert [name for name in result.headers if name.startswith("x-trace")] == ["x-trace-5"]


def test_answers_kept_are_bounded(store: ShmStore, serve: Serve) -> None:
    """A client that makes up paths or preferences fills no memory, and is answered about each of its paths."""
    middleware = RateLimitMiddleware(store, quota=Quota(1, "1min"))
    service = serve(middleware)
    answers = middleware._limiter._running.plan.early.answers
    service.ask()
    for number in range(1_100):
        assert service.ask(f"/made/up/{number}").json["instance"] == f"/made/up/{number}"
        assert len(answers) >= 1
    assert len(answers) < 1_000
    before = dict(answers)
    for long in ("/" + "x" * 600, "/" + "x" * 300):
        assert service.ask(long, headers={"Accept": "y" * 300}).json["instance"] == long
    assert answers == before


def test_answers_name_the_policy_they_are_of(store: ShmStore, route: Route) -> None:
    """Two limiters, or two policies, with the same quota do not answer for each other."""
    for name in ("a", "b"):
        app = route(RateLimitMiddleware(store, policies=[Policy(name=name, quota="1/min")]))
        app.ask()
        assert app.ask().json["violated-policies"] == app.ask().json["violated-policies"] == [name]
    app = route(RateLimitMiddleware(store, quota=Quota(1, "1min")))
    app.ask()
    assert app.ask().json["violated-policies"] == ["default"]
    assert store.get(f"default:client:{CLIENT}") == (1, 0)
