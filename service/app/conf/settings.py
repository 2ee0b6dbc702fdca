"""Every setting of the service, with its default and what it must be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from gunicorn.util import load_class
from gunicorn.workers.base import Worker

from service.app.conf import store
from service.app.conf.bind import addresses
from service.app.conf.secrets import MASK, masked
from service.app.conf.store import DEFAULT, Place
from shm_store import Config, ConfigurationError
from shm_store.errors import named
from shm_store.falcon import Clients, Headers
from shm_store.policy import Policy

if TYPE_CHECKING:
    from shm_store.redis import RedisConfig

# Graphic characters of ASCII: what a header can carry as one word.
_TOKEN = re.compile(r"[!-~]{16,}")
_LOG_FORMATS = ("text", "json")
_DRAFT = "draft-11"
_LEGACY = "legacy"
# The setting of each field of Clients.
_CLIENTS = {
    "clients: trusted": "trusted_proxies",
    "clients: hops": "proxy_hops",
    "clients: header": "forwarded_header",
    "clients: ipv6_prefix": "ipv6_prefix",
    "clients: unknown": "unknown_clients",
}
# The setting of each field of RedisConfig that has another name.
_REDIS = {"timeout": "redis_timeout", "backoff": "redis_backoff"}
_FALLBACKS = ("none", "shm")
_HOSTS_MAX = 2**20
_UNIX_REMEDY = (
    "a UNIX socket has no client addresses: behind a proxy that names them set trusted_proxies to unix, else "
    "unknown_clients to share, error or skip, or bind HOST:PORT"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one start of the service is set to; the description of each field is its help text.

    Raises:
        ConfigurationError: A value cannot be used; its `setting` is the name of the field.
    """

    limit: Annotated[int, msgspec.Meta(description="Requests per interval and client.")] = 100
    interval: Annotated[float | str, msgspec.Meta(description="Interval of the limit: 1min, 12hours, PT1H.")] = "1min"
    ttl_interval: Annotated[float | str, msgspec.Meta(description="Time between two passes of the sweeper.")] = "30s"
    min_ttl: Annotated[float | str, msgspec.Meta(description="Idle time after which a bucket is collected.")] = "10min"
    initial_size: Annotated[int, msgspec.Meta(description="Buckets the table has room for.")] = 65_536
    label_size: Annotated[
        int, msgspec.Meta(description="Bytes of each key that are kept as text, for operators; 0 keeps none.")
    ] = 64
    store: Annotated[
        str, msgspec.Meta(description="Where the limits are kept: shm://NAME, redis://HOST or lease+redis://HOST.")
    ] = DEFAULT
    segment: Annotated[str, msgspec.Meta(description="The table of this host, beside a store on Redis.")] = "shm-store"
    hosts: Annotated[int, msgspec.Meta(description="Hosts that share the limits of a store on Redis.")] = 1
    fallback: Annotated[
        str, msgspec.Meta(description="What decides while Redis fails: none, or shm, this host by its part.")
    ] = "none"
    redis_timeout: Annotated[float | str, msgspec.Meta(description="Longest that a request waits for Redis.")] = "100ms"
    redis_backoff: Annotated[
        float | str, msgspec.Meta(description="How long a worker does not ask a Redis that failed.")
    ] = "1s"
    key_header: Annotated[
        str | None, msgspec.Meta(description="Header whose value is limited, instead of the client's address.")
    ] = None
    trusted_proxies: Annotated[
        str, msgspec.Meta(description="Proxies that are believed: networks, addresses, unix; separated by commas.")
    ] = ""
    proxy_hops: Annotated[
        int, msgspec.Meta(description="Or how many proxies stand in front, whatever their addresses.")
    ] = 0
    forwarded_header: Annotated[str, msgspec.Meta(description="Header that the proxies append to.")] = "X-Forwarded-For"
    ipv6_prefix: Annotated[int, msgspec.Meta(description="Bits of an IPv6 address that tell clients apart.")] = 64
    unknown_clients: Annotated[
        str | None,
        msgspec.Meta(description="What becomes of clients without an address: share (if not set), error, skip."),
    ] = None
    limit_headers: Annotated[
        str, msgspec.Meta(description="Fields that tell of limits: draft-11, legacy, or both; or none.")
    ] = "draft-11,legacy"
    bind: Annotated[str, msgspec.Meta(description="Address to serve on: HOST:PORT or unix:PATH.")] = "127.0.0.1:8000"
    workers: Annotated[int, msgspec.Meta(description="Worker processes.")] = 4
    worker_class: Annotated[str, msgspec.Meta(description="Gunicorn's worker class: sync, gthread, asgi.")] = "sync"
    database: Annotated[str, msgspec.Meta(description="SQLite file of the links.")] = "links.sqlite3"
    log_format: Annotated[str, msgspec.Meta(description="Lines of the log: text, or json, an object each.")] = "text"
    admin_token: Annotated[
        str | None,
        msgspec.Meta(description="Bearer token of /admin; without one there is neither that nor /dashboard."),
    ] = None

    def __post_init__(self) -> None:
        """Check every value by what will use it."""
        _ = self.store_config
        self._check_shared()
        if self.key_header is not None:
            _check_header(self.key_header)
        _ = self.headers
        clients = self.clients
        if self._listens_on_unix() and not clients.serves_unix:
            raise ConfigurationError("bind", self.bind, _UNIX_REMEDY)
        if not 1 <= self.workers <= 1024:
            raise ConfigurationError("workers", self.workers, "give an integer from 1 to 1024")
        _check_worker_class(self.worker_class)
        _check_database(self.database)
        if self.log_format not in _LOG_FORMATS:
            raise ConfigurationError("log_format", self.log_format, f"choose one of {', '.join(_LOG_FORMATS)}")
        if self.admin_token is not None and not _TOKEN.fullmatch(self.admin_token):
            remedy = "give 16 printable ASCII characters or more, without spaces"
            raise ConfigurationError("admin_token", MASK, remedy)

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, masked(name, value)) for name, value in msgspec.structs.asdict(self).items()]

    def __repr__(self) -> str:
        # Tracebacks with the values of variables show the settings, and must not reveal a secret.
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @property
    def clients(self) -> Clients:
        """Return the rule that identifies the client of a request."""
        trusted = [each.strip() for each in self.trusted_proxies.split(",") if each.strip()]
        try:
            return Clients(
                trusted=trusted,
                hops=self.proxy_hops or None,
                header=self.forwarded_header,
                ipv6_prefix=self.ipv6_prefix,
                unknown=self.unknown_clients,  # type: ignore[arg-type]  # it checks
            )
        except ConfigurationError as error:
            setting = _CLIENTS[error.setting]
            raise ConfigurationError(setting, error.value, error.remedy) from error

    @property
    def headers(self) -> Headers:
        """Return the header fields that report limits."""
        chosen = {each.strip() for each in self.limit_headers.split(",")}
        if not chosen <= {_DRAFT, _LEGACY} and chosen != {"none"}:
            raise ConfigurationError("limit_headers", self.limit_headers, f"give {_DRAFT}, {_LEGACY}, both, or none")
        return Headers(version="draft-11" if _DRAFT in chosen else None, legacy=_LEGACY in chosen)

    @property
    def place(self) -> Place:
        """Where the limits are kept."""
        return store.read(self.store)

    @property
    def store_config(self) -> Config:
        """The settings of the table, as the library takes them."""
        place = self.place
        name = self.segment if place.segment is None else place.segment
        try:
            return Config(
                limit=self.limit,
                interval=self.interval,
                ttl_interval=self.ttl_interval,
                min_ttl=self.min_ttl,
                initial_size=self.initial_size,
                label_size=self.label_size,
                name=name,
            )
        except ConfigurationError as error:
            if error.setting != "name":
                raise
            if place.segment is None:
                raise ConfigurationError("segment", self.segment, error.remedy) from error
            raise ConfigurationError("store", self.store, f"after shm://, {error.remedy}") from error

    @property
    def redis_config(self) -> RedisConfig:
        """The settings of a store on Redis, as the library takes them."""
        from shm_store.redis import RedisConfig  # noqa: PLC0415 - see service.app.conf.store

        try:
            return RedisConfig(
                limit=self.limit,
                interval=self.interval,
                min_ttl=self.min_ttl,
                timeout=self.redis_timeout,
                backoff=self.redis_backoff,
            )
        except ConfigurationError as error:
            setting = _REDIS.get(error.setting, error.setting)
            raise ConfigurationError(setting, error.value, error.remedy) from error

    def _check_shared(self) -> None:
        """Check what a store on Redis has besides."""
        if self.place.url is not None:
            _ = self.redis_config
        try:
            Config(name=self.segment)
        except ConfigurationError as error:
            raise ConfigurationError("segment", self.segment, error.remedy) from error
        if not 1 <= self.hosts <= _HOSTS_MAX:
            raise ConfigurationError("hosts", self.hosts, f"give an integer from 1 to {_HOSTS_MAX}")
        if self.fallback not in _FALLBACKS:
            raise ConfigurationError("fallback", self.fallback, f"choose one of {', '.join(_FALLBACKS)}")
        if self.place.url is not None and self.admin_token is not None:
            remedy = "leave it out: /admin shows and changes the limits of a shm:// store"
            raise ConfigurationError("admin_token", MASK, remedy)

    def _listens_on_unix(self) -> bool:
        return any(address.startswith("unix:") for address in addresses(self.bind))


