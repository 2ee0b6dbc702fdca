"""Server hooks for gunicorn: `from shm_store.gunicorn import *` in gunicorn.conf.py.

They start the sweeper of the segment and keep it alive, and free at once what a dead worker held. For a segment that
is not named `shm-store`, and for policies in a file, call `shm_store.gunicorn.configure` there as well. A hook
that you define replaces ours: call ours from it, e.g. `shm_store.gunicorn.when_ready(server)`.

gunicorn executes its configuration file anew on a reload; what must survive that lives here, in an imported module.
"""

from __future__ import annotations

import functools
import logging
import socket
import sys
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Final, ParamSpec

from shm_store.arguments import require_instance, require_path
from shm_store.config import Config
from shm_store.errors import ConfigurationError
from shm_store.http.request_limiter import limiters
from shm_store.http.starting import starting
from shm_store.policy import from_file
from shm_store.supervisor import Supervisor

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

__all__ = ["child_exit", "on_exit", "on_reload", "post_worker_init", "pre_fork", "when_ready"]

# A thread that has just acquired a stripe waits for the GIL until every thread before it has had its turn.
_SWITCH_INTERVAL_S: Final = 0.0005

# What tells gunicorn's master that its workers cannot start.
_BOOT_ERROR: Final = 3
_UNIX: Final = (
    "shm-store: this server listens on a UNIX socket, whose clients have no address, and limits them by address: give "
    "the middleware clients=Clients(trusted=['unix']) behind a proxy that names them, or unknown='share' or 'skip'"
)

P = ParamSpec("P")


class _Master:
    """What survives a reload: gunicorn runs its hooks in one process, one after the other."""

    name = Config().name
    supervisor: Supervisor | None = None
    has_policies = False
    has_reloaded = False


def configure(config: Config, policies: str | PathLike[str] | None = None) -> None:
    """Say in gunicorn.conf.py what the hooks look after.

    Args:
        config: Names the segment; a running sweeper is not moved to another one by a reload.
        policies: A TOML file of policies, which the application has from `shm_store.policy.from_file`. The master reads
            it at the start and at each reload, for all workers. On a file that is bad gunicorn does not start; at a
            reload the policies that run stay, and the log says why.

    Raises:
        ConfigurationTypeError: `config` is no Config, or `policies` no path.
        SystemExit: At the start: the file is bad.
    """
    require_instance("config", config, Config, "give the Config that the store is opened with")
    if policies is not None:
        require_path("policies", policies)
    _Master.name = config.name
    if policies is not None:
        _read_policies(policies)


def _read_policies(path: str | PathLike[str]) -> None:
    try:
        if _Master.has_policies:
            from_file(path).reload()
        else:
            from_file(path)
    except ConfigurationError as error:
        if not _Master.has_policies:
            raise SystemExit(f"shm-store: {path}: {error}") from error
        log = logging.getLogger("gunicorn.error")
        log.error("shm-store: the policies of %s stay as they were: %s", path, error)  # noqa: TRY400 - one line
    _Master.has_policies = True


def _guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """Log what a hook raises: gunicorn's master would die of it, without its `on_exit`."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            # Serving goes on without the hook.
            logging.getLogger("gunicorn.error").exception("shm-store: %s failed", hook.__name__)

    return guarded


@_guarded
def when_ready(_server: Arbiter) -> None:
    """Start the sweeper."""
    _Master.supervisor = Supervisor(_Master.name, logging.getLogger("gunicorn.error"))
    _Master.supervisor.start()


@_guarded
def pre_fork(_server: Arbiter, _worker: Worker) -> None:
    """Look after the sweeper."""
    if _Master.supervisor is not None:
        _Master.supervisor.ensure()


@_guarded
def post_worker_init(worker: Worker) -> None:
    """Refuse to serve clients that have no address, check the routes of policies, and shorten the turns of threads.

    Shorter, so that none keeps others waiting for a stripe it holds.
    """
    _check_sockets(worker)
    _check_application(worker)
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))


def _check_sockets(worker: Worker) -> None:
    """End the worker, and with it a master that has just started, over a socket whose clients have no address.

    At a reload the log has to do: a service that runs is not ended.
    """
    if any(each.family == socket.AF_UNIX for each in worker.sockets) and any(each.needs_addresses for each in limiters):
        logging.getLogger("gunicorn.error").error(_UNIX)
        if not _Master.has_reloaded:
            raise SystemExit(_BOOT_ERROR)


def _check_application(worker: Worker) -> None:
    """Log what the complete application leaves without a limit."""
    app = worker.app.wsgi()
    for each in list(starting):
        each.at_start(app, logging.getLogger("gunicorn.error"))


@_guarded
def child_exit(_server: Arbiter, worker: Worker) -> None:
    """Free what the dead worker held, and look after the sweeper."""
    if _Master.supervisor is not None:
        _Master.supervisor.recover(worker.pid)
        _Master.supervisor.ensure()


@_guarded
def on_reload(_server: Arbiter) -> None:
    """Look after the sweeper."""
    _Master.has_reloaded = True
    if _Master.supervisor is not None:
        _Master.supervisor.ensure()


@_guarded
def on_exit(_server: Arbiter) -> None:
    """End this master's sweeper."""
    if _Master.supervisor is not None:
        _Master.supervisor.stop()
