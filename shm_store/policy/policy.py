"""Policy: a quota or a concurrency limit, the requests it covers, and whose bucket they are charged to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from shm_store.core.validation import require_collection, require_instance
from shm_store.errors import ConfigurationError, unusable
from shm_store.policy import key_specification, paths
from shm_store.policy.key_specification import KeySpecification, Source
from shm_store.quota import LIMIT_MAX, Concurrency, Quota, quota_of, require_choice, require_integer

Mode: TypeAlias = Literal["enforce", "shadow"]
OnError: TypeAlias = Literal["allow", "deny"]
Absent: TypeAlias = Literal["share", "skip"]

# It begins keys, where a colon ends it, and stands in header fields.
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHOD: Final = re.compile(r"[A-Z]+(-[A-Z]+)*")
_STATUS: Final = re.compile(r"[1-5]xx")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit, for some of the requests or for all.

    It has a `quota` or a `concurrency` limit, exactly one. Lists may be any collection, and are tuples once
    constructed; so is a quota that was given as text a `Quota`.

    Attributes:
        name: 1 to 64 letters, digits, `.`, `_` and `-`. Buckets are found by it: one that is changed and keeps its name
            keeps what is spent.
        quota: `"20/second"`, or a Quota.
        algorithm: How the quota is counted, if it was given as text: one of `shm_store.core.algorithms.ALGORITHMS`.
        burst: Most units at once, if the quota was given as text and its algorithm has a burst.
        concurrency: Most units in flight at once.
        key: Whose bucket a request is charged to, as a list of sources. The first of `"client"`, `"header:NAME"` and
            callables that is present names the owner. `"route"` and `"method"` give each owner a bucket for each route
            or method. `"global"` is one bucket for all requests.
        absent: The rule for requests without any source of the key. `"share"` charges them all to one bucket, so that
            a client does not escape by leaving a header out. With `"skip"` the policy does not apply.
        cost: Units each request takes.
        methods: The methods it covers, in capitals; all if empty. GET does not include HEAD.
        routes: The routes it covers, as they were given to `add_route`; all if empty. For Falcon only.
        paths: The paths it covers, whether or not they are routes; one that ends with `*` stands for all that begin so.
            All if empty. They cover every spelling of a path that a server or router takes for it: see
            `shm_store.policy.paths`.
        exempt: Paths it does not cover, written like `paths`. A request has to write them as they stand here.
        ignore_case: Whether `paths` cover a path whatever its letters' case. `exempt` goes by case always.
        mode: `"enforce"`, or `"shadow"`: decided and counted, but no request is denied.
        on_error: `"allow"` lets requests through while the store fails, `"deny"` answers 503.
        refund: Statuses of answers to requests that are not to count: integers, or `"2xx"`. The units are taken before
            the request is handled and given back after. An empty list leaves that to the handler: see
            `reservation` of the Outcome. None: every request counts.

    Raises:
        ConfigurationError: A value cannot be used; it says of which policy and field.

    >>> Policy(name="burst", quota="20/second", routes=["/r/{code}"]).limit
    Quota(limit=20, interval=1.0, burst=None, algorithm='token-bucket')
    """

    name: str
    quota: str | Quota | None = None
    algorithm: str | None = None
    burst: int | None = None
    concurrency: int | None = None
    key: Sequence[Source] = (key_specification.CLIENT,)
    absent: Absent = "share"
    cost: int = 1
    methods: Collection[str] = ()
    routes: Collection[str] = ()
    paths: Collection[str] = ()
    exempt: Collection[str] = ()
    ignore_case: bool = False
    mode: Mode = "enforce"
    on_error: OnError = "allow"
    refund: Collection[int | str] | None = None

    def __post_init__(self) -> None:
        """Check every field, and store it in one form so that equal policies compare equal."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise unusable("policy: name", self.name, "use 1 to 64 letters, digits, '.', '_' and '-'", str)
        try:
            self._check_limit()
            _ = self.key_specification
            self._store("key", tuple(self.key))
            self._check_coverage()
            require_choice("absent", self.absent, get_args(Absent))
            require_choice("mode", self.mode, get_args(Mode))
            require_choice("on_error", self.on_error, get_args(OnError))
            self._check_refund()
        except ConfigurationError as error:
            raise error.of(f"policy {self.name!r}: {error.setting}") from error

    @property
    def limit(self) -> Quota | Concurrency:
        """The quota or the concurrency limit, as a store takes it."""
        if self.concurrency is not None:
            return Concurrency(self.concurrency)
        assert isinstance(self.quota, Quota)
        return self.quota

    @property
    def key_specification(self) -> KeySpecification:
        """The key as a specification."""
        return key_specification.read(self.key)

    @property
    def needs_route(self) -> bool:
        """Whether nothing but the route tells if and how it applies."""
        return bool(self.routes) or self.key_specification.route

    @property
    def refunded(self) -> frozenset[int]:
        """Every status of `refund`."""
        return frozenset(status for each in self.refund or () for status in _statuses(each))

    def _store(self, field: str, value: object) -> None:
        msgspec.structs.force_setattr(self, field, value)

    def _check_limit(self) -> None:
        if (self.quota is None) == (self.concurrency is None):
            raise ConfigurationError("quota", self.quota, "give either a quota or concurrency")
        if self.concurrency is None:
            self._check_quota()
            return
        require_integer("concurrency", self.concurrency, 1, LIMIT_MAX)
        require_integer("cost", self.cost, 1, self.concurrency)
        for field in ("algorithm", "burst", "refund"):
            if (value := getattr(self, field)) is not None:
                raise ConfigurationError(field, value, "leave it out: what is in flight ends by itself")

    def _check_quota(self) -> None:
        assert self.quota is not None
        quota = quota_of(self.quota, self.algorithm, self.burst)
        self._store("quota", quota)
        self._store("algorithm", None)
        self._store("burst", None)
        require_integer("cost", self.cost, 1, quota.most)

    def _check_coverage(self) -> None:
        for field, is_good, remedy in (
            ("methods", is_method, "methods in capitals, for example ['GET', 'HEAD']"),
            ("routes", _is_route, "routes as in add_route, for example ['/v1/links/{code}'], or else paths"),
        ):
            values = _tuple(field, getattr(self, field), remedy)
            for value in values:
                if not is_good(value):
                    raise unusable(field, value, f"give {remedy}", str)
            self._store(field, values)
        for field, read in (("paths", paths.covered), ("exempt", paths.exempt)):
            self._store(field, _tuple(field, getattr(self, field), paths.REMEDY))
            read(field, getattr(self, field))
        require_instance("ignore_case", self.ignore_case, bool, "give true or false")
        if self.ignore_case and not self.paths:
            raise ConfigurationError("ignore_case", True, "give paths, or leave it out: it is about paths")

    def _check_refund(self) -> None:
        if self.refund is None:
            return
        statuses = _tuple("refund", self.refund, "statuses, for example [404, '5xx']")
        for status in statuses:
            if not _is_status(status):
                raise unusable("refund", status, "give statuses, for example [404, '5xx']", int, str)
        self._store("refund", statuses)


def _tuple(field: str, value: Iterable[object], remedy: str) -> tuple[object, ...]:
    return tuple(require_collection(field, value, f"give a list of {remedy}"))


def is_method(value: object) -> bool:
    """Return whether a value is the name of a method in capitals."""
    return isinstance(value, str) and _METHOD.fullmatch(value) is not None


def _is_route(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and "*" not in value


def _is_status(value: object) -> bool:
    if isinstance(value, str):
        return _STATUS.fullmatch(value) is not None
    return type(value) is int and 100 <= value <= 599


def _statuses(status: int | str) -> range:
    if isinstance(status, str):
        first = int(status[0]) * 100
        return range(first, first + 100)
    return range(status, status + 1)
