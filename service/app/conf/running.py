"""The settings and policies that run.

gunicorn reads its configuration file anew at each reload, in a module of its own; what must last lives here. Workers
find what their master has read, by fork, even if the file was edited since.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence

from service.app.conf.errors import SettingError
from service.app.conf.load import Loaded, load
from service.app.conf.settings import Settings
from shm_store import StoreError
from shm_store.errors import excerpt
from shm_store.policy import RunningPolicies


class _Running:
    loaded: Loaded | None = None
    policies = RunningPolicies()


def _accept(_settings: Settings, _running: Settings) -> None:
    """Accept settings at a reload."""


def read(
    environ: Mapping[str, str],
    gunicorn_arguments: Sequence[str],
    check_reload: Callable[[Settings, Settings], None] = _accept,
) -> Loaded:
    """Return what is to run from now on, for gunicorn's master: at a reload that fails, what has run so far.

    Args:
        environ: The environment.
        gunicorn_arguments: The arguments gunicorn was started with.
        check_reload: Raises an error about settings that workers cannot start with; called with them at a reload,
            and with those that run.

    Raises:
        SettingError: Something cannot be used, and nothing runs yet.
    """
    running = _Running.loaded
    try:
        loaded = load({}, environ, gunicorn_arguments)
        if running is not None:
            check_reload(loaded.settings, running.settings)
    except Exception as error:
        # The master ends with anything that its configuration file raises.
        if running is None:
            raise
        words = str(error) if isinstance(error, SettingError | StoreError) else excerpt(repr(error))
        log = logging.getLogger("gunicorn.error")
        log.error("service: settings and policies stay as they were: %s", words)  # noqa: TRY400 - one line says it
        return running
    _Running.policies.replace(loaded.policies)
    _Running.loaded = loaded
    return loaded


def running() -> tuple[Loaded, RunningPolicies]:
    """Return what runs, and its policies as an object that follows reloads.

    Raises:
        SettingError: This process has no master that has read the settings, and they cannot be used.
    """
    return _Running.loaded or read(os.environ, ()), _Running.policies
