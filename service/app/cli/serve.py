"""Becomes gunicorn, with the service's configuration file."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import service
from service.app.conf import CONFIG, variable_name

GUNICORN_CONF = Path(service.__file__).parents[1] / "gunicorn.conf.py"


def exec_gunicorn(flags: Mapping[str, str | None], arguments: Sequence[str]) -> NoReturn:
    """Replace this process by gunicorn, which reads the same settings again from the environment.

    Args:
        flags: Text by the name of the setting; they become `SERVICE_*` variables, over those that are there.
        arguments: Gunicorn's own arguments.
    """
    environ = dict(os.environ)
    environ.update({variable_name(name): value for name, value in flags.items() if value is not None})
    config = environ.get(variable_name(CONFIG))
    if config is not None:
        # Gunicorn may change the folder before it reads the file, or reads it again.
        environ[variable_name(CONFIG)] = str(Path(config).absolute())
    # The script and not `-m gunicorn`: on SIGUSR2 gunicorn runs its first argument again, and as a script its
    # __main__.py would find gunicorn's own `http` package instead of Python's.
    script = Path(sysconfig.get_path("scripts")) / "gunicorn"
    command = [sys.executable, str(script), "--config", str(GUNICORN_CONF), *arguments]
    sys.stdout.flush()
    os.execve(sys.executable, command, environ)  # noqa: S606 - the interpreter itself, and no shell
