"""Keeps a sweeper process alive, for worker processes without a master that has hooks."""

from __future__ import annotations

import logging
import os
from typing import Final

from shm_store.config import Config
from shm_store.core.validation import require_instance
from shm_store.sweeper import uwsgi
from shm_store.sweeper.supervising import Supervisor

__all__ = ["supervise"]

# Which process looks after which segment.
_supervised: Final[dict[tuple[int, str], Supervisor]] = {}


def supervise(config: Config | None = None) -> None:
    """Have this process look after the segment's sweeper, for a server that has no hooks such as gunicorn's.

    Each worker process calls it once, where it opens its store: `supervise(config)`. It starts a sweeper if the segment
    has none. From then on a thread looks every second whether the segment has one, and starts the next one if not. All
    processes that have called it have one sweeper between them. The sweeper ends with the process that has started it,
    however that ends, and another process starts the next one; with the last of them nothing is left.

    The sweeper frees within a second what dead processes held. Until then, and while there is none, a process that
    waits for a stripe of a dead process frees it itself: limits are exact at any time.

    The sweeper is a Python process. A process that finds no interpreter to start, such as a frozen application, logs a
    warning and sweeps in a thread of its own.

    It handles no signal, so any thread may call it, and the server's handlers stay as they are. Once is enough: further
    calls do nothing. The thread belongs to this process, and not to its children. If a server imports the application
    before it forks, the importing process looks after the sweeper. Under uWSGI, its workers do.

    Args:
        config: The Config of the store, of which only the name and the owner matter; the default one if None.

    Raises:
        ConfigurationError: `config` is no Config.
    """
    config = Config() if config is None else config
    require_instance("config", config, Config, "give the Config that the store is opened with")
    supervisor = Supervisor(config.name, logging.getLogger("shm_store"), config.owner)
    # In one step: threads may call it at once. Of a child that was forked, its parent's threads are none.
    if _supervised.setdefault((os.getpid(), config.name), supervisor) is not supervisor:
        return
    if uwsgi.is_before_fork():
        # A worker that is forked while another thread of its parent has the GIL waits for it for ever.
        supervisor.look()
        uwsgi.after_fork(lambda: supervise(config))
    else:
        supervisor.watch()
