"""gunicorn on a free loopback port, with one application and one limiter, for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from shm_store import Config, ShmStore
from tests.bench.servers_app import AMPLE, CONF, HOOKS
from tests.e2e.service import Service

Limiter: TypeAlias = Literal["bare", "ours", "three", "redis"]


class Workers(msgspec.Struct, frozen=True):
    """The worker processes of one kind of server.

    Attributes:
        kind: gunicorn's worker class.
        number: How many.
        arguments: Further arguments for gunicorn.
    """

    kind: str
    number: int
    arguments: tuple[str, ...] = ()

    @property
    def app(self) -> str:
        """The application, as gunicorn is told of it."""
        return f"tests.bench.servers_app:{'asgi' if self.kind == 'asgi' else 'wsgi'}()"


SYNC: Final = Workers("sync", 4)
GTHREAD: Final = Workers("gthread", 2, ("--threads", "4"))
ASGI: Final = Workers("asgi", 2)


@contextmanager
def gunicorn(
    directory: Path, segment: str, workers: Workers, limiter: Limiter, *, limit: int = AMPLE, redis: str = ""
) -> Iterator[Service]:
    """Start it, and yield it when all its workers serve; stop it afterwards.

    Args:
        directory: For its configuration and its log; one may serve many.
        segment: The name of its segment, which exists if it needs one.
        workers: Its workers.
        limiter: What limits its application.
        limit: The limit per hour, of ours.
        redis: The URL of the server that `redis` counts on.
    """
    conf = directory / f"{segment}.conf.py"
    conf.write_text(CONF + HOOKS if limiter in ("ours", "three") else CONF)
    settings = {
        "SERVICE_WORKERS": str(workers.number),
        "SERVICE_LIMIT": str(limit),
        "BENCH_LIMITER": limiter,
        "BENCH_REDIS": redis,
    }
    arguments = ("-c", str(conf), "-k", workers.kind, *workers.arguments, workers.app)
    with closing(Service(directory, segment, settings, arguments, ("gunicorn",))) as service:
        service.start()
        service.await_workers()
        yield service
        service.stop()


@contextmanager
def table(name: str, limit: int = AMPLE) -> Iterator[ShmStore]:
    """Make the segment that a server attaches to, and drop it afterwards."""
    with ShmStore.open(Config(name=name, limit=limit, interval="1h")) as store:
        try:
            yield store
        finally:
            store.unlink()
