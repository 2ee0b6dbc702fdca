"""The places a setting can come from, each read into what it says by name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gunicorn.config import Config as GunicornConfig

import service
from service.app.conf.errors import SettingError
from service.app.conf.secrets import MASK, may_be_secret
from shm_store import ConfigurationError
from shm_store.errors import named
from shm_store.policy import read_toml

_PREFIX = "SERVICE_"
_ARGUMENTS = "GUNICORN_CMD_ARGS"
CONFIG = "config"
_POLICIES = "policy"
#: Beside gunicorn.conf.py.
DEFAULT_FILE = Path(service.__file__).parents[1] / "service.toml"
_SHARED_WITH_GUNICORN = ("bind", "workers", "worker_class")


class Given(NamedTuple):
    """A value that an operator gave.

    Attributes:
        value: As it was written: text, or in a file any TOML value.
        source: Where, in words.
    """

    value: object
    source: str


def flag_name(setting: str) -> str:
    """Return the flag of a setting.

    >>> flag_name("min_ttl")
    '--min-ttl'
    """
    return "--" + setting.replace("_", "-")


def variable_name(setting: str) -> str:
    """Return the environment variable of a setting.

    >>> variable_name("min_ttl")
    'SERVICE_MIN_TTL'
    """
    return _PREFIX + setting.upper()


def from_flags(flags: Mapping[str, str | None]) -> dict[str, Given]:
    """Return what the flags say; None is a flag that was not given."""
    return {name: Given(value, f"flag {flag_name(name)}") for name, value in flags.items() if value is not None}


def from_environment(environ: Mapping[str, str], known: Collection[str]) -> dict[str, Given]:
    """Return what the variables named `SERVICE_*` say.

    Raises:
        SettingError: One of them is no setting.
    """
    given = {}
    for variable, value in sorted(environ.items()):
        if variable.startswith(_PREFIX):
            name = variable.removeprefix(_PREFIX).lower()
            given[name] = Given(value, f"environment {named(variable)}")
            if name not in known or variable != variable_name(name):
                raise _unknown(variable, given[name], [variable_name(each) for each in known])
    return given


def from_file(given: Given, known: Collection[str]) -> tuple[dict[str, Given], Given | None]:
    """Return what the TOML file that `given` names says about settings, and its policies.

    Raises:
        SettingError: The file cannot be read, is no TOML, or has a key that is no setting.
    """
    path = str(given.value)
    try:
        table = read_toml(path)
    except ConfigurationError as error:
        raise SettingError(CONFIG, path, given.source, error.remedy) from error
    values = {name: Given(value, f"file {named(path)}") for name, value in table.items()}
    policies = values.pop(_POLICIES, None)
    for name, value in values.items():
        if name not in known:
            raise _unknown(name, value, [*known, _POLICIES])
    return values, policies


def from_gunicorn(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, Given]:
    """Return what gunicorn's own arguments, and below them `GUNICORN_CMD_ARGS`, say about the settings it shares.

    Gunicorn lets them override its configuration file, so they have the last word; reading them here is what tells the
    service the worker class it will really run in.

    Raises:
        SettingError: A quotation in the environment has no end.
        SystemExit: Gunicorn does not accept them, and has printed the reason.
    """
    # Gunicorn's own reading of both, so that every spelling it accepts means here what it means there.
    gunicorn = GunicornConfig(prog="gunicorn")
    gunicorn.env_orig = dict(environ)
    given = {}
    for words, source in ((_words(gunicorn), f"environment {_ARGUMENTS}"), (arguments, "gunicorn's command line")):
        parsed = gunicorn.parser().parse_args(list(words))
        for name in _SHARED_WITH_GUNICORN:
            value = getattr(parsed, name)
            if value is not None:
                given[name] = Given(",".join(value) if isinstance(value, list) else str(value), source)
    return given


def _words(gunicorn: GunicornConfig) -> list[str]:
    try:
        words: list[str] = gunicorn.get_cmd_args_from_env()
    except ValueError as error:
        value = gunicorn.env_orig[_ARGUMENTS]
        raise SettingError(_ARGUMENTS, value, "environment", f"{error}; quote it as for a shell") from error
    return words


def _unknown(name: str, given: Given, known: Collection[str]) -> SettingError:
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(sorted(known))}"
    # The name may be a secret's, misspelt.
    value = MASK if may_be_secret(name) else given.value
    return SettingError(name, value, given.source, f"there is no such setting; {remedy}")
