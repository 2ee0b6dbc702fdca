"""Gives a command one flag for each setting."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, get_args

import msgspec
import typer

from service.app.conf import CONFIG, Settings, flag_name

_FIELDS = msgspec.structs.fields(Settings)
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_CONFIG_HELP = "TOML file of settings; flags and SERVICE_* variables are stronger."


def with_setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with a flag for each setting and for the TOML file.

    Args:
        command: Gets what the flags say as its first argument, a mapping from names to text or None, and after it
            the parameters of its own.
    """
    # Every flag is text here: which values are good, and how to say that one is not, is the settings' own affair.
    flags = [_flag(CONFIG, _CONFIG_HELP), *(_flag(field.name, _help(field)) for field in _FIELDS)]
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    names = [flag.name for flag in flags]

    @wraps(command)
    def run(**given: object) -> None:
        command({name: given.pop(name) for name in names}, **given)

    # Typer reads the flags off the signature.
    run.__dict__["__signature__"] = inspect.Signature([*(p.replace(kind=_KEYWORD) for p in own), *flags])
    return run


def _flag(name: str, text: str) -> inspect.Parameter:
    option = typer.Option(flag_name(name), help=text, metavar="VALUE", show_default=False)
    return inspect.Parameter(name, _KEYWORD, default=None, annotation=Annotated[str | None, option])


def _help(field: msgspec.structs.FieldInfo) -> str:
    _, meta = get_args(field.type)
    default = "" if field.default is None else f" [default: {field.default}]"
    return f"{meta.description}{default}"
