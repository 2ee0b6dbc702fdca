"""The settings and policies that run.

gunicorn reads its configuration file anew at each reload, in a module of its own; what must last lives here. Workers
find what their master has read, by fork, even if the file was edited since.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from service.app.conf.errors import SettingError
from service.app.conf.load import Loaded, load
from shm_store.policy import RunningPolicies


class _Running:
    loaded: Loaded | None = None
    policies = RunningPolicies()


def read(environ: Mapping[str, str], gunicorn_arguments: Sequence[str]) -> Loaded:
    """Return what is to run from now on, for gunicorn's master: at a reload that fails, what has run so far.

    Args:
        environ: The environment.
        gunicorn_arguments: The arguments gunicorn was started with.

    Raises:
        SettingError: Something cannot be used, and nothing runs yet.
    """
    try:
        loaded = load({}, environ, gunicorn_arguments)
    except SettingError as error:
        if _Running.loaded is None:
            raise
        log = logging.getLogger("gunicorn.error")
        log.error("service: settings and policies stay as they were: %s", error)  # noqa: TRY400 - one line says it
        return _Running.loaded
    _Running.policies.replace(loaded.policies)
    _Running.loaded = loaded
    return loaded


def running() -> tuple[Loaded, RunningPolicies]:
    """Return what runs, and its policies as an object that follows reloads.

    Raises:
        SettingError: This process has no master that has read the settings, and they cannot be used.
    """
    return _Running.loaded or read(os.environ, ()), _Running.policies
