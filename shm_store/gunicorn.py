"""Server hooks for gunicorn: `from shm_store.gunicorn import *` in gunicorn.conf.py.

They start a sweeper for each segment that a worker opens and keep it alive, and free at once what a dead worker held.
With `--user`, the table belongs to that user, whichever process makes it.
For policies in a file, call `shm_store.gunicorn.configure` there as well. A hook that you define replaces ours: call
ours from it, e.g. `shm_store.gunicorn.when_ready(server)`.

gunicorn executes its configuration file anew on a reload; what must survive that lives here, in an imported module.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
from collections.abc import Callable
from os import PathLike
from types import FrameType
from typing import TYPE_CHECKING, Final, ParamSpec

from shm_store.config import Config
from shm_store.core.quoting import excerpt, named
from shm_store.core.validation import require_instance, require_path
from shm_store.errors import ConfigurationError
from shm_store.http.request_limiter import limiters
from shm_store.http.starting import starting
from shm_store.policy import from_file
from shm_store.sweeper.announcing import Announcements, Opened
from shm_store.sweeper.signals import chain
from shm_store.sweeper.supervising import Supervisor
from shm_store.table.attachment import on_open, opened
from shm_store.table.host import ownership

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

__all__ = [
    "child_exit",
    "configure",
    "nworkers_changed",
    "on_exit",
    "on_reload",
    "post_worker_init",
    "pre_fork",
    "when_ready",
]

# What tells gunicorn's master that its workers cannot start.
_BOOT_ERROR: Final = 3
_ROOT: Final = 0
_UNIX: Final = (
    "shm-store: this server listens on a UNIX socket, whose clients have no address, and limits them by address: give "
    "the middleware clients=Clients(trusted=['unix']) behind a proxy that names them, or unknown='share' or 'skip'"
)

_NOT_OPENED: Final = (
    "shm-store: configure() in gunicorn.conf.py names the segment %r, which a worker has not opened: %s; give it the "
    "Config of the application, or none: the hooks look after each segment that a worker opens"
)

P = ParamSpec("P")


class _Master:
    """What survives a reload: gunicorn runs its hooks in one process, one after the other."""

    #: Of the segment that `configure` names.
    config: Config | None = None
    supervisors: Final[dict[str, Supervisor]] = {}
    announcements: Announcements | None = None
    pid = 0
    has_warned = False
    has_policies = False
    has_reloaded = False


def configure(config: Config | None = None, policies: str | PathLike[str] | None = None) -> None:
    """Tell the hooks in gunicorn.conf.py of a segment before a worker opens it, and of policies.

    Args:
        config: Names a segment whose sweeper starts before the workers. None: the sweeper of each segment starts when
            the first worker opens it.
        policies: A TOML file of policies, which the application has from `shm_store.policy.from_file`. The master reads
            it at the start and at each reload, for all workers. On a file that is bad gunicorn does not start; at a
            reload the policies that run stay, and the log says why.

    Raises:
        ConfigurationTypeError: `config` is no Config and not None, or `policies` is no path.
        SystemExit: At the start: the file is bad.
    """
    if config is not None:
        require_instance("config", config, Config, "give the Config that the store is opened with")
    if policies is not None:
        require_path("policies", policies)
    _Master.config = config
    if policies is not None:
        _read_policies(policies)


def _read_policies(path: str | PathLike[str]) -> None:
    try:
        if _Master.has_policies:
            from_file(path).reload()
        else:
            from_file(path)
    except Exception as error:
        if not _Master.has_policies:
            if isinstance(error, ConfigurationError):
                raise SystemExit(f"shm-store: {named(str(path))}: {error}") from error
            raise
        # The master ends with anything that its configuration file raises.
        words = str(error) if isinstance(error, ConfigurationError) else excerpt(repr(error))
        log = logging.getLogger("gunicorn.error")
        log.error("shm-store: the policies of %s stay as they were: %s", named(str(path)), words)  # noqa: TRY400
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
def nworkers_changed(server: Arbiter, _new: int, _old: int | None) -> None:
    """Have tables belong to the user of the workers; the first call comes before gunicorn loads the application."""
    if os.geteuid() == _ROOT:
        ownership.assume(server.cfg.uid or None)


@_guarded
def when_ready(_server: Arbiter) -> None:
    """Start a sweeper for each segment of the configuration and of a loaded application; the others follow."""
    _Master.pid, _Master.announcements = os.getpid(), Announcements()
    chain(signal.SIGCHLD, _on_signal)
    # An application that was loaded before the workers are forked has opened its segments here.
    owners: dict[str, str | int | None] = {segment.name: segment.owner for segment in opened()}
    if _Master.config is not None:
        owners[_Master.config.name] = _Master.config.owner
    for name, owner in owners.items():
        _look_after(name, owner)


def _look_after(name: str, owner: str | int | None = None) -> None:
    if name not in _Master.supervisors:
        _Master.supervisors[name] = Supervisor(name, logging.getLogger("gunicorn.error"), owner)
        _Master.supervisors[name].start()


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    _hear()


@_guarded
def _hear() -> None:
    """Look after the segments that workers have opened."""
    # A forked child inherits the handler.
    if _Master.announcements is None or os.getpid() != _Master.pid:
        return
    for segments in _Master.announcements.heard():
        for name, identity in segments:
            _look_after(name)
            _Master.supervisors[name].compare(identity)
        names = {segment.name for segment in segments}
        config = _Master.config
        if config is not None and config.name not in names and not _Master.has_warned:
            _Master.has_warned = True
            there = f"it has opened {', '.join(sorted(names))}" if names else "it has opened none so far"
            logging.getLogger("gunicorn.error").warning(_NOT_OPENED, config.name, there)


@_guarded
def pre_fork(_server: Arbiter, _worker: Worker) -> None:
    """Look after the sweepers."""
    _ensure()


def _ensure() -> None:
    for supervisor in list(_Master.supervisors.values()):
        supervisor.ensure()


@_guarded
def post_worker_init(worker: Worker) -> None:
    """Refuse to serve clients that have no address, check the routes of policies, and announce opened segments."""
    _check_sockets(worker)
    _check_application(worker)
    _announce()


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


def _announce() -> None:
    """Tell the master of all segments that this worker has opened, and of each that it opens later."""
    announcements = _Master.announcements
    if announcements is not None:
        told = _opened()

        def hear(_name: str) -> None:
            # Each once: a program may open a store for each request.
            if not (segments := _opened()) <= told:
                told.update(segments)
                # All of them each time: the master compares them with the one that `configure` names.
                announcements.tell(segments)

        on_open[:] = [hear]
        announcements.tell(told)


def _opened() -> set[Opened]:
    return {Opened(segment.name, segment.identity) for segment in opened()}


@_guarded
def child_exit(_server: Arbiter, worker: Worker) -> None:
    """Free what the dead worker held, and look after the sweepers."""
    for supervisor in list(_Master.supervisors.values()):
        supervisor.recover(worker.pid)
        supervisor.ensure()


@_guarded
def on_reload(_server: Arbiter) -> None:
    """Look after the sweepers."""
    _Master.has_reloaded, _Master.has_warned = True, False
    _ensure()


@_guarded
def on_exit(_server: Arbiter) -> None:
    """End this master's sweepers."""
    for supervisor in list(_Master.supervisors.values()):
        supervisor.stop()
