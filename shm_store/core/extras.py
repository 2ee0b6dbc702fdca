"""Extras: packages that a part of this project needs and the library does without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class MissingExtraError(ModuleNotFoundError):
    """A package that an extra brings is missing, or too old; the text names the command that installs it.

    Attributes:
        extra: The extra, as in `pip install '.[falcon]'`.
        name: The package.
    """

    def __init__(self, part: str, package: str, extra: str, *, is_old: bool = False) -> None:
        super().__init__(
            f"{part} needs {package}, which is {'too old' if is_old else 'not installed'}: "
            f"run pip install '.[{extra}]' in a checkout of shm-store",
            name=package,
        )
        self.extra = extra


@contextmanager
def needed(part: str, *packages: str, extra: str) -> Iterator[None]:
    """Guard the imports in its body: an error about one of `packages` names `part`, which needs them, and the extra.

    Raises:
        MissingExtraError: One of the packages is missing, or lacks a name that is imported.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in packages:
            raise
        raise MissingExtraError(part, package, extra, is_old=find_spec(package) is not None) from error
