"""Puts the settings together from their sources, and remembers which source each one came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from service.app.conf.errors import SettingError
from service.app.conf.policies import default_policy, file_policies
from service.app.conf.settings import Settings
from service.app.conf.sources import (
    CONFIG,
    DEFAULT_FILE,
    Given,
    from_environment,
    from_file,
    from_flags,
    from_gunicorn,
)
from shm_store import ConfigurationError
from shm_store.policy import Policy

_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


class Loaded(NamedTuple):
    """The settings of one start.

    Attributes:
        settings: The settings.
        sources: Where each came from, in words, by the name of the setting.
        policies: The policies: first the one of the settings, then those of the file.
        file: The file, or None if there is none.
    """

    settings: Settings
    sources: Mapping[str, str]
    policies: tuple[Policy, ...]
    file: str | None


def load(flags: Mapping[str, str | None], environ: Mapping[str, str], gunicorn_arguments: Sequence[str] = ()) -> Loaded:
    """Return the settings from, strongest first: flags, environment, TOML file, defaults.

    What gunicorn is told directly, by its own arguments or by `GUNICORN_CMD_ARGS`, is stronger than all of them.

    Args:
        flags: Text by the name of the setting, None for a flag that was not given; `config` names the TOML file, which
            is `service.toml` beside gunicorn.conf.py, if there is one, where nothing names it.
        environ: The environment; every variable that begins with `SERVICE_` must be a setting.
        gunicorn_arguments: The arguments gunicorn is or will be started with.

    Raises:
        SettingError: A setting or a policy is unknown or has a value that cannot be used.
    """
    given = from_environment(environ, {*_FIELDS, CONFIG}) | from_flags(flags)
    config = given.pop(CONFIG, None)
    if config is None and DEFAULT_FILE.is_file():
        config = Given(str(DEFAULT_FILE), "default")
    tables = None
    if config is not None:
        from_config, tables = from_file(config, _FIELDS)
        given = from_config | given
    given |= from_gunicorn(gunicorn_arguments, environ)
    values: dict[str, Any] = {name: _convert(name, value) for name, value in given.items()}
    try:
        settings = Settings(**values)
    except ConfigurationError as error:
        culprit = given.get(error.setting, Given(error.value, "default"))
        raise SettingError(error.setting, culprit.value, culprit.source, error.remedy) from error
    return Loaded(
        settings,
        {name: given[name].source if name in given else "default" for name in _FIELDS},
        (default_policy(settings), *file_policies(tables, settings)),
        None if config is None else str(config.value),
    )


def _convert(name: str, given: Given) -> int | float | str | None:
    field = _FIELDS[name]
    integer = isinstance(field.default, int)
    try:
        # Only a number may come as text that stands for something else; msgspec would also make None of "null".
        converted: int | float | str | None = msgspec.convert(given.value, field.type, strict=not integer)
    except (msgspec.ValidationError, UnicodeError) as error:
        # A variable may have bytes that are no UTF-8.
        raise SettingError(name, given.value, given.source, f"give {'an integer' if integer else 'text'}") from error
    return converted