def _check_header(name: str) -> None:
    try:
        Policy(name="key-header", quota="1/s", key=[f"header:{name}"])
    except ConfigurationError as error:
        remedy = "give the name of a request header, for example X-Api-Key"
        raise ConfigurationError("key_header", name, remedy) from error


def _check_worker_class(name: str) -> None:
    # At a reload gunicorn would end over one that it cannot load.
    remedy = "choose one of gunicorn's, such as sync or asgi"
    try:
        found = load_class(name)
    except (Exception, SystemExit) as error:
        # It imports whatever module the name begins with.
        raise ConfigurationError("worker_class", name, remedy) from error
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise ConfigurationError("worker_class", name, remedy)


def _check_database(path: str) -> None:
    if not path or "\0" in path or path == ":memory:" or path.startswith("file:"):
        raise ConfigurationError("database", path, "give the path of a file, which all workers can share")
    try:
        is_folder, has_folder = Path(path).is_dir(), Path(path).absolute().parent.is_dir()
    except OSError as error:
        raise ConfigurationError("database", path, f"{error.strerror}: give the path of a file") from error
    if is_folder:
        raise ConfigurationError("database", path, "this is a folder: give the path of a file")
    if not has_folder:
        raise ConfigurationError("database", path, f"make the folder {named(str(Path(path).parent))} first")
